"""Flags of the robustness measurement."""

from absl import flags as absl_flags

from fastbat_tf.attacks import ATTACKS
from fastbat_tf.experiment.config import EvaluationConfig
from fastbat_tf.methods import METHODS, options

from . import fractions

_DEFAULT = EvaluationConfig()
_WITH_NORM = [name for name, spec in METHODS.items() if "norm" in spec.options]

ATTACK_NAMES = absl_flags.DEFINE_list(
    "attacks",
    list(_DEFAULT.attacks),
    "Attacks on the test split, each measured on its own: "
    f"{', '.join(spec.form for spec in ATTACKS.values())}.",
)
EPSILONS = fractions.define(
    "epsilons",
    None,
    "Radii of the attacks, such as 8/255,16/255, or 2/255:16/255:2/255 for all "
    "from 2/255 to 16/255 in steps of 2/255 (default: the training epsilon).",
    fractions.FractionListParser(),
)
NORM = absl_flags.DEFINE_string(
    "norm",
    None,
    f"Norm of the radii, of the training attack ({', '.join(_WITH_NORM)}) and "
    f"of the measurement: {', '.join(options.NORM.choices)} (default linf; "
    "evaluate: that of the run).",
)
MAX_EXAMPLES = absl_flags.DEFINE_integer(
    "max_examples",
    _DEFAULT.max_examples,
    "Size of a class-balanced subset of the test split; 0 means all.",
)
EVALUATION_SEED = absl_flags.DEFINE_integer(
    "evaluation_seed", _DEFAULT.seed, "Seed of the attacks and of the subset."
)
EVALUATION_BATCH_SIZE = absl_flags.DEFINE_integer(
    "evaluation_batch_size", _DEFAULT.batch_size, "Images per evaluation batch."
)
VALIDATION_ATTACK = absl_flags.DEFINE_string(
    "validation_attack",
    _DEFAULT.validation_attack,
    "Attack on the validation split after each epoch.",
)
VALIDATION_EPSILON = fractions.define(
    "validation_epsilon",
    None,
    "Radius of the validation attack (default: the training epsilon).",
)
VALIDATION_EXAMPLES = absl_flags.DEFINE_integer(
    "validation_examples",
    0,
    "How many validation images to use, from the start; 0 means all.",
)


LOSS_SURFACE = absl_flags.DEFINE_bool(
    "loss_surface",
    _DEFAULT.loss_surface,
    "Also write surface.npz: the loss around one test image, along an "
    "adversarial and a random direction.",
)
DISTANCES = absl_flags.DEFINE_integer(
    "distances",
    _DEFAULT.distances,
    "Also search for the nearest adversarial image of each image, by fab-t "
    "with this many steps toward each class, such as 100; 0 means no search.",
)


def get_config(norm=None):
    """Makes the `EvaluationConfig` of the flags.

    Args:
        norm: String, the norm if `--norm` is not given. Defaults to None, for
            the norm of the training.
    """
    return EvaluationConfig(
        attacks=tuple(ATTACK_NAMES.value),
        epsilons=tuple(EPSILONS.value or ()),
        norm=NORM.value or norm,
        max_examples=MAX_EXAMPLES.value,
        seed=EVALUATION_SEED.value,
        batch_size=EVALUATION_BATCH_SIZE.value,
        validation_attack=VALIDATION_ATTACK.value,
        validation_epsilon=VALIDATION_EPSILON.value,
        validation_examples=VALIDATION_EXAMPLES.value,
        loss_surface=LOSS_SURFACE.value,
        distances=DISTANCES.value,
    )
