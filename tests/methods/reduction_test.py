"""The weights of the examples in the terms that methods minimize."""

import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from fastbat_tf import Plan, RobustClassifier, methods
from fastbat_tf.draws import Draws
from tests.support import testing

# Their penalty is one of the whole batch: a nuclear norm, and the mean of those
# cosines that are defined.
OF_THE_BATCH = {"nuat", "gradalign"}


class ReductionTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(*sorted({*methods.METHODS} - OF_THE_BATCH))
    def test_weights_count_in_every_term(self, name):
        images, labels = testing.images_and_labels(4)
        robust = RobustClassifier(
            testing.small_network(normalization=None), methods.get(name)
        )
        robust.compile("sgd", plan=Plan(4, 2, 4, 4), run_eagerly=True)
        once, thrice = (
            robust.compute_gradients(
                tf.constant(images),
                tf.constant(labels),
                Draws(0, 0),
                index=tf.range(4),
                step=6,
                sample_weight=tf.fill([4], weight),
            )
            for weight in (1.0, 3.0)
        )
        self.assertAllClose(thrice.loss, 3 * once.loss, 1e-5)
        for one, three in zip(once.gradients, thrice.gradients, strict=True):
            scale = np.abs(three).max()
            self.assertAllClose(three, 3 * one, 0, 1e-5 * scale + 1e-7)


if __name__ == "__main__":
    tf.test.main()
