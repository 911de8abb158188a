"""Trains a robust classifier, measures how robust it is, and exports it.

python main.py --method=fastbat --dataset=cifar10
python main.py --flagfile=recipes/demo.cfg
python main.py --mode=evaluate --run_dir=runs/demo --attacks=autoattack
python main.py --mode=export --run_dir=runs/demo
python main.py --mode=report --runs=runs/demo,runs/other
"""

import pathlib
import sys

from absl import app, logging

from fastbat_tf import cluster
from fastbat_tf.errors import InputError, NonFiniteError, WorkerLostError
from fastbat_tf.experiment import preemption
from fastbat_tf.experiment.report import request
from fastbat_tf.experiment.run_directory import seed_directory
from fastbat_tf.runtime import compilation_cache, environment

from . import command as command_line
from . import runtime, typed


def run():
    """Runs the command that `sys.argv` describes, and exits."""
    sys.argv[0], called = _names(sys.argv[0])
    # What absl prints above the flags.
    usage = (__doc__ or "").replace("python main.py", " ".join(called))
    sys.modules["__main__"].__doc__ = usage
    with preemption.ended_at_once():
        app.run(main, flags_parser=command_line.parse)


def main(_):
    """Runs the command that the flags describe."""
    try:
        command = command_line.get_command()
        if command.report:  # It reads files, and needs no TensorFlow.
            request.answer(command.report)
            return
        # TensorFlow logs with absl, whose flag `--verbosity` has been read.
        logging.set_verbosity(logging.ERROR)
        environment.enable_onednn()
        if command.compilation_cache:
            compilation_cache.use(command.compilation_cache)
            # Of properties of the processor that are none.
            environment.hide_errors()
        # TensorFlow is imported only once the settings are known to be good.
        with environment.silent_start():
            if command.config and cluster.check(
                command.config.runtime.strategy
            ):
                environment.hide_errors()
            from fastbat_tf import distribution, models
            from fastbat_tf.experiment import evaluate, export, seeds, train

            distribution.has_accelerator()
        arguments = {
            "run_dir": command.run_dir,
            "build_model": models.get,
            "verbosity": command.verbosity,
        }
        if command.mode == "export" and command.run_dir:
            export.export_run(request=command.export, **arguments)
            return
        arguments["config"] = command.config
        if command.mode == "export":
            del arguments["run_dir"]
            export.export_weights(request=command.export, **arguments)
            return
        if command.mode == "evaluate":
            evaluate.evaluate(target=command.target, **arguments)
            return
        if command.seeds:
            seeds.train_each(
                seeds=command.seeds,
                resume=command.resume,
                command=_typed,
                **arguments,
            )
        else:
            train.train(resume=command.resume, command=_typed(), **arguments)
    except (InputError, NonFiniteError, WorkerLostError) as error:
        command_line.fail(error)


def _names(path):
    """Returns how absl calls the program, and how the user does, in words."""
    if path.endswith(".py"):
        return path, ["python", path]
    # The command that pip installs, with its path; on Windows an .exe.
    name = pathlib.Path(path).name.removesuffix(".exe")
    return name, [name]


def _typed(seed=None):
    """Returns the command line, of one of several seeds if there are."""
    run_dir = runtime.RUN_DIR.value
    if run_dir and seed is not None:
        run_dir = str(seed_directory(run_dir, seed))
    program, arguments = _names(sys.argv[0])[1], sys.argv[1:]
    return typed.command(program, arguments, seed=seed, run_dir=run_dir or None)
