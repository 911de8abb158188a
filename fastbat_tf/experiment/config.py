"""The settings of a run: frozen, checked, with every default resolved.

This module imports no TensorFlow, so that a wrong setting is refused at once.
"""

import dataclasses
import math
import typing

from fastbat_tf import attacks, methods
from fastbat_tf.data.options import DataConfig
from fastbat_tf.errors import InputError, at_least, one_of
from fastbat_tf.methods import options
from fastbat_tf.training.options import (
    OFF,
    WARN,
    OverfittingConfig,
    TrainingConfig,
)

STRATEGIES = ("auto", "none", "mirrored")
JIT_COMPILE = ("auto", "true", "false")
RESUME = ("auto", "never", "must")
NORMS = tuple(attacks.LARGEST_EPSILON)


def parse_fraction(text):
    """`"8/255"` or `"0.0314"` as a float.

    Raises:
        InputError: If `text` is neither a number nor a quotient of numbers.
    """
    numerator, slash, denominator = text.partition("/")
    try:
        return float(numerator) / float(denominator if slash else 1)
    except (ValueError, ZeroDivisionError):
        raise InputError(
            "Expected a number such as 0.0314 or a quotient such as 8/255. "
            f"Received: {text!r}"
        ) from None


def parse_interval(text):
    """`"500"` or `"15min"` as steps and seconds; one of them is infinite.

    Raises:
        InputError: If `text` is neither, or not above zero.
    """
    number, minutes, rest = text.partition("min")
    try:
        count = float(number) if minutes else int(number)
    except ValueError:
        count = 0
    if rest or not 0 < count < math.inf:
        raise InputError(
            "`save_every` is expected to be a number of steps such as 500, or "
            f"of minutes such as 15min. Received: save_every={text}"
        )
    return (math.inf, 60 * count) if minutes else (count, math.inf)


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """Which network.

    None stands for the default of the network, or says that the network does
    not have this option; the flags resolve it.

    Attributes:
        model: A name of the model zoo.
        width: Channels of the first group of blocks.
        activation: The activation between layers.
        normalize: Whether the first layer normalizes the pixels.
        stem: The kind of the first layers.
        dropout: Rate of dropout in the blocks.
        init_weights: Where the training begins: a file of weights or a run
            directory; None for random weights.
    """

    model: str = "preact_resnet18"
    width: int | None = None
    activation: str | None = None
    normalize: bool = True
    stem: str | None = None
    dropout: float | None = None
    init_weights: str | None = None

    def __post_init__(self):
        if self.width is not None:
            at_least(self, "width", 1)

    @property
    def options(self):
        """Dict of what the network can be asked for."""
        names = "width", "activation", "stem", "dropout"
        return {name: getattr(self, name) for name in names}


@dataclasses.dataclass(frozen=True)
class MethodConfig:
    """Which method, and its hyperparameters.

    Attributes:
        method: A key of `fastbat_tf.methods.METHODS`.
        options: Dict of the arguments of its constructor, all of them.
    """

    method: str = "fastbat"
    options: dict = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        resolved = methods.resolve_options(self.method, self.options)
        object.__setattr__(self, "options", resolved)


@dataclasses.dataclass(frozen=True)
class EvaluationConfig:
    """How robustness is measured.

    Attributes:
        attacks: Names, as `fastbat_tf.attacks.parse` takes them, each measured
            on its own.
        epsilons: Radii; that of the training by default.
        norm: `"linf"` or `"l2"`.
        max_examples: A class-balanced subset of so many examples; 0 for all.
        seed: Of the attacks and of that subset.
        batch_size: Images per call of the network.
        validation_attack: The attack after each epoch, L-infinity.
        validation_epsilon: Its radius; that of the training by default.
        validation_examples: The first so many validation images; 0 for all.
    """

    attacks: tuple = ("pgd-50-10",)
    epsilons: tuple = ()
    norm: str = "linf"
    max_examples: int = 0
    seed: int = 0
    batch_size: int = 250
    validation_attack: str = "pgd-10-1"
    validation_epsilon: float | None = None
    validation_examples: int = 0

    def __post_init__(self):
        for name in ("attacks", "epsilons"):  # JSON knows no tuples.
            object.__setattr__(self, name, tuple(getattr(self, name)))
        one_of(self, "norm", NORMS)
        attacks.check_attacks(self.attacks)
        attacks.check_epsilons(self.epsilons, self.norm)
        if self.validation_epsilon is not None:
            options.check_epsilon(self.validation_epsilon)
        if attacks.parse(self.validation_attack).needs_surrogate:
            raise InputError(
                "`validation_attack` is expected to need no surrogate. "
                f"Received: validation_attack={self.validation_attack}"
            )
        at_least(self, "max_examples", 0)
        at_least(self, "seed", 0)
        at_least(self, "validation_examples", 0)
        at_least(self, "batch_size", 1)


