"""What several benchmarks do: start, build a network, run main.py."""

import os
import pathlib
import subprocess
import sys

from absl import app, logging

from fastbat_tf.runtime import environment

TOP = pathlib.Path(__file__).absolute().parent.parent


def start(main, **options):
    """Runs the function `main` of a benchmark, with oneDNN.

    Args:
        main: Function of the arguments that are left.
        **options: Those of `absl.app.run`.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # Leaves memory of a GPU for the processes that a benchmark starts.
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    environment.enable_onednn()
    logging.set_verbosity(logging.WARNING)
    app.run(main, **options)


def run_main(*arguments):
    """Runs main.py, and exits with its status if it fails."""
    command = [sys.executable, str(TOP / "main.py"), *arguments]
    status = subprocess.run(command, cwd=TOP).returncode
    if status:
        sys.exit(status)


def build_classifier(width, model="preact_resnet18"):
    """A network of the zoo with random weights.

    Args:
        width: Integer, the width of the model, if it has that option.
        model: Name of the model. Defaults to `"preact_resnet18"`.
    """
    from fastbat_tf import models
    from fastbat_tf.experiment.building import BATCH_NORMALIZATION

    has_width = "width" in models.parse(model).options
    options = {"width": width} if has_width else {}
    return models.get(
        model,
        **options,
        mean=[0.5] * 3,
        std=[0.25] * 3,
        batch_normalization=BATCH_NORMALIZATION,
    )
