"""Loads weights that were trained without TensorFlow.

    python -m benchmarks.portable.load --run_dir=runs/portable

writes the last weights of `benchmarks.portable.run` to the file of a run's best
weights, `checkpoints/best.weights.h5`, so that

    python main.py --mode=export --run_dir=runs/portable

writes the SavedModel. The function `load` returns the classifier itself.
"""

import numpy as np

import flags
from benchmarks.shared import start
from fastbat_tf.errors import InputError


def load(run_dir, build_model):
    """Builds the classifier of a run with its last weights.

    Args:
        run_dir: Path of a run directory of `benchmarks.portable.run`.
        build_model: Function that builds a model, such as `models.get`.

    Returns:
        The `RobustClassifier`, not compiled.

    Raises:
        InputError: If there is no run, or its weights do not fit.
    """
    from fastbat_tf.experiment import building
    from fastbat_tf.experiment.run_directory import RunDirectory

    directory = RunDirectory(run_dir)
    robust = building.build_robust(directory.load_config(), build_model)
    file = directory.path / "portable" / "checkpoint.npz"
    try:
        with np.load(file) as weights:
            for variable in robust.classifier.variables:
                variable.assign(weights[variable.path])
    except (OSError, KeyError, ValueError) as error:
        raise InputError(
            "Expected the weights of the model in config.json, as "
            "benchmarks.portable.run writes them. "
            f"Received: file={file} ({error})"
        ) from error
    return robust


def main(_):
    """Writes the last weights of a run to its `best.weights.h5`."""
    try:
        from fastbat_tf import models
        from fastbat_tf.experiment.run_directory import RunDirectory

        run_dir = flags.runtime.RUN_DIR.value
        if not run_dir:
            raise InputError("Expected `--run_dir`. Received: run_dir=None")
        robust = load(run_dir, models.get)
        best = RunDirectory(run_dir).best
        best.parent.mkdir(exist_ok=True)
        robust.save_weights(best)
        print(f"Weights: {best}")
    except InputError as error:
        flags.fail(error)


if __name__ == "__main__":
    start(main, flags_parser=flags.parse)
