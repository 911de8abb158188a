"""Trains a robust classifier, measures how robust it is, and exports it.

python main.py --method=fastbat --dataset=cifar10
python main.py --flagfile=recipes/demo.cfg
python main.py --mode=evaluate --run_dir=runs/demo --attacks=autoattack
python main.py --mode=export --run_dir=runs/demo
"""

# ruff: noqa: E402
import signal

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # No traceback of an import.

from absl import app, logging

import flags
from fastbat_tf.errors import InputError, NonFiniteError
from fastbat_tf.experiment import preemption
from fastbat_tf.runtime import environment


def main(_):
    """Does what the command line says."""
    try:
        command = flags.get_command()
        # TensorFlow logs by absl, and `--verbosity`, which is read, is absl's.
        logging.set_verbosity(logging.ERROR)
        environment.enable_onednn()
        # Now that the settings are known to be good.
        with environment.silent_start():
            import models.blocks  # Keras then knows what its files hold.
            from fastbat_tf import distribution
            from fastbat_tf.experiment import evaluate, seeds, train

            distribution.has_accelerator()
        where = command.run_dir, models.get
        how = command.resume, command.verbosity
        if command.mode == "export":
            train.export_run(*where, command.verbosity)
        elif command.mode == "evaluate":
            what = command.config, command.target
            evaluate.evaluate(*what, *where, command.verbosity)
        elif command.seeds:
            seeds.train_each(command.config, command.seeds, *where, *how)
        else:
            train.train(command.config, *where, *how)
    except (InputError, NonFiniteError) as error:
        flags.fail(error)


if __name__ == "__main__":
    with preemption.ended_at_once():
        app.run(main, flags_parser=flags.parse)
