"""Learning-rate schedules, as functions of the number of updates so far.

Below, `s` is the share of the training that is done, in [0, 1). Keras'
`CosineDecay`, `PolynomialDecay` and `PiecewiseConstantDecay` are used where
they compute the formula.
"""

import math

import keras
from keras import ops

from fastbat_tf.training.options import SCHEDULES

LearningRateSchedule = keras.optimizers.schedules.LearningRateSchedule


@keras.saving.register_keras_serializable("fastbat_tf")
class PiecewiseLinear(LearningRateSchedule):
    """A schedule that is linear between given points and constant outside them.

    Args:
        steps: Increasing floats, the steps of the points.
        rates: Floats, the learning rates at the points.

    Example:

    >>> schedule = PiecewiseLinear((0, 2, 4), (0.0, 0.2, 0.0))
    >>> [round(float(schedule(step)), 3) for step in range(6)]
    [0.0, 0.1, 0.2, 0.1, 0.0, 0.0]
    """

    def __init__(self, steps, rates):
        self.steps = tuple(steps)
        self.rates = tuple(rates)

    def __call__(self, step):
        step = ops.cast(step, "float32")
        rate = self.rates[0]
        for left, right, low, high in zip(
            self.steps, self.steps[1:], self.rates, self.rates[1:], strict=False
        ):
            share = ops.clip((step - left) / (right - left), 0.0, 1.0)
            rate += (high - low) * share
        return rate

    def get_config(self):
        return {"steps": self.steps, "rates": self.rates}


@keras.saving.register_keras_serializable("fastbat_tf")
class OneCycle(LearningRateSchedule):
    """A schedule that rises for 30 % of the steps, then falls to almost zero.

    ```
    peak / 25 -> peak           from step 0 to step 0.3 * steps - 1
    peak -> peak / 250,000      from there to step steps - 1
    a -> b:   b + (a - b) * (1 + cos(pi * t)) / 2,    t the share of the phase
    ```

    This is PyTorch's `OneCycleLR` with its default arguments, except that the
    momentum is constant: `OneCycleLR` lowers it from 0.95 to 0.85 and raises it
    again.

    Reference: Smith & Topin, "Super-Convergence: Very Fast Training of Neural
    Networks Using Large Learning Rates", 2019 (arXiv 1708.07120).

    Args:
        peak: Float, the highest learning rate.
        steps: Integer, the steps of the whole training.
    """

    def __init__(self, peak, steps):
        self.peak = peak
        self.steps = steps

    def __call__(self, step):
        step = ops.cast(step, "float32")
        top, last = 0.3 * self.steps - 1, self.steps - 1
        first_rate = self.peak / 25
        up = _cosine(first_rate, self.peak, step / top)
        down = _cosine(self.peak, first_rate / 1e4, (step - top) / (last - top))
        return ops.where(step <= top, up, down)

    def get_config(self):
        return {"peak": self.peak, "steps": self.steps}


def _cosine(start, end, share):
    share = ops.clip(share, 0.0, 1.0)
    # (1 + cos(pi * share)) / 2, without its cancellation at the end.
    return end + (start - end) * ops.square(ops.cos(math.pi / 2 * share))


@keras.saving.register_keras_serializable("fastbat_tf")
class WarmUp(LearningRateSchedule):
    """A linear warm-up to a peak, followed by another schedule.

    ```
    rate(step) = peak * (step + 1) / steps      for step < steps
    ```

    Reference: Goyal et al., "Accurate, Large Minibatch SGD: Training ImageNet
    in 1 Hour", 2017 (arXiv 1706.02677).

    Args:
        peak: Float, the learning rate at the end of the warm-up.
        steps: Integer of at least 1, the steps of the warm-up.
        schedule: The `LearningRateSchedule` that follows, from its step 0.
    """

    def __init__(self, peak, steps, schedule):
        self.peak = peak
        self.steps = steps
        self.schedule = schedule

    def __call__(self, step):
        step = ops.cast(step, "float32")
        later = self.schedule(ops.maximum(step - self.steps, 0.0))
        up = self.peak * (step + 1.0) / self.steps
        return ops.where(step < self.steps, up, later)

    def get_config(self):
        return {
            "peak": self.peak,
            "steps": self.steps,
            "schedule": keras.saving.serialize_keras_object(self.schedule),
        }

    @classmethod
    def from_config(cls, config):
        return cls(**keras.saving.deserialize_keras_object(config))


