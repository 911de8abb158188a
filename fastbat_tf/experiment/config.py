"""The settings of a run: frozen, checked, with every default resolved.

This module does not import TensorFlow, so a wrong setting is rejected at once.
"""

import dataclasses
import typing

from fastbat_tf import attacks, methods
from fastbat_tf.attacks.registry import DEFAULT_EPSILON
from fastbat_tf.data.options import DataConfig
from fastbat_tf.errors import InputError, at_least
from fastbat_tf.methods import options
from fastbat_tf.runtime.options import RuntimeConfig
from fastbat_tf.training.options import (
    OFF,
    WARN,
    OverfittingConfig,
    TrainingConfig,
)

NORMS = options.NORM.choices
LINF = options.NORM.default
# Of an L-infinity or L2 ball, such as errors suggest.
_EXAMPLES = {"linf": "8/255", "l2": "0.5"}
# The defaults of the options of networks that earlier versions did not have.
_LATER_OPTIONS = {
    "padding": "symmetric",
    "shortcut": "input",
    "head": "normalized",
}


def parse_fraction(text):
    """Parses `"8/255"` or `"0.0314"` as a float.

    Args:
        text: String.

    Returns:
        A float.

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


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """The settings of the network.

    None stands for the network's default, which the flags resolve, or for an
    option that the network does not have. `padding`, `shortcut` and `head`,
    which earlier versions did not have, are None also where they are given as
    the default, so that the settings of an earlier run are equal.

    Attributes:
        model: A name in the model zoo. Defaults to `"preact_resnet18"`.
        width: Integer, channels of the first group of blocks. Defaults to
            `None`.
        activation: String, the activation between layers. Defaults to `None`.
        normalize: Boolean, whether the first layer normalizes the pixels.
            Defaults to `True`.
        stem: String, the kind of the first layers. Defaults to `None`.
        dropout: Float, the dropout rate in the blocks. Defaults to `None`.
        padding: String, the padding of convolutions of stride 2. Defaults to
            `None`.
        shortcut: String, what the shortcuts of the blocks read. Defaults to
            `None`.
        head: String, what precedes the pooling. Defaults to `None`.
        init_weights: Path of the initial weights: a weights file, or a run
            directory. Defaults to `None`: random weights.
        mean: Tuple of floats, the mean of each channel of pixels, of a file of
            PyTorch. Defaults to `None`: that of the data set.
        std: Tuple of floats, the standard deviation, likewise. Defaults to
            `None`.
    """

    model: str = "preact_resnet18"
    width: int | None = None
    activation: str | None = None
    normalize: bool = True
    stem: str | None = None
    dropout: float | None = None
    padding: str | None = None
    shortcut: str | None = None
    head: str | None = None
    init_weights: str | None = None
    mean: tuple | None = None
    std: tuple | None = None

    def __post_init__(self):
        for name, default in _LATER_OPTIONS.items():
            if getattr(self, name) == default:
                object.__setattr__(self, name, None)
        for name in ("mean", "std"):  # JSON has lists.
            if getattr(self, name) is not None:
                object.__setattr__(self, name, tuple(getattr(self, name)))
        if self.width is not None:
            at_least(self, "width", 1)

    @property
    def options(self):
        """Dict of the options of the network."""
        names = "width", "activation", "stem", "dropout"
        names += "padding", "shortcut", "head"
        return {name: getattr(self, name) for name in names}


@dataclasses.dataclass(frozen=True)
class MethodConfig:
    """The training method and its hyperparameters.

    Attributes:
        method: A key of `fastbat_tf.methods.METHODS`. Defaults to
            `"fastbat"`.
        options: Dict of constructor arguments. Those that are not given are
            added with their defaults. Defaults to `{}`.
    """

    method: str = "fastbat"
    options: dict = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        resolved = methods.resolve_options(self.method, self.options)
        object.__setattr__(self, "options", resolved)

    @property
    def has_attack(self) -> bool:
        """Whether the method perturbs the images of the training."""
        return methods.get_spec(self.method).has_attack


@dataclasses.dataclass(frozen=True)
class EvaluationConfig:
    """The settings of the robustness measurement and of the validation.

    Attributes:
        attacks: Tuple of names, as `fastbat_tf.attacks.parse` takes them, each
            measured on its own. Defaults to `("pgd-50-10",)`.
        epsilons: Tuple of radii, fractions of the pixel range. Defaults to the
            training epsilon.
        norm: `"linf"` or `"l2"`, the norm of the epsilons. Defaults to the
            norm of the training.
        max_examples: Integer, the size of a class-balanced subset of the test
            split; 0 means all examples. Defaults to `0`.
        seed: Integer, the seed of the attacks and of that subset. Defaults to
            `0`.
        batch_size: Integer, images per call of the network. Defaults to `250`.
        validation_attack: Name of the attack after each epoch. Defaults to
            `"pgd-10-1"`.
        validation_epsilon: Float, the radius of the validation attack.
            Defaults to the training epsilon.
        validation_examples: Integer, how many validation images are used, from
            the start; 0 means all. Defaults to `0`.
        validation_norm: `"linf"` or `"l2"`, the norm of the validation attack.
            Defaults to the norm of the training.
        loss_surface: Boolean, whether the loss around one test image is
            written. Defaults to `False`.
        distances: Integer, the steps of the search for the nearest adversarial
            images; 0 means none. Defaults to `0`.
    """

    attacks: tuple = ("pgd-50-10",)
    epsilons: tuple = ()
    norm: str | None = None
    max_examples: int = 0
    seed: int = 0
    batch_size: int = 250
    validation_attack: str = "pgd-10-1"
    validation_epsilon: float | None = None
    validation_examples: int = 0
    validation_norm: str | None = None
    loss_surface: bool = False
    distances: int = 0

    def __post_init__(self):
        for name in ("attacks", "epsilons"):  # JSON has no tuples.
            object.__setattr__(self, name, tuple(getattr(self, name)))
        for name in ("norm", "validation_norm"):
            if getattr(self, name) is not None:
                parsed = options.NORM.check(name, getattr(self, name))
                object.__setattr__(self, name, parsed)
        attacks.check_attacks(self.attacks)
        attacks.check_epsilons(self.epsilons, self.norm or LINF)
        if self.validation_epsilon is not None:
            options.EPSILON_OF_NORM.check(
                "validation_epsilon",
                self.validation_epsilon,
                {"norm": self.validation_norm or self.norm or LINF},
            )
        if attacks.parse(self.validation_attack).needs_surrogate:
            raise InputError(
                "`validation_attack` is expected to be an attack without a "
                "surrogate. "
                f"Received: validation_attack={self.validation_attack}"
            )
        at_least(self, "max_examples", 0)
        at_least(self, "seed", 0)
        at_least(self, "validation_examples", 0)
        at_least(self, "distances", 0)
        at_least(self, "batch_size", 1)


@dataclasses.dataclass(frozen=True)
class Target:
    """The model that `--mode=evaluate` measures, and its output.

    Attributes:
        model_path: Path of a `.keras` file or a SavedModel. Defaults to
            `None`: the best weights of the run.
        surrogate: Path of a `.keras` file or a SavedModel, for the attack
            `transfer`, or a tuple of several. Defaults to `None`.
        results_dir: Path of the directory for the results. Defaults to `None`:
            a directory for these settings in `evaluations/`.
        save_images: Boolean, whether adversarial images are saved. Defaults to
            `False`.
        allow_code: Boolean, whether the files of `model_path` and `surrogate`
            may bring Python code. Defaults to `False`.
        corruptions_dir: Path of a directory of corrupted images in the layout
            of CIFAR-10-C. Defaults to `None`: no corruptions are measured.
    """

    model_path: str | None = None
    surrogate: str | tuple[str, ...] | None = None
    results_dir: str | None = None
    save_images: bool = False
    allow_code: bool = False
    corruptions_dir: str | None = None

    def __post_init__(self):
        if isinstance(self.surrogate, list):
            object.__setattr__(self, "surrogate", tuple(self.surrogate))


@dataclasses.dataclass(frozen=True)
class Config:
    """All settings of a run.

    Attributes:
        data: A `DataConfig`.
        model: A `ModelConfig`.
        method: A `MethodConfig`.
        training: A `TrainingConfig`.
        overfitting: An `OverfittingConfig`.
        evaluation: An `EvaluationConfig`.
        runtime: A `RuntimeConfig`.
    """

    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    method: MethodConfig = dataclasses.field(default_factory=MethodConfig)
    training: TrainingConfig = TrainingConfig()
    overfitting: OverfittingConfig = OverfittingConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    runtime: RuntimeConfig = RuntimeConfig()

    def __post_init__(self):
        self._check_attack()
        self.training.check_method(self.method.options)
        self.data.check_training(self.training)
        self.training.check_compilation(self.runtime.compiles)
        replays = self.method.options.get("replays", 1)
        if self.training.epochs % replays:
            raise InputError(
                "`epochs` is expected to be a multiple of `replays`: the data "
                "are passed through epochs / replays times. Received: epochs="
                f"{self.training.epochs}, replays={replays}"
            )
        given = self.evaluation
        norm = given.norm or self.training_norm
        validation_norm = given.validation_norm or self.training_norm
        epsilons = given.epsilons
        if not epsilons:
            epsilons = (self._epsilon_in(norm, norm=norm, epsilons=()),)
        validation_epsilon = given.validation_epsilon
        if validation_epsilon is None:
            validation_epsilon = self._epsilon_in(
                validation_norm,
                validation_norm=validation_norm,
                validation_epsilon=None,
            )
        evaluation = dataclasses.replace(
            given,
            epsilons=epsilons,
            norm=norm,
            validation_epsilon=validation_epsilon,
            validation_norm=validation_norm,
        )
        object.__setattr__(self, "evaluation", evaluation)

    @property
    def training_norm(self):
        """The norm of the training attack.

        Without an attack, it is the norm of the measurement.
        """
        if not self.method.has_attack:
            return self.evaluation.norm or LINF
        return self.method.options.get("norm", LINF)

    def _epsilon_in(self, norm, /, **settings):
        """Returns the training epsilon, which has the norm of the training.

        A method without a radius is measured at the default one.
        """
        if norm != self.training_norm:
            *_, missing = settings
            received = ", ".join(f"{k}={v}" for k, v in settings.items())
            raise InputError(
                f"`{missing}` is required with a norm other than "
                f"{self.training_norm}, such as {_EXAMPLES[norm]} for {norm}. "
                f"Received: {received}"
            )
        return self.method.options.get("epsilon") or DEFAULT_EPSILON[norm]

    def _check_attack(self):
        """Rejects settings of the training attack if the method has none."""
        action = self.overfitting.on_overfitting
        if not self.method.has_attack:
            for name, value, unset in (
                ("attack_loss", self.training.attack_loss, "same"),
                ("clean_epochs", self.training.clean_epochs, 0),
                ("epsilon_ramp_epochs", self.training.epsilon_ramp_epochs, 0),
                ("epsilon_jitter", self.training.epsilon_jitter, 0),
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
                "which is expected to be a stronger one. Received: "
                f"on_overfitting={action}, validation_attack=fgsm"
            )
        if action is None:
            default = WARN if self.method.has_attack and has_gap else OFF
            overfitting = dataclasses.replace(
                self.overfitting, on_overfitting=default
            )
            object.__setattr__(self, "overfitting", overfitting)

    def with_seed(self, seed):
        """Returns the same settings with another training seed."""
        training = dataclasses.replace(self.training, seed=seed)
        return dataclasses.replace(self, training=training)

    def to_dict(self):
        """Returns the settings as nested dicts of JSON's types.

        The group `data` has one more entry, `reading`: how its files are read.
        """
        groups = dataclasses.asdict(self)
        groups["data"]["reading"] = self.data.spec.reading._asdict()
        return groups

    @classmethod
    def from_dict(cls, groups):
        """Makes a `Config` from the result of `to_dict`, even through JSON.

        Raises:
            InputError: If this version reads files differently.
        """
        types = typing.get_type_hints(cls)
        groups = {name: dict(groups[name]) for name in types}
        # Earlier versions knew no other norm in training and validation.
        groups["evaluation"].setdefault("validation_norm", LINF)
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
