"""The commands that repeat a run, continue it, or measure it."""

import shlex
from collections.abc import Sequence

from fastbat_tf.errors import InputError
from fastbat_tf.experiment import differences
from fastbat_tf.experiment.config import Config
from fastbat_tf.experiment.report.record import RunRecord

PROGRAM = "python main.py"


def config_of(record: RunRecord) -> Config | None:
    """Returns the settings of a run.

    Args:
        record: A `RunRecord`.

    Returns:
        A `Config`; None of an evaluation alone, and of a run whose settings
        this version does not know.
    """
    if record.config is None:
        return None
    try:
        # How its images were read does not matter to the report.
        data = {
            k: v for k, v in record.config["data"].items() if k != "reading"
        }
        return Config.from_dict({**record.config, "data": data})
    except (AttributeError, InputError, LookupError, TypeError):
        return None


def of_training(
    records: Sequence[RunRecord], **others: str
) -> tuple[str | None, bool]:
    """Returns the command of a training, or of one with several seeds.

    Args:
        records: `RunRecord`s, one per seed.
        **others: Flags to add to a command that is not recorded, such as
            `run_dir`.

    Returns:
        The command, of seeds one per line, None if there is none; and whether
        it was recorded. If not, it is made of the settings.
    """
    every = [(record.config or {}).get("command") for record in records]
    recorded = [command for command in every if command]
    if len(recorded) == len(records):
        return "\n".join(dict.fromkeys(recorded)), True
    config = config_of(records[0])
    if config is None:
        return None, False
    if len(records) > 1:
        seeds = [record.config["training"]["seed"] for record in records]
        default = type(config.training)().seed
        config = config.with_seed(default)
        others = {**others, "seeds": ",".join(map(str, seeds))}
    return differences.command(config, PROGRAM, **others), False


def of_evaluations(record: RunRecord) -> list[str | None]:
    """Returns the commands of the evaluations of a run after its training.

    Args:
        record: A `RunRecord`, of a run or of an evaluation alone.

    Returns:
        List with one per evaluation of which the report shows a row: a string,
        or None if the files do not say enough.
    """
    found = {}
    # The command of a training measures it, too.
    trained = record.config and record.path / "evaluations" / "training"
    for row in record.results.get("attacks", []):
        directory = record.directory(row)
        if directory is None or directory in (trained, *found):
            continue
        command = _evaluation(record, record.settings(row))
        if command and (directory / "surface.npz").exists():
            command += " --loss_surface"
        if command:
            command += _distances(record, directory)
        found[directory] = command
    return list(found.values())


def to_measure_as(
    record: RunRecord, other: RunRecord, rows: Sequence[dict]
) -> str | None:
    """Returns the command that measures a run as another one was.

    Args:
        record: A `RunRecord`, of the run that is measured.
        other: The other `RunRecord`.
        rows: Rows of the results of `other`, at one radius.

    Returns:
        A string; None if the files do not say enough.
    """
    settings = {
        **other.settings(rows[0]),
        "attacks": list(dict.fromkeys(row["attack"] for row in rows)),
        "epsilons": [rows[0]["epsilon"]],
    }
    return _evaluation(record, settings)


def _distances(record, directory):
    """The flag of the distances that an evaluation measured, or ""."""
    for row in record.results.get("distances", []):
        if record.directory(row) == directory:
            steps = row["attack"].removeprefix("fab-t").lstrip("-")
            return f" --distances={steps or 100}"
    return ""


def _quoted(path):
    return shlex.quote(str(path))


def _evaluation(record, settings):
    target, norm = _target(record)
    # Of a surrogate, only the checksum is known.
    known = {"attacks", "epsilons", "norm"} <= settings.keys()
    if not target or not known or settings.get("surrogate") is not None:
        return None
    flags = {
        "attacks": ",".join(settings["attacks"]),
        "epsilons": ",".join(map(differences.fraction, settings["epsilons"])),
    }
    if (settings["norm"], norm) != ("linf", "linf"):
        flags["norm"] = settings["norm"]
    if settings.get("max_examples"):
        flags["max_examples"] = str(settings["max_examples"])
    if settings.get("seed"):
        flags["evaluation_seed"] = str(settings["seed"])
    words = [f"--{name}={text}" for name, text in flags.items()]
    if settings.get("save_images"):
        words.append("--save_images")
    return f"{PROGRAM} --mode=evaluate {target} {shlex.join(words)}"


def _target(record):
    """Returns the flag of what an evaluation measures, and its default norm."""
    run, config = record.path, record.config
    if config is None and "model" in record.results:
        flags = {"model_path": record.results["model"], **record.data}
        words = [f"--{name}={_quoted(text)}" for name, text in flags.items()]
        return " ".join(words), "linf"
    if config is None:
        run = record.run
        if run is None:
            return None, None
        config = RunRecord(run, run.name).config
    options = config["method"]["options"]
    return f"--run_dir={_quoted(run)}", options.get("norm", "linf")
