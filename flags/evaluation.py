"""Flags of the measuring of robustness."""

from absl import flags as absl_flags

from fastbat_tf.config import EvaluationConfig
from flags import fractions

_DEFAULT = EvaluationConfig()

ATTACK = absl_flags.DEFINE_string(
    "attack", _DEFAULT.attack, "Attack on the test split: pgd-STEPS-RESTARTS."
)
EPSILONS = fractions.define(
    "epsilons",
    None,
    "Radii of that attack, such as 8/255,16/255 (default: that of training).",
    fractions.FractionListParser(),
)
TEST_EXAMPLES = absl_flags.DEFINE_integer(
    "test_examples", 0, "The first so many test images; 0 for all."
)
VALIDATION_ATTACK = absl_flags.DEFINE_string(
    "validation_attack",
    _DEFAULT.validation_attack,
    "Attack after each epoch: pgd-STEPS-RESTARTS.",
)
VALIDATION_EPSILON = fractions.define(
    "validation_epsilon", None, "Its radius (default: that of training)."
)
VALIDATION_EXAMPLES = absl_flags.DEFINE_integer(
    "validation_examples", 0, "The first so many validation images; 0 for all."
)
EVALUATION_BATCH_SIZE = absl_flags.DEFINE_integer(
    "evaluation_batch_size", _DEFAULT.batch_size, "Images per evaluation batch."
)


def get_config():
    """The `EvaluationConfig` of the flags."""
    return EvaluationConfig(
        attack=ATTACK.value,
        epsilons=EPSILONS.value or (),
        test_examples=TEST_EXAMPLES.value,
        validation_attack=VALIDATION_ATTACK.value,
        validation_epsilon=VALIDATION_EPSILON.value,
        validation_examples=VALIDATION_EXAMPLES.value,
        batch_size=EVALUATION_BATCH_SIZE.value,
    )
