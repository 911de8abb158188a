"""Flags of --mode=evaluate: which model, and where the results go."""

from absl import flags as absl_flags

from fastbat_tf.experiment.config import Target

MODEL_PATH = absl_flags.DEFINE_string(
    "model_path",
    None,
    "evaluate: a .keras file or a SavedModel, instead of --run_dir.",
)
SURROGATE = absl_flags.DEFINE_string(
    "surrogate",
    None,
    "evaluate: a .keras file or a SavedModel, for the attack transfer.",
)
RESULTS_DIR = absl_flags.DEFINE_string(
    "results_dir",
    None,
    "evaluate: where the results go (default: evaluations/ in --run_dir or "
    "here, by the settings); the same command continues there.",
)
SAVE_IMAGES = absl_flags.DEFINE_bool(
    "save_images", False, "evaluate: keep the adversarial images as well."
)


def get_target():
    """The `Target` of the flags."""
    return Target(
        model_path=MODEL_PATH.value,
        surrogate=SURROGATE.value,
        results_dir=RESULTS_DIR.value,
        save_images=SAVE_IMAGES.value,
    )
