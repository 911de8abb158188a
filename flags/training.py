"""Flags of the training. A flag that does not apply is rejected."""

import dataclasses

from absl import flags as absl_flags

from fastbat_tf.errors import InputError
from fastbat_tf.training.options import (
    ATTACK_LOSSES,
    LOSSES,
    OPTIMIZERS,
    PRECISIONS,
    SCHEDULE_UNITS,
    SCHEDULES,
    WEIGHT_DECAY_MODES,
    WEIGHT_DECAY_ON,
    TrainingConfig,
)

from . import fractions

_DEFAULT = {
    field.name: field.default for field in dataclasses.fields(TrainingConfig)
}


def _define(kind, name, help_text, **arguments):
    return kind(name, _DEFAULT[name], help_text, **arguments)


def _integer(name, help_text):
    return _define(absl_flags.DEFINE_integer, name, help_text)


def _float(name, help_text):
    return _define(absl_flags.DEFINE_float, name, help_text)


def _string(name, help_text, known):
    help_text = f"{help_text}: {', '.join(known)}."
    return _define(absl_flags.DEFINE_string, name, help_text)


SETTINGS = (
    _integer("epochs", "Number of epochs."),
    _integer("batch_size", "Images per step, over all replicas."),
    _integer("seed", "Seed of all random numbers of the training."),
    _string("optimizer", "Optimizer", OPTIMIZERS),
    _float(
        "learning_rate",
        "Highest learning rate (default 0.2 for sgd, otherwise 0.001).",
    ),
    _float("momentum", "sgd: momentum (default 0.9)."),
    _define(
        absl_flags.DEFINE_bool, "nesterov", "sgd: use Nesterov's momentum."
    ),
    _float(
        "beta_1",
        "adam, adamw, lamb: decay of the mean gradient (default 0.9).",
    ),
    _float(
        "beta_2",
        "adam, adamw, lamb: decay of the mean squared gradient (default "
        "0.999).",
    ),
    _float(
        "weight_decay",
        "Weight decay (default 5e-4, but 0.01 for adamw); 0 disables it.",
    ),
    _string(
        "weight_decay_mode",
        "Add the decay to the gradient, or subtract it from the weights as "
        "AdamW does (default l2, but decoupled for adamw)",
        WEIGHT_DECAY_MODES,
    ),
    _string(
        "weight_decay_on",
        "Which weights decay; kernels leaves out biases, scales and offsets",
        WEIGHT_DECAY_ON,
    ),
    _float(
        "clip_norm",
        "Largest global norm of the gradient; 0 disables clipping.",
    ),
    _define(
        absl_flags.DEFINE_bool,
        "sync_batch_norm",
        "Normalize with the statistics of the images of all replicas, as on "
        "one device. On several replicas, XLA cannot compile the step.",
    ),
    _string("loss", "Training loss", LOSSES),
    _float(
        "label_smoothing",
        "crossentropy: share of the label that is spread over all classes "
        "(default 0).",
    ),
    _string(
        "attack_loss",
        "Loss that the training attack maximizes; same means the training loss",
        ATTACK_LOSSES,
    ),
    _string("schedule", "Learning-rate schedule", SCHEDULES),
    _string(
        "schedule_unit",
        "onecycle, multistep, cosine, quadratic: how often the learning rate "
        "changes (default batch)",
        SCHEDULE_UNITS,
    ),
    _integer(
        "warmup_epochs",
        "multistep, cosine, quadratic, constant: epochs of linear warm-up "
        "(default 0).",
    ),
    _define(
        fractions.define,
        "milestones",
        "multistep: shares of the epochs at which the learning rate decays "
        "(default 0.5,0.75).",
        parser=fractions.FractionListParser(),
    ),
    _float("decay", "multistep: factor at each milestone (default 0.1)."),
    _float(
        "weight_averaging",
        "Decay of the moving average of the weights, such as 0.9995; the "
        "average is validated, too. 0 disables it.",
    ),
    _integer(
        "clean_epochs",
        "Epochs without an attack, that is with epsilon 0, at the beginning.",
    ),
    _integer(
        "epsilon_ramp_epochs",
        "Epochs after the clean ones in which epsilon rises linearly.",
    ),
    _float(
        "epsilon_jitter",
        "J in [0, 1): each step multiplies epsilon by a random number from "
        "1 - J to 1 + J.",
    ),
    _float(
        "awp_gamma",
        "Adversarial weight perturbation: its length relative to the weights "
        "of a layer, such as 0.005; 0 disables it.",
    ),
    _integer(
        "awp_warmup_epochs",
        "Epochs without the weight perturbation, at the beginning.",
    ),
    _string(
        "precision",
        "Precision of the network; the mixed ones compute in 16 bits and keep "
        "weights, perturbations and sums in float32",
        PRECISIONS,
    ),
)
SEEDS = absl_flags.DEFINE_list(
    "seeds",
    [],
    "Several seeds instead of --seed, such as 0,1,2: train with each, in a "
    "directory of its own, and report mean and standard deviation.",
)


def get_seeds():
    """Returns the seeds as a tuple of integers, empty for a single training.

    Raises:
        InputError: If they are not two or more different integers in range.
    """
    if not SEEDS.value:
        return ()
    received = f"Received: seeds={','.join(SEEDS.value)}"
    try:
        seeds = tuple(int(text) for text in SEEDS.value)
    except ValueError:
        seeds = ()
    if len(set(seeds)) < 2 or len(set(seeds)) < len(seeds):
        raise InputError(
            "`seeds` are expected to be two or more different integers, such "
            f"as 0,1,2. {received}"
        )
    if absl_flags.FLAGS["seed"].present:
        raise InputError(
            "`seed` and `seeds` are both given; expected one of them. "
            f"{received}"
        )
    for seed in seeds:
        TrainingConfig(seed=seed)  # Checks the range.
    return seeds


def get_config():
    """Makes the `TrainingConfig` of the flags."""
    return TrainingConfig(**{flag.name: flag.value for flag in SETTINGS})
