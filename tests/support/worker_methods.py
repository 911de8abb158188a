"""Trains with several methods, as one of two workers or alone."""

import keras
import numpy as np
import tensorflow as tf

from fastbat_tf import Plan, RobustClassifier, distribution, methods, workers
from tests.support import testing

EXAMPLES, STEPS = 8, 5


def train_all(path, cases, dtype, *, jit_compile=False, strategy="multiworker"):
    """Trains a network with each method, and writes the weights.

    Args:
        path: Path of the `.npz` file to write.
        cases: Dict of methods, each a name and its options.
        dtype: String, the type of the whole training.
        jit_compile: Boolean. Defaults to False.
        strategy: String, the name of the strategy. Defaults to
            `"multiworker"`.
    """
    strategy = distribution.get_strategy(strategy, timeout=120)
    keras.config.set_floatx(dtype)
    keras.config.set_dtype_policy(dtype)
    found = {}
    for case, (name, options) in cases.items():
        weights = _train(strategy, methods.get(name, **options), jit_compile)
        found |= {f"{case} {i}": weight for i, weight in enumerate(weights)}
    np.savez(path, **found)


def _train(strategy, method, jit_compile):
    everyone = workers.of(strategy)
    images, labels = testing.images_and_labels(
        EXAMPLES, dtype=keras.config.floatx()
    )
    index = np.arange(EXAMPLES, dtype="int32")
    own = np.array_split(index, everyone.count)[everyone.index]
    images, labels, index = (
        tf.constant(array[own]) for array in (images, labels, index)
    )
    with strategy.scope():
        robust = RobustClassifier(
            testing.small_network(normalization=None), method, seed=2
        )
        robust.compile(
            keras.optimizers.SGD(0.05, momentum=0.9),
            jit_compile=jit_compile,
            plan=Plan(STEPS, 1, EXAMPLES, EXAMPLES),
        )
        robust.optimizer.build(robust.trainable_variables)
    robust.make_train_function()
    batch = {"images": images, "index": index}, labels
    step = tf.function(lambda: strategy.run(robust.train_step, args=(batch,)))
    for _ in range(STEPS):
        step()
    return [np.array(variable) for variable in robust.trainable_variables]
