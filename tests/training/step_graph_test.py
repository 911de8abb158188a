"""The order in which the operations of a step run."""

import keras
import numpy as np
import tensorflow as tf

from fastbat_tf import FastBAT, RobustClassifier
from fastbat_tf.training import step_graph
from tests.support import testing


class StepGraphTest(tf.test.TestCase):
    def test_operations_wait_for_the_one_before(self):
        def function(x):
            first, second, third = x * 2.0, x * 3.0, x - 1.0
            return first + second + third

        traced = tf.function(
            step_graph.with_less_memory(function), autograph=False
        ).get_concrete_function(tf.TensorSpec([4, 6]))
        chain = [
            x for x in traced.graph.get_operations() if x.type in ("Mul", "Sub")
        ]
        self.assertLen(chain, 3)
        for before, operation in zip(chain, chain[1:], strict=False):
            self.assertIn(before, operation.control_inputs)
        self.assertAllEqual(traced(tf.ones([4, 6])), 5 * np.ones([4, 6]))

    def test_step_of_convolutions_with_biases(self):
        # oneDNN merges the gradients of a kernel and a bias.
        network = testing.small_network()
        robust = RobustClassifier(network, FastBAT())
        robust.compile(keras.optimizers.SGD(0.1), jit_compile=False)
        images, labels = testing.images_and_labels(4, dtype="float32")
        logs = robust.train_on_batch(images, labels, return_dict=True)
        self.assertTrue(np.isfinite(logs["loss"]))


if __name__ == "__main__":
    tf.test.main()
