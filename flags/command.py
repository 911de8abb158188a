"""Parses the command line into a `Command`."""

import dataclasses
import sys
from typing import NamedTuple

from absl import flags as absl_flags
from absl import logging  # noqa: F401 Defines --verbosity.

from fastbat_tf import cluster
from fastbat_tf.attacks import check_surrogate
from fastbat_tf.errors import InputError
from fastbat_tf.experiment.config import Config, MethodConfig, Target
from fastbat_tf.experiment.export_request import ExportRequest
from fastbat_tf.experiment.report.request import ReportRequest
from fastbat_tf.experiment.run_directory import (
    RunDirectory,
    choose_run_dir,
    weights_file,
)

from . import (
    data,
    evaluation,
    export,
    method,
    model,
    overfitting,
    recipes,
    report,
    runtime,
    target,
    training,
)

GROUPS = (
    runtime,
    data,
    model,
    method,
    training,
    overfitting,
    evaluation,
    target,
    export,
    report,
)


RUNTIME_OF_EVALUATION = ("jit_compile", "strategy", "collective_timeout")


class Command(NamedTuple):
    """A command, as parsed from the command line.

    Attributes:
        mode: `"train"`, `"evaluate"`, `"export"` or `"report"`.
        run_dir: Path of the run directory; None with `--model_path`, for
            `"export"` without a run, and for `"report"`.
        config: The `Config`; None for `"export"` of a run, which uses its own,
            and for `"report"`.
        target: The `Target`; None unless the mode is `"evaluate"`.
        resume: `"auto"`, `"never"` or `"must"`, for `"train"`. Defaults to
            `"auto"`.
        verbosity: Integer, the value of absl's flag. Defaults to `0`.
        seeds: Integers, one training for each. Defaults to `()`: one training
            with the seed of the config.
        compilation_cache: Path of the directory for what XLA compiles.
            Defaults to `None`: nothing is kept.
        report: The `ReportRequest`. Defaults to `None`: the mode is not
            `"report"`.
        export: The `ExportRequest`. Defaults to `None`: the mode is not
            `"export"`.
    """

    mode: str
    run_dir: str | None
    config: Config | None = None
    target: Target | None = None
    resume: str = "auto"
    verbosity: int = 0
    seeds: tuple = ()
    compilation_cache: str | None = None
    report: ReportRequest | None = None
    export: ExportRequest | None = None


def parse(arguments):
    """Parses the command line for `absl.app`.

    Exits with status 2 if it is wrong.
    """
    for group in GROUPS:
        for flag in absl_flags.FLAGS.flags_by_module_dict()[group.__name__]:
            absl_flags.FLAGS.register_key_flag_for_module(arguments[0], flag)
    try:
        rest = absl_flags.FLAGS(recipes.find(arguments))
        if len(rest) > 1:
            raise InputError(f"Expected flags only. Received: {rest[1]}")
    except UnicodeDecodeError as error:
        fail(f"A flag file is expected to be UTF-8 text. Received: {error}")
    except (absl_flags.Error, InputError, OSError) as error:
        fail(error)
    return rest


def get_command():
    """Makes the `Command` of the parsed flags.

    Raises:
        InputError: If a flag has a wrong value, or does not apply.
    """
    mode, run_dir = runtime.MODE.value, runtime.RUN_DIR.value
    if mode == "export":
        return _get_export(run_dir)
    if mode == "evaluate":
        return _get_evaluation(run_dir)
    if mode == "report":
        _refuse_others("--mode=report", _names(report))
        request = report.get_request()
        return Command(mode, None, verbosity=_verbosity(), report=request)
    others = _names(target) | _names(export) | _names(report)
    _refuse(f"--mode={mode}", others)
    images = data.get_config()
    config = Config(
        data=images,
        model=model.get_config(images.spec.image_shape),
        method=method.get_config(evaluation.NORM.value),
        training=training.get_config(),
        overfitting=overfitting.get_config(),
        evaluation=evaluation.get_config(),
        runtime=runtime.get_config(),
    )
    check_surrogate(config.evaluation.attacks, None)
    cluster.check(config.runtime.strategy)
    resume = runtime.RESUME_FLAG.value
    seeds = training.get_seeds()
    if not run_dir:
        run_dir = choose_run_dir(config, resume, seeds=seeds)
    return Command(
        mode,
        run_dir,
        config,
        resume=resume,
        verbosity=_verbosity(),
        seeds=seeds,
        compilation_cache=runtime.COMPILATION_CACHE.value,
    )


