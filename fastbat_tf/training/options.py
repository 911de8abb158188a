"""The settings of the training: their defaults and checks, no TensorFlow.

Each table below has the options of a choice with their defaults. An option of
another choice is refused.
"""

import dataclasses

from fastbat_tf.errors import (
    InputError,
    at_least,
    one_of,
    refuse_inapplicable,
)

_ADAM = {"beta_1": 0.9, "beta_2": 0.999}
OPTIMIZERS = {
    "sgd": {"momentum": 0.9, "nesterov": False},
    "adam": _ADAM,
    "adamw": _ADAM,
    "lamb": _ADAM,
}

_L2 = {"weight_decay": 5e-4, "weight_decay_mode": "l2"}
# What every optimizer has, with another default each.
RECIPES = {
    "sgd": {"learning_rate": 0.2, **_L2},
    "adam": {"learning_rate": 1e-3, **_L2},
    "adamw": {
        "learning_rate": 1e-3,
        "weight_decay": 1e-2,
        "weight_decay_mode": "decoupled",
    },
    "lamb": {"learning_rate": 1e-3, **_L2},
}

_UNIT = {"schedule_unit": "batch"}
_WARMUP = {"warmup_epochs": 0}
SCHEDULES = {
    # Held during an epoch, these two would begin with an epoch of rate 0.
    "cyclic": {},
    "piecewise": {},
    "onecycle": _UNIT,
    "multistep": {
        **_UNIT,
        **_WARMUP,
        "milestones": (0.5, 0.75),
        "decay": 0.1,
    },
    "cosine": {**_UNIT, **_WARMUP},
    "quadratic": {**_UNIT, **_WARMUP},
    "constant": _WARMUP,
}

LOSSES = {
    "crossentropy": {"label_smoothing": 0.0},
    "dlr": {},
}

_CHOICES = {"optimizer": OPTIMIZERS, "schedule": SCHEDULES, "loss": LOSSES}

