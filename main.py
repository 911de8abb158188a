"""Trains a robust classifier, measures how robust it is, and exports it.

python main.py --method=fastbat --dataset=cifar10
python main.py --flagfile=recipes/demo.cfg
python main.py --mode=export --run_dir=runs/demo
python main.py --helpshort
"""

import os

from absl import app, logging

import flags
from fastbat_tf.errors import InputError, NonFiniteError


def main(_):
    """Does what the command line says."""
    try:
        command = flags.get_command()
        # TensorFlow is imported here, once the settings are known to be good.
        import models
        from fastbat_tf import run

        if command.mode == "export":
            run.export_run(command.run_dir, models.get)
        else:
            run.train(command.config, command.run_dir, models.get)
    except (InputError, NonFiniteError) as error:
        flags.fail(error)


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    logging.set_verbosity(logging.WARNING)  # TensorFlow logs through absl.
    app.run(main, flags_parser=flags.parse)