@keras.saving.register_keras_serializable("fastbat_tf")
class PerEpoch(LearningRateSchedule):
    """A schedule that changes the learning rate once per epoch.

    Args:
        schedule: A `LearningRateSchedule` of the epoch, counted from 0.
        steps: Integer, the steps of an epoch.
    """

    def __init__(self, schedule, steps):
        self.schedule = schedule
        self.steps = steps

    def __call__(self, step):
        return self.schedule(step // self.steps)

    def get_config(self):
        return {
            "schedule": keras.saving.serialize_keras_object(self.schedule),
            "steps": self.steps,
        }

    @classmethod
    def from_config(cls, config):
        return cls(**keras.saving.deserialize_keras_object(config))


def cyclic(peak, steps):
    """Rises linearly from 0 to the peak at s = 1/2, then falls back to 0.

    Reference: Wong, Rice & Kolter, ICLR 2020 (arXiv 2001.03994).
    """
    return PiecewiseLinear((0, steps / 2, steps), (0.0, peak, 0.0))


def piecewise(peak, steps):
    """Connects 0, peak, peak / 20 and 0, at s = 0, 2/5, 4/5 and 1, linearly.

    The peak is at 2/5, as in Rice et al., ICML 2020 (arXiv 2002.11569), and a
    long tail of small rates follows.
    """
    return PiecewiseLinear(
        (0, steps * 2 / 5, steps * 4 / 5, steps), (0.0, peak, peak / 20, 0.0)
    )


def multistep(peak, steps, milestones, decay):
    """Returns `peak * decay**(number of milestones up to s)`."""
    # Keras changes the rate after a boundary, but here the milestone is the
    # first step with the new rate. `round` undoes the product's rounding.
    boundaries = [math.ceil(round(m * steps, 6)) - 1 for m in milestones]
    rates = [peak * decay**n for n in range(len(milestones) + 1)]
    return keras.optimizers.schedules.PiecewiseConstantDecay(boundaries, rates)


def cosine(peak, steps):
    """Returns `peak * (1 + cos(pi s)) / 2` (Loshchilov & Hutter, ICLR 2017)."""
    return keras.optimizers.schedules.CosineDecay(peak, steps)


def quadratic(peak, steps):
    """Returns `peak * (1 - s)**2`."""
    return keras.optimizers.schedules.PolynomialDecay(peak, steps, 0.0, 2.0)


def constant(peak, steps):
    """Returns the peak at all steps."""
    return PiecewiseLinear((0, steps), (peak, peak))


_SHAPES = {
    "cyclic": cyclic,
    "piecewise": piecewise,
    "onecycle": OneCycle,
    "multistep": multistep,
    "cosine": cosine,
    "quadratic": quadratic,
    "constant": constant,
}


def get(name, peak, epochs, steps_per_epoch, **options):
    """Builds the learning-rate schedule of a training.

    Args:
        name: A key of `fastbat_tf.training.options.SCHEDULES`.
        peak: Float, the highest learning rate.
        epochs: Integer, the epochs of the training.
        steps_per_epoch: Integer, the updates of an epoch: its batches times
            the replays of the method.
        **options: The options of the schedule in that table, which has their
            defaults: `schedule_unit`, `warmup_epochs`, `milestones` and
            `decay`. The schedule covers the epochs after the warm-up, but
            milestones are shares of all epochs.

    Returns:
        A `LearningRateSchedule`.

    Example:

    >>> schedule = get("multistep", 0.1, epochs=200, steps_per_epoch=390)
    >>> round(float(schedule(100 * 390)), 3)
    0.01
    """
    options = {**SCHEDULES[name], **options}
    per_epoch = options.pop("schedule_unit", "batch") == "epoch"
    unit = 1 if per_epoch else steps_per_epoch
    warmup = options.pop("warmup_epochs", 0) * unit
    steps = epochs * unit - warmup
    if "milestones" in options:
        options["milestones"] = [
            (share * epochs * unit - warmup) / steps
            for share in options["milestones"]
        ]
    schedule = _SHAPES[name](peak, steps, **options)
    if warmup:
        schedule = WarmUp(peak, warmup, schedule)
    return PerEpoch(schedule, steps_per_epoch) if per_epoch else schedule
