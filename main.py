"""Trains a robust classifier, measures how robust it is, and exports it.

python main.py --method=fastbat --dataset=cifar10
python main.py --flagfile=recipes/demo.cfg
python main.py --mode=evaluate --run_dir=runs/demo --attacks=autoattack
python main.py --mode=export --run_dir=runs/demo
"""

from absl import app, logging

import flags
from fastbat_tf import environment
from fastbat_tf.errors import InputError, NonFiniteError


def main(_):
    """Does what the command line says."""
    # Not what `--verbosity` says, which is our own: TensorFlow logs by absl.
    logging.set_verbosity(logging.ERROR)
    try:
        command = flags.get_command()
        environment.enable_onednn()
        # Now that the settings are known to be good.
        with environment.silent_start():
            import models.blocks  # Keras then knows what its files hold.
            from fastbat_tf import distribution, run, run_evaluation, seeds

            distribution.has_accelerator()
        where = command.run_dir, models.get
        how = command.resume, command.verbosity
        if command.mode == "export":
            run.export_run(*where)
        elif command.mode == "evaluate":
            run_evaluation.evaluate(command.config, command.target, *where)
        elif command.seeds:
            seeds.train(command.config, command.seeds, *where, *how)
        else:
            run.train(command.config, *where, *how)
    except (InputError, NonFiniteError) as error:
        flags.fail(error)


if __name__ == "__main__":
    app.run(main, flags_parser=flags.parse)
