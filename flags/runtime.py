"""Flags of what is done, where, and on what."""

from absl import flags as absl_flags

from fastbat_tf.experiment.config import (
    JIT_COMPILE,
    RESUME,
    STRATEGIES,
    RuntimeConfig,
)

_DEFAULT = RuntimeConfig()

MODE = absl_flags.DEFINE_enum(
    "mode",
    "train",
    ["train", "evaluate", "export"],
    "train: train, measure and export; evaluate: measure the best weights of "
    "--run_dir, or --model_path; export: the SavedModel of --run_dir.",
)
RUN_DIR = absl_flags.DEFINE_string(
    "run_dir",
    None,
    "Directory of the run (default: one in runs/ that this command has begun "
    "and not ended, else a new one).",
)
RESUME_FLAG = absl_flags.DEFINE_enum(
    "resume",
    "auto",
    RESUME,
    "auto: go on with the run of this command, if there is one; never: begin a "
    "new run; must: go on, or end with an error.",
)
STRATEGY = absl_flags.DEFINE_string(
    "strategy", _DEFAULT.strategy, f"Devices: {', '.join(STRATEGIES)}."
)
JIT = absl_flags.DEFINE_string(
    "jit_compile",
    _DEFAULT.jit_compile,
    f"Compile the step by XLA: {', '.join(JIT_COMPILE)}.",
)
DETERMINISTIC = absl_flags.DEFINE_bool(
    "deterministic",
    _DEFAULT.deterministic,
    "The same command gives the same bits: one thread on a CPU, which takes "
    "longer; deterministic kernels on a GPU.",
)
SAVE_EVERY = absl_flags.DEFINE_string(
    "save_every",
    _DEFAULT.save_every,
    "Checkpoints between the ends of epochs: steps (500) or minutes (15min).",
)


def get_config():
    """The `RuntimeConfig` of the flags."""
    return RuntimeConfig(
        strategy=STRATEGY.value,
        jit_compile=JIT.value,
        deterministic=DETERMINISTIC.value,
        save_every=SAVE_EVERY.value,
    )
