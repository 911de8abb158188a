"""Trains a network with Keras' `fit`, and wrapped with `Standard`."""

import keras
import numpy as np
import tensorflow as tf

from fastbat_tf import RobustClassifier, Standard

COUNT, CLASSES = 16, 4
_random = np.random.default_rng(0)
IMAGES = _random.uniform(size=(COUNT, 4, 4, 3)).astype("float32")
INTEGERS = _random.integers(0, CLASSES, COUNT)
ONE_HOT = np.eye(CLASSES, dtype="float32")[INTEGERS]
SMOOTHED = 0.8 * ONE_HOT + 0.05
BINARY = _random.integers(0, 2, COUNT)
WEIGHTS = _random.uniform(0, 2, COUNT).astype("float32")
CLASS_WEIGHT = {0: 0.5, 1: 2.0, 2: 1.5, 3: 0.25}


def sgd(**options):
    return lambda: keras.optimizers.SGD(0.1, momentum=0.9, **options)


def train(
    make,
    *,
    robust,
    images=IMAGES,
    labels=INTEGERS,
    loss="sparse_categorical_crossentropy",
    optimizer=None,
    epochs=2,
    seed=1,
    data=None,
    wrap=None,
    prepare=None,
    run_eagerly=True,
    jit_compile=False,
    compiled=None,
    **fit,
):
    """Trains for two epochs of three batches; the last one has four images.

    Args:
        make: Function that returns a network.
        robust: Boolean, whether to wrap the network in `RobustClassifier`.
        optimizer: Function that returns an optimizer. Defaults to SGD.
        data: Function that makes what `fit` takes of images and labels.
        wrap: Dict of arguments of `RobustClassifier`.
        prepare: Function that is called with the network.
        compiled: Dict of further arguments of `compile`.
        **fit: Further arguments of `fit`.

    Returns:
        Dict of lists of arrays by name.
    """
    keras.utils.set_random_seed(0)
    network = make()
    start = [v.numpy() for v in network.weights]
    model = network
    if robust:
        model = RobustClassifier(network, Standard(), **(wrap or {}))
    if prepare is not None:
        prepare(network)
    optimizer = (optimizer or sgd())()
    model.compile(
        optimizer,
        loss,
        run_eagerly=run_eagerly,
        jit_compile=jit_compile,
        **{"metrics": ["accuracy"], **(compiled or {})},
    )
    given = (images, labels) if data is None else data(images, labels)
    if data is None:
        fit = {"batch_size": 6, **fit}
    keras.utils.set_random_seed(seed)
    history = model.fit(
        *given, epochs=epochs, verbose=0, **{"shuffle": False, **fit}
    ).history
    tested = model.evaluate(images, labels, batch_size=8, verbose=0)
    return {
        "weights": [v.numpy() for v in network.weights],
        "optimizer": [v.numpy() for v in model.optimizer.variables],
        "history": {
            name: values
            for name, values in history.items()
            if not name.startswith("robust_")
        },
        "evaluate": [np.array(tested)],
        "predict": [np.asarray(model.predict_on_batch(images))],
        "moves": max(
            float(np.abs(v.numpy() - was).max())
            for v, was in zip(network.weights, start, strict=True)
            if "float" in v.dtype  # Not the state of a seed.
        ),
    }


def compare(test, tolerance, make, **settings):
    """Asserts that both trainings agree, and that the network has moved.

    Returns:
        The largest difference, relative to numbers above 1.
    """
    ours = train(make, robust=True, **settings)
    theirs = train(
        make, robust=False, **{k: v for k, v in settings.items() if k != "wrap"}
    )
    test.assertGreater(theirs["moves"], 1e-3)
    test.assertEqual(list(ours["history"]), list(theirs["history"]))
    largest = 0.0
    for part in ("weights", "optimizer", "evaluate", "predict", "history"):
        one, two = ours[part], theirs[part]
        names = list(two) if part == "history" else range(len(two))
        test.assertLen(one, len(names), part)
        for name in names:
            a, b = np.asarray(one[name]), np.asarray(two[name])
            test.assertEqual(a.shape, b.shape, f"{part} {name}")
            test.assertTrue(np.isfinite(b.astype("float64")).all(), part)
            test.assertAllClose(
                a, b, rtol=tolerance, atol=tolerance, msg=f"{part} {name}"
            )
            difference = np.abs(a - b) / np.maximum(1, np.abs(b))
            largest = max(largest, float(difference.max()))
    return largest


class Batches(keras.utils.PyDataset):
    """Batches of six, with the weights of the examples or without."""

    def __init__(self, *arrays, **kwargs):
        super().__init__(**kwargs)
        self.arrays = arrays

    def __len__(self):
        return -(-COUNT // 6)

    def __getitem__(self, i):
        return tuple(a[6 * i : 6 * i + 6] for a in self.arrays)


def generator(*arrays):
    """Yields batches of six, again and again."""
    while True:
        for i in range(0, COUNT, 6):
            yield tuple(a[i : i + 6] for a in arrays)


def dataset(*arrays):
    return tf.data.Dataset.from_tensor_slices(arrays).batch(6)
