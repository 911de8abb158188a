"""Two updates of every method on mixed labels against NumPy."""

from unittest import mock

import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from fastbat_tf import methods
from tests.methods import reference_test
from tests.support import golden_network, numpy_network


def mixed(labels):
    """Labels as CutMix makes them, of which the given ones are the likeliest.

    Some images are mixed with one of the same class, and one is not mixed.
    """
    own = np.eye(reference_test.CLASSES)[labels]
    share = np.linspace(0, 0.45, len(labels))[:, np.newaxis]
    return (1 - share) * own + share * np.roll(own, -3, axis=0)


class Mixed(reference_test.Recorded):
    def train_step(self, data):
        inputs, labels = data
        return super().train_step((inputs, tf.constant(mixed(labels.numpy()))))


class MixedUpdate(numpy_network.Update):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.targets = mixed(self.labels)


class MixedLabelsTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(*methods.METHODS)
    def test_two_updates(self, name):
        reference = reference_test.MethodReferenceTest()
        reference.check_that_it_says_something = mock.Mock()
        with (
            mock.patch.object(reference_test, "Recorded", Mixed),
            mock.patch.object(numpy_network, "Update", MixedUpdate),
            golden_network.precision("float64"),
        ):
            reference.check(name, *reference_test.CASES[name])

    def test_labels_are_mixed(self):
        labels = mixed(reference_test.batch(0)[1])
        self.assertAllEqual(np.argmax(labels, -1), reference_test.batch(0)[1])
        self.assertGreater(np.sum(np.max(labels, -1) < 0.9), 1)


if __name__ == "__main__":
    tf.test.main()