def _verbosity():
    """Returns the value of absl's flag, with our default."""
    verbosity = absl_flags.FLAGS["verbosity"]
    return verbosity.value if verbosity.present else 0


def _get_export(run_dir):
    applicable = {"run_dir", "format", *_names(export)}
    if run_dir:
        applicable.add("data_dir")
        _refuse_others("--mode=export with --run_dir", applicable)
        request = export.get_request(has_run=True)
        request.check(RunDirectory(run_dir))
        return Command(
            "export", run_dir, verbosity=_verbosity(), export=request
        )
    if model.INIT_WEIGHTS.value is None:
        _expect_run_dir(run_dir, "--run_dir or --init_weights")
    applicable |= _names(model) | {"dataset", "data_dir", "image_size"}
    _refuse_others("--mode=export with --init_weights", applicable)
    request = export.get_request(has_run=False)
    request.check()
    weights_file(model.INIT_WEIGHTS.value)
    images = data.get_config()
    config = Config(
        data=images,
        model=model.get_config(images.spec.image_shape),
        method=MethodConfig("standard"),  # How it was trained is not known.
    )
    return Command(
        "export", None, config, verbosity=_verbosity(), export=request
    )


def _get_evaluation(run_dir):
    chosen = target.get_target()
    applicable = {"data_dir", "compilation_cache", *RUNTIME_OF_EVALUATION}
    applicable |= _names(target)
    applicable |= {
        name for name in _names(evaluation) if not name.startswith("validation")
    }
    if chosen.model_path is not None:
        # The model does not say which data set it is for.
        applicable |= {"dataset", "image_size", "skip_unreadable"}
        _refuse_others("--mode=evaluate with --model_path", applicable)
        # How the model was trained is not known.
        config = Config(data=data.get_config(), method=MethodConfig("standard"))
    else:
        applicable |= {"run_dir"}
        _refuse_others("--mode=evaluate with --run_dir", applicable)
        _expect_run_dir(run_dir, "--run_dir or --model_path")
        config = RunDirectory(run_dir).load_config()
        if data.DATA_DIR.value is not None:
            moved = dataclasses.replace(
                config.data, data_dir=data.DATA_DIR.value
            )
            config = dataclasses.replace(config, data=moved)
    config = dataclasses.replace(
        config,
        evaluation=evaluation.get_config(config.training_norm),
        runtime=_runtime_of_evaluation(config.runtime),
    )
    check_surrogate(config.evaluation.attacks, chosen.surrogate)
    cluster.check(config.runtime.strategy)
    return Command(
        "evaluate",
        run_dir,
        config,
        target=chosen,
        verbosity=_verbosity(),
        compilation_cache=runtime.COMPILATION_CACHE.value,
    )


def _runtime_of_evaluation(trained):
    """A run may be measured on other devices than it was trained on."""
    given = runtime.get_config()
    chosen = {name: getattr(given, name) for name in RUNTIME_OF_EVALUATION}
    return dataclasses.replace(trained, deterministic=False, **chosen)


def _names(group):
    flags = absl_flags.FLAGS.flags_by_module_dict()[group.__name__]
    return {flag.name for flag in flags}


def _refuse(where, names):
    given = sorted(name for name in names if absl_flags.FLAGS[name].present)
    if given:
        raise InputError(
            f"A flag does not apply to {where}. "
            f"Received: flags={', '.join(given)}"
        )


def _refuse_others(where, applicable):
    every = set().union(*map(_names, GROUPS))
    _refuse(where, every - applicable - {"mode"})


def _expect_run_dir(run_dir, flags):
    if not run_dir:
        raise InputError(
            f"--mode={runtime.MODE.value} expects {flags}. "
            f"Received: run_dir={run_dir}"
        )


def fail(error):
    """Prints an error in one line and exits with status 2."""
    # absl begins its message about a missing flagfile with "ERROR:: ".
    message = " ".join(str(error).removeprefix("ERROR:: ").split())
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)
