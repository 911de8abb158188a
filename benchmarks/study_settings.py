"""The flags of a study, apart from those of its rows."""

import pathlib
import shlex
import sys
from typing import NamedTuple

from absl import flags

# Flags of main.py that all rows share, and their defaults.
PROTOCOL = {
    "dataset": "cifar10",
    "training_examples": "10000",
    "validation_examples": "1000",
    "model": "preact_resnet18",
    "width": "16",
    "epochs": "10",
    "batch_size": "128",
    "learning_rate": "0.2",
    "attacks": "pgd-50-10",
}


class Settings(NamedTuple):
    """What the flags of a study say.

    Attributes:
        protocol: Tuple of flags of `main.py` that all rows share.
        data_dir: The flag of `main.py`, or None.
        runs: Path of the directory of the runs.
        rows: List of patterns of names of rows.
        seeds: List of integers.
        strong_attack: The attack that is measured last, or an empty string.
        strong_examples: Integer, the images that it attacks.
        json: Path of the file of the numbers, or None.
        plot: Path of the plot, or None.
        keep_results: Directory to which each results.json is copied, or None.
        collect: Whether nothing is run.
        list: Whether only the names of the rows are printed.
    """

    protocol: tuple[str, ...]
    data_dir: str | None
    runs: pathlib.Path
    rows: list[str]
    seeds: list[int]
    strong_attack: str
    strong_examples: int
    json: str | None
    plot: str | None
    keep_results: str | None
    collect: bool
    list: bool


def define_flags(runs, values=flags.FLAGS):
    """Defines the flags of a study.

    Args:
        runs: The default of `--runs`.
        values: The `FlagValues`. Defaults to those of the program.
    """
    for name, default in PROTOCOL.items():
        flags.DEFINE_string(
            name, default, "The flag of main.py.", flag_values=values
        )
    flags.DEFINE_string(
        "data_dir", None, "The flag of main.py.", flag_values=values
    )
    flags.DEFINE_bool(
        "deterministic", True, "The flag of main.py.", flag_values=values
    )
    flags.DEFINE_string(
        "examples",
        "1000",
        "Size of the subset for --attacks.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "strong_attack",
        "autoattack",
        "Measured last; may be empty.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "strong_examples",
        "1000",
        "Size of the subset for it.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "runs", runs, "Directory of the runs.", flag_values=values
    )
    flags.DEFINE_string(
        "rows",
        "*",
        "Names of rows, by commas; * stands for any text.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "seeds",
        "37",
        "Seeds, by commas; each trains all rows.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "json", None, "File of the numbers.", flag_values=values
    )
    flags.DEFINE_string(
        "plot", None, "File of the plot; needs matplotlib.", flag_values=values
    )
    flags.DEFINE_string(
        "keep_results",
        None,
        "Directory of copies of each results.json.",
        flag_values=values,
    )
    flags.DEFINE_bool(
        "collect",
        False,
        "Run nothing; show what has been measured.",
        flag_values=values,
    )
    flags.DEFINE_bool(
        "list", False, "Only print the names of the rows.", flag_values=values
    )


def read_flags(values=flags.FLAGS):
    """Returns the `Settings`; exits with a line if a flag is no integer.

    Args:
        values: The `FlagValues`. Defaults to those of the program.
    """
    protocol = [f"--{name}={values[name].value}" for name in PROTOCOL]
    protocol.append(f"--max_examples={values['examples'].value}")
    if values["deterministic"].value:
        protocol.append("--deterministic")
    names = set(Settings._fields) - {"protocol"}
    given = {name: values[name].value for name in names}
    return Settings(
        **given
        | {
            "protocol": tuple(protocol),
            "runs": pathlib.Path(given["runs"]).absolute(),
            "rows": given["rows"].split(","),
            "seeds": _integers("seeds", given["seeds"]),
            "strong_examples": _integers(
                "strong_examples", given["strong_examples"]
            )[0],
        }
    )


def _integers(name, text):
    try:
        return [int(each) for each in text.split(",")]
    except ValueError:
        sys.exit(
            f"error: `{name}` is expected to be of integers. "
            f"Received: {name}={text}"
        )


# They say where files are, and not what is measured.
_PLACES = ("data_dir", "runs", "json", "plot", "keep_results", "collect")


def command(program, arguments):
    """Returns the command that repeats a study elsewhere.

    Args:
        program: Name of the module.
        arguments: List of flags, such as `["--width=4", "--json=FILE"]`.

    Example:

    >>> command("benchmarks.step_size", ["--width=4", "--json=FILE"])
    'python -m benchmarks.step_size --width=4'
    """
    kept = [
        argument
        for argument in arguments
        if argument.partition("=")[0].lstrip("-") not in _PLACES
    ]
    return shlex.join(["python", "-m", program, *kept])