@dataclasses.dataclass(frozen=True)
class RuntimeConfig:
    """On what it runs.

    Attributes:
        strategy: `"auto"`, `"none"` or `"mirrored"`.
        jit_compile: `"auto"`, `"true"` or `"false"`.
        deterministic: Whether the same command gives the same bits.
        save_every: When checkpoints are made, beside the end of an epoch:
            steps such as `"500"`, or minutes such as `"15min"`. A run may be
            continued with another value.
    """

    strategy: str = "auto"
    jit_compile: str = "auto"
    deterministic: bool = False
    save_every: str = dataclasses.field(default="15min", compare=False)

    def __post_init__(self):
        one_of(self, "strategy", STRATEGIES)
        one_of(self, "jit_compile", JIT_COMPILE)
        parse_interval(self.save_every)

    @property
    def compiles(self):
        """`jit_compile` as Keras has it: True, False or `"auto"`."""
        return {"true": True, "false": False}.get(self.jit_compile, "auto")


@dataclasses.dataclass(frozen=True)
class Target:
    """What `--mode=evaluate` measures, beside the settings.

    Attributes:
        model_path: A `.keras` file or a SavedModel; None for that of the run.
        surrogate: Likewise, for the attack transfer.
        results_dir: Where the results go; None for a place by the settings.
        save_images: Whether adversarial images are kept.
    """

    model_path: str | None = None
    surrogate: str | None = None
    results_dir: str | None = None
    save_images: bool = False


@dataclasses.dataclass(frozen=True)
class Config:
    """All settings of a run."""

    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    method: MethodConfig = dataclasses.field(default_factory=MethodConfig)
    training: TrainingConfig = TrainingConfig()
    overfitting: OverfittingConfig = OverfittingConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    runtime: RuntimeConfig = RuntimeConfig()

    def __post_init__(self):
        self._check_attack()
        replays = self.method.options.get("replays", 1)
        if self.training.epochs % replays:
            raise InputError(
                "`epochs` are expected to be a multiple of `replays`: the data "
                "are gone through epochs / replays times. Received: epochs="
                f"{self.training.epochs}, replays={replays}"
            )
        given = self.evaluation
        # Where the training had no radius, that of the field's tables.
        epsilon = self.method.options.get("epsilon") or options.EPSILON
        validation_epsilon = given.validation_epsilon
        if validation_epsilon is None:
            validation_epsilon = epsilon
        if given.norm != "linf" and not given.epsilons:
            raise InputError(
                "`epsilons` is expected with another norm than linf, such as "
                f"0.5 for l2. Received: norm={given.norm}, epsilons=()"
            )
        evaluation = dataclasses.replace(
            given,
            epsilons=given.epsilons or (epsilon,),
            validation_epsilon=validation_epsilon,
        )
        object.__setattr__(self, "evaluation", evaluation)

    def _check_attack(self):
        """Refuses settings of an attack where the method has none."""
        action = self.overfitting.on_overfitting
        if not self.method.options:
            for name, value, unset in (
                ("attack_loss", self.training.attack_loss, "same"),
                ("clean_epochs", self.training.clean_epochs, 0),
                ("epsilon_ramp_epochs", self.training.epsilon_ramp_epochs, 0),
                ("on_overfitting", action or OFF, OFF),
                (
                    "overfitting_threshold",
                    self.overfitting.overfitting_threshold,
                    None,
                ),
            ):
                if value != unset:
                    raise InputError(
                        f"`{name}` does not apply to the method "
                        f"{self.method.method}, which has no attack. "
                        f"Received: {name}={value}"
                    )
        has_gap = self.evaluation.validation_attack != "fgsm"
        if action not in (None, OFF) and not has_gap:
            raise InputError(
                "`on_overfitting` compares FGSM with the validation attack, "
                "expected to be a stronger one. Received: on_overfitting="
                f"{action}, validation_attack=fgsm"
            )
        if action is None:
            default = WARN if self.method.options and has_gap else OFF
            overfitting = dataclasses.replace(
                self.overfitting, on_overfitting=default
            )
            object.__setattr__(self, "overfitting", overfitting)

    def with_seed(self, seed):
        """The same settings with another seed."""
        training = dataclasses.replace(self.training, seed=seed)
        return dataclasses.replace(self, training=training)

    def to_dict(self):
        """The settings as nested dicts of JSON's types.

        The data have one more, `reading`: how files are read for them.
        """
        groups = dataclasses.asdict(self)
        groups["data"]["reading"] = self.data.spec.reading._asdict()
        return groups

    @classmethod
    def from_dict(cls, groups):
        """The inverse of `to_dict`, also after a round trip by JSON.

        Raises:
            InputError: If files were read otherwise than they are now.
        """
        types = typing.get_type_hints(cls)
        groups = {name: dict(groups[name]) for name in types}
        read = groups["data"].pop("reading", None)
        config = cls(**{name: types[name](**groups[name]) for name in types})
        reading = config.data.spec.reading._asdict()
        if read not in (None, reading):
            raise InputError(
                "This version reads image files differently from the one that "
                f"made the run; expected reading={reading}. "
                f"Received: reading={read}"
            )
        return config
