"""Flags of the training."""

from absl import flags as absl_flags

from fastbat_tf.config import SCHEDULES, TrainingConfig

_DEFAULT = TrainingConfig()

EPOCHS = absl_flags.DEFINE_integer("epochs", _DEFAULT.epochs, "Epochs.")
BATCH_SIZE = absl_flags.DEFINE_integer(
    "batch_size", _DEFAULT.batch_size, "Images per step, over all replicas."
)
LEARNING_RATE = absl_flags.DEFINE_float(
    "learning_rate", _DEFAULT.learning_rate, "The highest learning rate."
)
SCHEDULE = absl_flags.DEFINE_string(
    "schedule",
    _DEFAULT.schedule,
    f"Learning rate per batch: {', '.join(SCHEDULES)}.",
)
MOMENTUM = absl_flags.DEFINE_float(
    "momentum", _DEFAULT.momentum, "Momentum of SGD."
)
WEIGHT_DECAY = absl_flags.DEFINE_float(
    "weight_decay", _DEFAULT.weight_decay, "L2 in the gradient."
)
SEED = absl_flags.DEFINE_integer("seed", _DEFAULT.seed, "Seed of everything.")


def get_config():
    """The `TrainingConfig` of the flags."""
    return TrainingConfig(
        epochs=EPOCHS.value,
        batch_size=BATCH_SIZE.value,
        learning_rate=LEARNING_RATE.value,
        schedule=SCHEDULE.value,
        momentum=MOMENTUM.value,
        weight_decay=WEIGHT_DECAY.value,
        seed=SEED.value,
    )
