"""Flags of --mode=evaluate: the model, and the directory of the results."""

from absl import flags as absl_flags

from fastbat_tf.errors import InputError
from fastbat_tf.experiment.config import Target

MODEL_PATH = absl_flags.DEFINE_string(
    "model_path",
    None,
    "evaluate: a .keras, .tflite or .onnx file or a SavedModel, instead of "
    "--run_dir.",
)
SURROGATE = absl_flags.DEFINE_list(
    "surrogate",
    None,
    "evaluate: a .keras file or a SavedModel, the surrogate of the attack "
    "transfer; several, separated by commas, are attacked together, by the "
    "mean of their logits.",
)
RESULTS_DIR = absl_flags.DEFINE_string(
    "results_dir",
    None,
    "evaluate: directory of the results, where the same command resumes "
    "(default: one for these settings in evaluations/, in --run_dir or here).",
)
SAVE_IMAGES = absl_flags.DEFINE_bool(
    "save_images", False, "evaluate: also save the adversarial images."
)
ALLOW_CODE = absl_flags.DEFINE_bool(
    "allow_code",
    False,
    "evaluate: trust --model_path and --surrogate, which may then bring Python "
    "code or operations that reach files.",
)
CORRUPTIONS_DIR = absl_flags.DEFINE_string(
    "corruptions_dir",
    None,
    "evaluate: also measure the accuracy on the corrupted images of this "
    "directory, which has the layout of CIFAR-10-C.",
)


def get_target():
    """Makes the `Target` of the flags."""
    if ALLOW_CODE.value and MODEL_PATH.value is SURROGATE.value is None:
        raise InputError(
            "--allow_code is expected with --model_path or --surrogate, whose "
            "file may then bring code. Received: allow_code=True"
        )
    return Target(
        model_path=MODEL_PATH.value,
        surrogate=_get_surrogate(),
        results_dir=RESULTS_DIR.value,
        save_images=SAVE_IMAGES.value,
        allow_code=ALLOW_CODE.value,
        corruptions_dir=CORRUPTIONS_DIR.value,
    )


def _get_surrogate():
    paths = SURROGATE.value
    if paths is None or len(paths) > 1:
        return paths
    if not paths:
        raise InputError(
            "`surrogate` is expected to be the path of a model, or several, "
            "separated by commas. Received: surrogate="
        )
    return paths[0]