SCHEDULE_UNITS = ("batch", "epoch")
WEIGHT_DECAY_MODES = ("l2", "decoupled")
WEIGHT_DECAY_ON = ("all", "kernels")
ON_OVERFITTING = OFF, WARN, STOP, ROLLBACK = "off", "warn", "stop", "rollback"
ATTACK_LOSSES = ("same", "crossentropy")


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """How it is trained; docs/training.md has the formulas.

    None stands for the default of the optimizer, schedule or loss, and stays
    where the setting does not apply to it.

    Attributes:
        epochs: Number of epochs.
        batch_size: Images per step, over all replicas.
        seed: Of initialization, shuffling, augmentation and method.
        optimizer: A key of `OPTIMIZERS`.
        learning_rate: The highest learning rate.
        momentum: Of SGD.
        nesterov: Whether the momentum of SGD is Nesterov's.
        beta_1: Of Adam, AdamW and LAMB: decay of the mean of the gradients.
        beta_2: Likewise, of the mean of their squares.
        weight_decay: The coefficient; 0 for none.
        weight_decay_mode: `"l2"`: added to the gradient; `"decoupled"`: taken
            from the weights directly.
        weight_decay_on: `"all"` weights, or the `"kernels"`: not biases, nor
            scales and offsets of normalizations.
        clip_norm: The largest norm of the gradient; 0 for any.
        loss: A key of `LOSSES`.
        label_smoothing: Share of the label given to all classes alike.
        attack_loss: What the lower level raises: `"same"`, the training loss,
            or plain `"crossentropy"`.
        schedule: A key of `SCHEDULES`.
        schedule_unit: Whether the rate changes per `"batch"` or `"epoch"`.
        warmup_epochs: Epochs of linear warm-up before the schedule.
        milestones: Shares of the epochs at which multistep decays.
        decay: What multistep multiplies the rate by at each.
        weight_averaging: Decay of the moving average of the weights; 0 for no
            average.
        clean_epochs: Epochs at the beginning with an epsilon of 0.
        epsilon_ramp_epochs: Epochs after them in which epsilon rises, batch by
            batch, on a straight line to its value.
    """

    epochs: int = 20
    batch_size: int = 128
    seed: int = 37
    optimizer: str = "sgd"
    learning_rate: float | None = None
    momentum: float | None = None
    nesterov: bool | None = None
    beta_1: float | None = None
    beta_2: float | None = None
    weight_decay: float | None = None
    weight_decay_mode: str | None = None
    weight_decay_on: str = "all"
    clip_norm: float = 0.0
    loss: str = "crossentropy"
    label_smoothing: float | None = None
    attack_loss: str = "same"
    schedule: str = "cyclic"
    schedule_unit: str | None = None
    warmup_epochs: int | None = None
    milestones: tuple | None = None
    decay: float | None = None
    weight_averaging: float = 0.0
    clean_epochs: int = 0
    epsilon_ramp_epochs: int = 0

    def __post_init__(self):
        for choice, table in _CHOICES.items():
            self._resolve(choice, table)
        self._resolve("optimizer", RECIPES)
        at_least(self, "epochs", 1)
        at_least(self, "batch_size", 1)
        if not 0 <= self.seed < 2**31:
            raise InputError(
                f"`seed` is expected in [0, 2**31). Received: seed={self.seed}"
            )
        at_least(self, "learning_rate", 0)
        at_least(self, "weight_decay", 0)
        at_least(self, "clip_norm", 0)
        one_of(self, "weight_decay_mode", WEIGHT_DECAY_MODES)
        one_of(self, "weight_decay_on", WEIGHT_DECAY_ON)
        one_of(self, "attack_loss", ATTACK_LOSSES)
        self._below("weight_averaging", 1)
        at_least(self, "epsilon_ramp_epochs", 0)
        self._below("clean_epochs", self.epochs)
        if self.clean_epochs + self.epsilon_ramp_epochs > self.epochs:
            raise InputError(
                "`clean_epochs` and `epsilon_ramp_epochs` are expected to be "
                f"at most the {self.epochs} epochs together. Received: "
                f"clean_epochs={self.clean_epochs}, "
                f"epsilon_ramp_epochs={self.epsilon_ramp_epochs}"
            )
        self._check_optimizer()
        self._check_schedule()
        if self.label_smoothing is not None:
            self._below("label_smoothing", 1)

    def options(self, choice):
        """The options of the chosen `"optimizer"`, `"schedule"` or `"loss"`.

        >>> TrainingConfig(momentum=0.8).options("optimizer")
        {'momentum': 0.8, 'nesterov': False}
        """
        chosen = _CHOICES[choice][getattr(self, choice)]
        return {name: getattr(self, name) for name in chosen}

    def _resolve(self, choice, table):
        one_of(self, choice, table)
        name = getattr(self, choice)
        defaults = table[name]
        every = dict.fromkeys(
            option for row in table.values() for option in row
        )
        given = {option: getattr(self, option) for option in sorted(every)}
        refuse_inapplicable(choice, name, defaults, given)
        for option, default in defaults.items():
            if given[option] is None:
                object.__setattr__(self, option, default)

    def _check_optimizer(self):
        for name in self.options("optimizer"):
            if name != "nesterov":
                self._below(name, 1)
        if self.nesterov and not self.momentum:
            raise InputError(
                "`nesterov` is expected with a momentum above 0. "
                f"Received: nesterov=True, momentum={self.momentum}"
            )
        if self.optimizer == "adamw" and self.weight_decay_mode == "l2":
            raise InputError(
                "`weight_decay_mode` is expected to be decoupled for adamw; "
                "adam has both. Received: weight_decay_mode=l2"
            )

    def _check_schedule(self):
        if self.schedule_unit is not None:
            one_of(self, "schedule_unit", SCHEDULE_UNITS)
        if self.warmup_epochs is not None:
            self._below("warmup_epochs", self.epochs)
        if self.milestones is None:
            return
        # JSON knows no tuples.
        object.__setattr__(self, "milestones", tuple(self.milestones))
        ends = (0, *self.milestones, 1)
        rising = all(a < b for a, b in zip(ends, ends[1:], strict=False))
        if not (self.milestones and rising):
            raise InputError(
                "`milestones` are expected as shares of the epochs, in (0, 1) "
                "and rising, such as 0.5,0.75. "
                f"Received: milestones={self.milestones}"
            )
        if self.milestones[0] * self.epochs <= self.warmup_epochs:
            raise InputError(
                "`milestones` are expected behind the warm-up. Received: "
                f"milestones={self.milestones}, epochs={self.epochs}, "
                f"warmup_epochs={self.warmup_epochs}"
            )
        if not 0 < self.decay <= 1:
            raise InputError(
                f"`decay` is expected in (0, 1]. Received: decay={self.decay}"
            )

    def _below(self, name, high):
        value = getattr(self, name)
        if not 0 <= value < high:
            raise InputError(
                f"`{name}` is expected in [0, {high}). Received: {name}={value}"
            )


@dataclasses.dataclass(frozen=True)
class OverfittingConfig:
    """What is done about catastrophic overfitting.

    Attributes:
        on_overfitting: A word of `ON_OVERFITTING`; by default `"warn"`, but
            `"off"` for the method standard.
        overfitting_threshold: In (0, 1): an alarm is raised where the share of
            validation images that withstand FGSM is larger by more than this
            than the share of those that withstand the validation attack; a
            third is enough where the latter has lost half of its best. By
            default 0.15.
        rollback_factor: In (0, 1): what a rollback leaves of the epsilon that
            is trained with.
    """

    on_overfitting: str | None = None
    overfitting_threshold: float | None = None
    rollback_factor: float | None = None

    def __post_init__(self):
        action = self.on_overfitting
        if action is not None:
            one_of(self, "on_overfitting", ON_OVERFITTING)
        for name, default, applies in (
            ("overfitting_threshold", 0.15, action != OFF),
            ("rollback_factor", 0.5, action == ROLLBACK),
        ):
            value = getattr(self, name)
            if value is None:
                if applies and action is not None:
                    object.__setattr__(self, name, default)
            elif not applies:
                raise InputError(
                    f"`{name}` does not apply to this `on_overfitting`. "
                    f"Received: {name}={value}, on_overfitting={action}"
                )
            elif not 0 < value < 1:
                raise InputError(
                    f"`{name}` is expected in (0, 1). Received: {name}={value}"
                )
