"""The command line: flags, their checks, and the Config that they make.

This is the only package that imports `absl.flags`. It imports no TensorFlow.
"""

import sys
from typing import NamedTuple

from absl import flags as absl_flags

from fastbat_tf.config import Config
from fastbat_tf.errors import InputError
from flags import data, evaluation, method, model, runtime, training

GROUPS = (runtime, data, model, method, training, evaluation)


class Command(NamedTuple):
    """What the command line asks for.

    Attributes:
        mode: `"train"` or `"export"`.
        run_dir: Path of the run directory.
        config: The `Config`; None for `export`, which has the run's own.
    """

    mode: str
    run_dir: str
    config: Config | None


def parse(arguments):
    """Parses the command line for `absl.app`; ends with status 2 if wrong."""
    for group in GROUPS:
        for flag in absl_flags.FLAGS.flags_by_module_dict()[group.__name__]:
            absl_flags.FLAGS.register_key_flag_for_module(arguments[0], flag)
    try:
        rest = absl_flags.FLAGS(arguments)
        if len(rest) > 1:
            raise InputError(f"Expected flags only. Received: {rest[1]}")
    except (absl_flags.Error, InputError, OSError) as error:
        fail(error)
    return rest


def get_command():
    """The `Command` of the parsed flags.

    Raises:
        InputError: If a flag is out of its range, or does not apply.
    """
    mode = runtime.MODE.value
    if mode == "export":
        given = [
            flag.name
            for group in GROUPS
            for flag in absl_flags.FLAGS.flags_by_module_dict()[group.__name__]
            if flag.present and flag.name not in ("mode", "run_dir")
        ]
        if given or not runtime.RUN_DIR.value:
            raise InputError(
                "`--mode=export` expects `--run_dir`, and nothing else. "
                f"Received: flags={given}"
            )
        return Command(mode, runtime.RUN_DIR.value, None)
    config = Config(
        data=data.get_config(),
        model=model.get_config(),
        method=method.get_config(),
        training=training.get_config(),
        evaluation=evaluation.get_config(),
        runtime=runtime.get_config(),
    )
    return Command(
        mode, runtime.RUN_DIR.value or runtime.new_name(config), config
    )


def fail(error):
    """Prints an error in one line and ends with status 2."""
    print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
    sys.exit(2)
