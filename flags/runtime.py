"""Flags of what is done, where, and on what."""

import time

from absl import flags as absl_flags

from fastbat_tf.config import JIT_COMPILE, STRATEGIES, RuntimeConfig

_DEFAULT = RuntimeConfig()

MODE = absl_flags.DEFINE_enum(
    "mode",
    "train",
    ["train", "evaluate", "export"],
    "train: train, measure and export; evaluate: measure the best weights of "
    "--run_dir, or --model_path; export: the SavedModel of --run_dir.",
)
RUN_DIR = absl_flags.DEFINE_string(
    "run_dir", None, "Directory of the run (default: a new one in runs/)."
)
STRATEGY = absl_flags.DEFINE_string(
    "strategy", _DEFAULT.strategy, f"Devices: {', '.join(STRATEGIES)}."
)
JIT = absl_flags.DEFINE_string(
    "jit_compile",
    _DEFAULT.jit_compile,
    f"Compile the step by XLA: {', '.join(JIT_COMPILE)}.",
)


def get_config():
    """The `RuntimeConfig` of the flags."""
    return RuntimeConfig(strategy=STRATEGY.value, jit_compile=JIT.value)


def new_name(config):
    """A new run directory, named by method, data set, model and time."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    return (
        f"runs/{config.method.method}-{config.data.dataset}-"
        f"{config.model.model.replace(':', '-')}-{stamp}"
    )
