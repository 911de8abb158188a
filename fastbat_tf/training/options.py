"""The settings of a training: their defaults and checks.

This module does not import TensorFlow, so a wrong setting is rejected at once.
Each table below lists the options of a choice with their defaults. An option of
another choice is rejected.
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
# The options that all optimizers have, with different defaults.
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
    # In units of epochs, these two would begin with an epoch of rate 0.
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
FLOAT32, BFLOAT16, FLOAT16 = "float32", "mixed_bfloat16", "mixed_float16"
PRECISIONS = FLOAT32, BFLOAT16, FLOAT16


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """The settings of a training; docs/training.md has the formulas.

    None stands for the default of the chosen optimizer, schedule or loss. A
    setting that does not apply to the choice stays None.

    Attributes:
        epochs: Integer. Defaults to `20`.
        batch_size: Integer, images per step, over all replicas. Defaults to
            `128`.
        seed: Integer in [0, 2**31), the seed of initialization, shuffling,
            augmentation and method. Defaults to `37`.
        optimizer: A key of `OPTIMIZERS`. Defaults to `"sgd"`.
        learning_rate: Float, the highest learning rate. Defaults to `0.2` for
            SGD, otherwise to `0.001`.
        momentum: Float in [0, 1), for SGD. Defaults to `0.9`.
        nesterov: Boolean, whether SGD's momentum is Nesterov's. Defaults to
            `False`.
        beta_1: Float in [0, 1), for Adam, AdamW and LAMB: the decay of the
            mean of the gradients. Defaults to `0.9`.
        beta_2: Float in [0, 1), for Adam, AdamW and LAMB: the decay of the
            mean of the squared gradients. Defaults to `0.999`.
        weight_decay: Float, the coefficient; 0 disables weight decay. Defaults
            to `0.01` for AdamW, otherwise to `0.0005`.
        weight_decay_mode: `"l2"` adds it to the gradient, `"decoupled"`
            subtracts it from the weights. Defaults to `"decoupled"` for AdamW,
            otherwise to `"l2"`.
        weight_decay_on: `"all"` weights, or only `"kernels"`: no biases, and
            no scales or offsets of normalization layers. Defaults to `"all"`.
        clip_norm: Float, the largest global norm of the gradient. Defaults to
            `0.0`, which disables clipping.
        sync_batch_norm: Boolean, whether BatchNormalization uses the statistics
            of the examples of all replicas. Defaults to `False`.
        loss: A key of `LOSSES`. Defaults to `"crossentropy"`.
        label_smoothing: Float in [0, 1), the share of the label that is spread
            over all classes. Defaults to `0.0`.
        attack_loss: The loss that the attack maximizes: `"same"`, the training
            loss, or plain `"crossentropy"`. Defaults to `"same"`.
        schedule: A key of `SCHEDULES`. Defaults to `"cyclic"`.
        schedule_unit: `"batch"` or `"epoch"`: how often the learning rate
            changes. Defaults to `"batch"`.
        warmup_epochs: Integer, epochs of linear warm-up before the schedule.
            Defaults to `0`.
        milestones: Tuple of shares of the epochs, in (0, 1) and increasing, at
            which the multistep schedule decays. Defaults to `(0.5, 0.75)`.
        decay: Float in (0, 1], the factor at each milestone. Defaults to
            `0.1`.
        weight_averaging: Float in [0, 1), the decay of the moving average of
            the weights. Defaults to `0.0`, which disables averaging.
        clean_epochs: Integer, epochs at the start with an epsilon of 0.
            Defaults to `0`.
        epsilon_ramp_epochs: Integer, epochs after that in which epsilon rises
            linearly, batch by batch, to its value. Defaults to `0`.
        awp_gamma: Float in [0, 1), the length of the adversarial weight
            perturbation relative to the weights of its layer. Defaults to
            `0.0`, which disables it.
        awp_warmup_epochs: Integer, epochs at the start without that
            perturbation. Defaults to `0`.
        epsilon_jitter: Float J in [0, 1): each step multiplies epsilon by a
            number from U(1 - J, 1 + J). Defaults to `0.0`.
        precision: One of `PRECISIONS`, Keras' dtype policy of the network:
            `"float32"`, or `"mixed_bfloat16"` or `"mixed_float16"`, which
            compute convolutions in half precision. Defaults to `"float32"`.
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
    sync_batch_norm: bool = False
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
    awp_gamma: float = 0.0
    awp_warmup_epochs: int = 0
    epsilon_jitter: float = 0.0
    precision: str = FLOAT32

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
        one_of(self, "precision", PRECISIONS)
        self._below("weight_averaging", 1)
        self._below("epsilon_jitter", 1)
        at_least(self, "epsilon_ramp_epochs", 0)
        self._below("clean_epochs", self.epochs)
        if self.clean_epochs + self.epsilon_ramp_epochs > self.epochs:
            raise InputError(
                "`clean_epochs` and `epsilon_ramp_epochs` together are "
                f"expected to be at most the {self.epochs} epochs. Received: "
                f"clean_epochs={self.clean_epochs}, "
                f"epsilon_ramp_epochs={self.epsilon_ramp_epochs}"
            )
        self._check_weight_perturbation()
        self._check_optimizer()
        self._check_schedule()
        if self.label_smoothing is not None:
            self._below("label_smoothing", 1)

    def check_compilation(self, jit_compile):
        """Rejects what XLA cannot compile.

        Args:
            jit_compile: True, False or `"auto"`.

        Raises:
            InputError: If it is rejected.
        """
        if self.sync_batch_norm and jit_compile is True:
            raise InputError(
                "Replicas cannot exchange statistics in what XLA compiles; "
                "expected jit_compile=auto or false with sync_batch_norm. "
                "Received: sync_batch_norm=True, jit_compile=true"
            )

    def options(self, choice):
        """Returns the options of the chosen optimizer, schedule or loss.

        Args:
            choice: `"optimizer"`, `"schedule"` or `"loss"`.

        Returns:
            Dict of the resolved options, by name.

        Example:

        >>> TrainingConfig(momentum=0.8).options("optimizer")
        {'momentum': 0.8, 'nesterov': False}
        """
        chosen = _CHOICES[choice][getattr(self, choice)]
        return {name: getattr(self, name) for name in chosen}

    def check_method(self, options):
        """Rejects a precision or a jitter that does not fit a method.

        Args:
            options: Dict of the options of the method.

        Raises:
            InputError: If the implicit term is a finite difference, and the
                precision is half; or if the jitter exceeds the pixel range.
        """
        check_jitter("epsilon_jitter", self.epsilon_jitter, options)
        gradient = options.get("implicit_gradient")
        if self.precision != FLOAT32 and gradient == "finite_difference":
            raise InputError(
                "`implicit_gradient` is expected to be exact in half "
                "precision, which rounds a move of a tenth of a gray level "
                f"away. Received: implicit_gradient={gradient}, "
                f"precision={self.precision}"
            )

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
                "`nesterov` needs a momentum above 0. "
                f"Received: nesterov=True, momentum={self.momentum}"
            )
        if self.optimizer == "adamw" and self.weight_decay_mode == "l2":
            raise InputError(
                "`weight_decay_mode` is expected to be decoupled for adamw; "
                "adam takes both. Received: weight_decay_mode=l2"
            )

    def _check_weight_perturbation(self):
        self._below("awp_gamma", 1)
        self._below("awp_warmup_epochs", self.epochs)
        if self.awp_warmup_epochs and not self.awp_gamma:
            raise InputError(
                "`awp_warmup_epochs` needs an awp_gamma above 0. Received: "
                f"awp_warmup_epochs={self.awp_warmup_epochs}, awp_gamma=0"
            )

    def _check_schedule(self):
        if self.schedule_unit is not None:
            one_of(self, "schedule_unit", SCHEDULE_UNITS)
        if self.warmup_epochs is not None:
            self._below("warmup_epochs", self.epochs)
        if self.milestones is None:
            return
        # JSON has no tuples.
        object.__setattr__(self, "milestones", tuple(self.milestones))
        ends = (0, *self.milestones, 1)
        rising = all(a < b for a, b in zip(ends, ends[1:], strict=False))
        if not (self.milestones and rising):
            raise InputError(
                "`milestones` are expected to be shares of the epochs, in (0, "
                "1) and increasing, such as 0.5,0.75. "
                f"Received: milestones={self.milestones}"
            )
        if self.milestones[0] * self.epochs <= self.warmup_epochs:
            raise InputError(
                "`milestones` are expected after the warm-up. Received: "
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
    """The reaction to catastrophic overfitting.

    Attributes:
        on_overfitting: One of `ON_OVERFITTING`. Defaults to `"off"` for the
            method `standard`, otherwise to `"warn"`.
        overfitting_threshold: Float in (0, 1). An alarm is raised if FGSM
            accuracy exceeds robust accuracy on the validation images by more
            than this, or by more than a third of it once robust accuracy has
            lost half of its best. Defaults to `0.15`.
        rollback_factor: Float in (0, 1), the factor by which a rollback
            multiplies the training epsilon. Defaults to `0.5`.
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


def check_jitter(name, jitter, options):
    """Rejects a jitter that takes epsilon beyond the pixel range.

    Args:
        name: String, the name of the setting.
        jitter: Float in [0, 1).
        options: Dict of the options of the method.

    Raises:
        InputError: If it is rejected.
    """
    epsilon = options.get("epsilon")
    if not jitter or epsilon is None or options.get("norm", "linf") != "linf":
        return
    if epsilon * (1 + jitter) > 1:
        raise InputError(
            f"epsilon * (1 + {name}) is expected to be at most 1, the pixel "
            f"range. Received: {name}={jitter}, epsilon={epsilon}"
        )
