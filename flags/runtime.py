"""Flags of the mode, the run directory and the devices."""

from absl import flags as absl_flags

from fastbat_tf.runtime.options import (
    JIT_COMPILE,
    RESUME,
    STRATEGIES,
    RuntimeConfig,
)

_DEFAULT = RuntimeConfig()

MODE = absl_flags.DEFINE_enum(
    "mode",
    "train",
    ["train", "evaluate", "export", "report"],
    "train: train, measure and export; evaluate: measure the best weights of "
    "--run_dir, or --model_path; export: export the best weights of --run_dir "
    "again; report: write the report of --runs.",
)
RUN_DIR = absl_flags.DEFINE_string(
    "run_dir",
    None,
    "Directory of the run (default: an unfinished run of this command in "
    "runs/, otherwise a new one).",
)
RESUME_FLAG = absl_flags.DEFINE_enum(
    "resume",
    "auto",
    RESUME,
    "auto: resume the run of this command, if there is one; never: start a new "
    "run; must: resume, or end with an error.",
)
STRATEGY = absl_flags.DEFINE_string(
    "strategy",
    _DEFAULT.strategy,
    f"Devices: {', '.join(STRATEGIES)}. auto: the workers that TF_CONFIG or "
    "Slurm describes; else the GPUs of this host.",
)
JIT = absl_flags.DEFINE_string(
    "jit_compile",
    _DEFAULT.jit_compile,
    f"Compile the step with XLA: {', '.join(JIT_COMPILE)}.",
)
DETERMINISTIC = absl_flags.DEFINE_bool(
    "deterministic",
    _DEFAULT.deterministic,
    "Make the same command give the same bits: with one thread on a CPU, which "
    "takes longer, or with deterministic kernels on a GPU.",
)
SAVE_EVERY = absl_flags.DEFINE_string(
    "save_every",
    _DEFAULT.save_every,
    "Interval of checkpoints within an epoch: steps (500) or minutes (15min).",
)
COLLECTIVE_TIMEOUT = absl_flags.DEFINE_string(
    "collective_timeout",
    _DEFAULT.collective_timeout,
    "Time after which a worker that does not come up, or does not answer, is "
    "lost: seconds (300) or minutes (5min).",
)
STEPS_PER_EXECUTION = absl_flags.DEFINE_integer(
    "steps_per_execution",
    _DEFAULT.steps_per_execution,
    "Steps in a call of TensorFlow; data in memory then lie on the device.",
)
PROFILE = absl_flags.DEFINE_string(
    "profile",
    _DEFAULT.profile,
    "START,END: record a profile of these steps, such as 11,20, for "
    "TensorBoard.",
)
COMPILATION_CACHE = absl_flags.DEFINE_string(
    "compilation_cache",
    None,
    "Directory in which XLA keeps what it has compiled, for later processes.",
)


def get_config():
    """Makes the `RuntimeConfig` of the flags."""
    return RuntimeConfig(
        strategy=STRATEGY.value,
        jit_compile=JIT.value,
        deterministic=DETERMINISTIC.value,
        save_every=SAVE_EVERY.value,
        collective_timeout=COLLECTIVE_TIMEOUT.value,
        steps_per_execution=STEPS_PER_EXECUTION.value,
        profile=PROFILE.value,
    )
