"""Flags of the guard against catastrophic overfitting."""

from absl import flags as absl_flags

from fastbat_tf.training.options import ON_OVERFITTING, OverfittingConfig

_DEFAULT = OverfittingConfig()

ON_OVERFITTING_FLAG = absl_flags.DEFINE_string(
    "on_overfitting",
    None,
    "What to do after an epoch in which FGSM is far less successful than the "
    f"validation attack: {', '.join(ON_OVERFITTING)} (default warn).",
)
THRESHOLD = absl_flags.DEFINE_float(
    "overfitting_threshold",
    _DEFAULT.overfitting_threshold,
    "Alarm if accuracy under FGSM exceeds accuracy under the validation attack "
    "by more than this share of the images (default 0.15).",
)
ROLLBACK_FACTOR = absl_flags.DEFINE_float(
    "rollback_factor",
    None,
    "rollback: factor by which the training epsilon is multiplied (default "
    "0.5).",
)


def get_config():
    """Makes the `OverfittingConfig` of the flags."""
    return OverfittingConfig(
        on_overfitting=ON_OVERFITTING_FLAG.value,
        overfitting_threshold=THRESHOLD.value,
        rollback_factor=ROLLBACK_FACTOR.value,
    )
