"""Every method on one device and on two: the same step."""

import numpy as np
import pytest
import tensorflow as tf
from absl.testing import parameterized

from fastbat_tf import Plan, RobustClassifier, methods
from fastbat_tf.draws import Draws
from tests.support import testing

BATCH, REPLICAS, CLASSES = 4, 2, 4
WHOLE = BATCH * REPLICAS
PLAN = Plan(epochs=1, steps_per_epoch=2, batch_size=WHOLE, examples=10)
INDEX = np.array([[7, 3, 0, 9, 4, 1, 6, 2], [9, 8, 7, 6, 5, 4, 3, 2]])

# Draws that are no noise: the shape of one example's, or of all, and whether
# it is one for all examples.
SHAPES = {
    "share": ((), False),
    "start_radius": ((1, 1, 1), False),
    "smoothing": ((CLASSES,), False),
    "attack_smoothing": ((CLASSES,), False),
    "gray_smoothing": ((CLASSES, CLASSES), True),
    "mask_ratio": ((), True),
    "sign": ((), True),
}
# Their losses look at a batch as a whole: the replicas get the same images.
OF_A_BATCH = ("aaer", "fgsm_pco")


class Recorded:
    """The same numbers for an example, wherever it is."""

    def __init__(self, replica, repeats):
        self._replica, self._repeats = replica, repeats

    def uniform(self, name, shape, minval, maxval, dtype):
        trailing, shared = SHAPES.get(name, ((8, 8, 3), False))
        if shared:
            drawn = Draws(5, 0).uniform(name, trailing, 0.0, 1.0, dtype)
            return minval + drawn * (maxval - minval)
        count = BATCH if self._repeats else WHOLE
        drawn = Draws(5, 0).uniform(name, (count, *trailing), 0.0, 1.0, dtype)
        drawn = minval + drawn * (maxval - minval)
        if self._repeats:
            drawn = tf.concat([drawn, drawn], 0)
        first = shape[0] * tf.cast(self._replica, tf.int32)
        return drawn[first : first + shape[0]]


class Replayed(RobustClassifier):
    repeats = False

    def draws(self, step, replica):
        return Recorded(replica, self.repeats)


def train(name, replicas, compiled=False, run_eagerly=False, **options):
    strategy = tf.distribute.get_strategy()
    if replicas > 1:
        strategy = testing.two_cpu_strategy()
    repeats = name in OF_A_BATCH
    with strategy.scope():
        network = testing.small_network(normalization=None)
        robust = Replayed(network, methods.get(name, **options), seed=2)
        robust.repeats = repeats
        robust.compile(
            "sgd", plan=PLAN, jit_compile=compiled, run_eagerly=run_eagerly
        )
    images, labels = testing.images_and_labels(BATCH if repeats else WHOLE)
    if repeats:
        images, labels = np.tile(images, (2, 1, 1, 1)), np.tile(labels, 2)
    batches = [
        tf.data.Dataset.from_tensors(
            ({"images": images, "index": index.astype("int32")}, labels)
        )
        for index in INDEX
    ]
    data = batches[0].concatenate(batches[1])
    robust.fit(data, shuffle=False, verbose=0)
    return robust


class ReplicasTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.named_parameters(
        *zip(methods.METHODS, methods.METHODS, strict=True)
    )
    # Each kind of state, of penalty and correction, and what looks at a whole
    # batch. The others combine these.
    @pytest.mark.quick(
        "fastbat",
        "trades",
        "gat",
        "liet",
        "fgsm_mep_cs",
        "fgsm_uap",
        "free",
        "ssat",
        "aaer",
        "fgsm_pco",
    )
    def test_two_replicas_are_one_device(self, name):
        """Without BatchNormalization, weights and what is remembered."""
        self.assert_same(train(name, 1, run_eagerly=True), train(name, 2))

    @parameterized.parameters("fastbat", "pgd")
    def test_two_replicas_in_l2(self, name):
        one = train(name, 1, run_eagerly=True, norm="l2")
        self.assert_same(one, train(name, 2, norm="l2"))

    @parameterized.parameters("fgsm_mep_cs", "fgsm_fuap", "liet", "free")
    @pytest.mark.slow
    def test_two_compiled_replicas(self, name):
        self.assert_same(
            train(name, 1, run_eagerly=True), train(name, 2, compiled=True)
        )

    def assert_same(self, one, two):
        self.assertEqual(len(one.weights), len(two.weights))
        for ours, theirs in zip(one.weights, two.weights, strict=True):
            self.assertAllClose(ours, theirs, 1e-4, 2e-6, msg=ours.path)
        for variable in two.method_state.variables:
            value = variable.value
            if isinstance(value, tf.distribute.DistributedValues):
                first, second = (v.numpy() for v in value.values)
                self.assertAllEqual(first, second, variable.path)


if __name__ == "__main__":
    tf.test.main()
