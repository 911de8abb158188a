"""A training with a loss or gradient that is not finite."""

import math
import pathlib
import tempfile

import keras
import numpy as np
import tensorflow as tf
from absl.testing import absltest, parameterized

from fastbat_tf.errors import NonFiniteError
from fastbat_tf.methods.fastbat import FastBAT
from fastbat_tf.training import callbacks
from tests.support.small_training import SmallTraining


class StopOnNonFiniteTest(parameterized.TestCase, tf.test.TestCase):
    @parameterized.parameters((0, 1, 1), (3, 1, 4), (4, 2, 1), (6, 2, 3))
    def test_names_epoch_and_step(self, batch, epoch, step):
        training = SmallTraining(broken_batch=batch)
        with self.assertRaises(NonFiniteError) as caught:
            training.fit(callbacks.StopOnNonFinite())
        self.assertEqual(
            str(caught.exception),
            f"The loss is not finite in epoch {epoch}, step {step}; expected "
            "a number. Received: loss=nan",
        )
        self.assertEqual(training.robust.optimizer.iterations, batch + 1)

    def test_the_last_good_checkpoint_stays(self):
        training = SmallTraining(broken_batch=6)
        path = pathlib.Path(
            self.enterContext(tempfile.TemporaryDirectory()), "last.weights.h5"
        )
        checkpoint = keras.callbacks.ModelCheckpoint(
            str(path), save_weights_only=True
        )
        with self.assertRaises(NonFiniteError):
            training.fit(callbacks.StopOnNonFinite(), checkpoint)
        self.assertTrue(
            np.isnan(training.robust.classifier.weights[0].numpy()).any(),
            "This test should break the weights.",
        )
        training.robust.load_weights(path)
        self.assertEqual(training.robust.optimizer.iterations, 4)
        for weights in training.robust.weights:
            self.assertAllInRange(weights.numpy(), -100, 100)

    def test_with_a_method_that_differentiates_twice(self):
        training = SmallTraining(FastBAT(), broken_batch=5)
        with self.assertRaisesRegex(NonFiniteError, "in epoch 2, step 2;"):
            training.fit(callbacks.StopOnNonFinite())

    @parameterized.parameters(math.inf, -math.inf, math.nan)
    def test_gradient(self, norm):
        watching = callbacks.StopOnNonFinite()
        watching.on_epoch_begin(11)
        watching.on_train_batch_end(
            0, {"loss": 1.0, "robust_gradient_norm": 3.0}
        )
        with self.assertRaisesRegex(
            NonFiniteError,
            "^The gradient norm is not finite in epoch 12, step 31; expected "
            f"a number. Received: robust_gradient_norm={norm}$",
        ):
            watching.on_train_batch_end(
                30, {"loss": 1.0, "robust_gradient_norm": norm}
            )

    def test_a_good_training_ends(self):
        history = SmallTraining().fit(callbacks.StopOnNonFinite()).history
        self.assertLen(history["loss"], 2)


if __name__ == "__main__":
    absltest.main()
