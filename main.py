"""Trains a robust classifier, measures how robust it is, and exports it.

python main.py --method=fastbat --dataset=cifar10
python main.py --flagfile=recipes/demo.cfg
python main.py --mode=evaluate --run_dir=runs/demo --attacks=autoattack
python main.py --mode=export --run_dir=runs/demo
"""

# ruff: noqa: E402
import signal

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # No traceback from imports.

from absl import app, logging

import flags
from fastbat_tf.errors import InputError, NonFiniteError
from fastbat_tf.experiment import preemption
from fastbat_tf.runtime import environment


def main(_):
    """Runs the command that the flags describe."""
    try:
        command = flags.get_command()
        # TensorFlow logs with absl, whose flag `--verbosity` has been read.
        logging.set_verbosity(logging.ERROR)
        environment.enable_onednn()
        # TensorFlow is imported only once the settings are known to be good.
        with environment.silent_start():
            import models.blocks  # Registers what Keras finds in its files.
            from fastbat_tf import distribution
            from fastbat_tf.experiment import evaluate, seeds, train

            distribution.has_accelerator()
        arguments = {
            "run_dir": command.run_dir,
            "build_model": models.get,
            "verbosity": command.verbosity,
        }
        if command.mode == "export":
            train.export_run(**arguments)
            return
        arguments["config"] = command.config
        if command.mode == "evaluate":
            evaluate.evaluate(target=command.target, **arguments)
        elif command.seeds:
            seeds.train_each(
                seeds=command.seeds, resume=command.resume, **arguments
            )
        else:
            train.train(resume=command.resume, **arguments)
    except (InputError, NonFiniteError) as error:
        flags.fail(error)


if __name__ == "__main__":
    with preemption.ended_at_once():
        app.run(main, flags_parser=flags.parse)
