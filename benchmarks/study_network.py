"""Measures the last weights of a run, whichever epoch was the best.

A short training validates on few images, so that the epoch that is best there
is best by chance. What two rows are compared by should not depend on it.
"""

import json

ATTACK = "pgd-10-1"
DIRECTORY = "last"
ALIGNMENT = "alignment.json"


def measure(run_dir):
    """Measures the last weights, unless that has been done.

    Clean accuracy and PGD-10 on all test images go to the directory `last` of
    the run, and the gradient alignment of the first 500 to `alignment.json`,
    both at the radius of the training.

    Args:
        run_dir: Path of the run.
    """
    if (run_dir / ALIGNMENT).exists():
        return
    import keras

    import fastbat_tf as fb
    from fastbat_tf.data import loading
    from fastbat_tf.experiment.config import Config

    keras.backend.clear_session()
    config = Config.from_dict(json.loads((run_dir / "config.json").read_text()))
    epsilon = config.method.options["epsilon"]
    network = load(run_dir, config).network
    test = loading.load_test(config.data)
    fb.evaluate_robustness(
        network,
        test,
        attacks=ATTACK,
        epsilons=epsilon,
        directory=run_dir / DIRECTORY,
    )
    sample = test.first(min(500, test.size))
    score = fb.GradientAlignment(network)(*sample, epsilon)
    (run_dir / ALIGNMENT).write_text(json.dumps({"alignment": score}))


def load(run_dir, config, weights="last"):
    """Returns the `RobustClassifier` of a run.

    Args:
        run_dir: Path of the run.
        config: Its `Config`.
        weights: `"last"` or `"best"`. Defaults to `"last"`.
    """
    from fastbat_tf import models
    from fastbat_tf.experiment.building import build_robust

    robust = build_robust(config, models.get)
    robust.load_weights(run_dir / "checkpoints" / f"{weights}.weights.h5")
    return robust
