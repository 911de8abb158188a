"""Clean and robust accuracy after each epoch."""

import keras
import numpy as np
import tensorflow as tf
from absl.testing import absltest

from fastbat_tf.attacks.pgd import PGD
from fastbat_tf.errors import InputError
from fastbat_tf.methods.fastat import FastAT
from fastbat_tf.training.callbacks import RobustAccuracy
from fastbat_tf.training.classifier import RobustClassifier
from tests.support.small_training import SmallTraining
from tests.support.testing import images_and_labels, small_network


class RobustAccuracyTest(tf.test.TestCase):
    def test_adds_to_the_logs(self):
        training = SmallTraining()
        validation = training.validation()
        later = []  # What later callbacks see at the end of an epoch.

        def look(epoch, logs):
            later.append((epoch, dict(logs), validation.result))

        history = training.fit(
            validation, keras.callbacks.LambdaCallback(on_epoch_end=look)
        ).history
        self.assertLen(later, 2)
        for epoch, logs, result in later:
            for name, value in (
                ("val_clean_accuracy", result.clean_correct.mean()),
                ("val_robust_accuracy", result.robust.mean()),
            ):
                self.assertIsInstance(logs[name], float)
                self.assertAlmostEqual(logs[name], value)
                self.assertEqual(history[name][epoch], logs[name])
        # The last result is that of the current weights.
        network = training.robust.network
        again = validation.attack.on(network)(
            *validation.examples, 0.02, seed=4
        )
        self.assertAllEqual(again.perturbation, validation.result.perturbation)
        self.assertTrue(again.perturbation.any())

    def test_batches(self):
        """A `tf.data.Dataset` is read; what holds no batches is refused."""
        training = SmallTraining()
        validation = training.validation()
        images, labels = validation.examples
        dataset = tf.data.Dataset.from_tensor_slices((images, labels))
        given = RobustAccuracy(dataset.batch(3))
        given.set_model(training.robust)
        for ours, theirs in zip(
            given.examples, validation.examples, strict=True
        ):
            self.assertAllEqual(ours, theirs)
        with self.assertRaisesRegex(InputError, r"Batches of \(images, labels"):
            RobustAccuracy(dataset)

    def test_averaged_weights_too(self):
        training = SmallTraining()
        training.robust.compile(keras.optimizers.SGD(2.0), weight_averaging=0.9)
        averaged_weights = training.robust.averaged_weights
        validation = training.validation(0.1, averaged_weights)
        history = training.fit(validation).history
        self.assertLen(history["val_averaged_robust_accuracy"], 2)

        attack = validation.attack.on(training.robust.network)

        def measure():
            result = attack(*validation.examples, 0.1, seed=4)
            return result.clean_correct.mean(), result.robust.mean()

        raw = measure()
        with averaged_weights():
            averaged = measure()
        self.assertNotEqual(raw, averaged)
        for prefix, measured in (("val_", raw), ("val_averaged_", averaged)):
            columns = f"{prefix}clean_accuracy", f"{prefix}robust_accuracy"
            found = tuple(history[column][-1] for column in columns)
            self.assertAllClose(found, measured)
        # The result is that of the raw weights.
        self.assertAllClose(validation.result.robust.mean(), raw[1])

    def test_what_is_no_attack(self):
        """Of attacks and methods, some have the same name."""
        for given, received in ((FastAT(), "FastAT"), (PGD, "the class PGD")):
            with self.assertRaisesRegex(
                InputError,
                f"fastbat_tf.PGD, train. Received: attack={received}$",
            ):
                RobustAccuracy(images_and_labels(4), given)

    def test_examples_in_the_range_of_the_classifier(self):
        images, labels = images_and_labels(4)
        for pixel_range, given in (
            ((0, 1), images),
            ((-1, 1), 2 * images - 1),
            ((0, 255), 255 * images),
        ):
            robust = RobustClassifier(
                small_network(normalization=None),
                FastAT(),
                pixel_range=pixel_range,
            )
            validation = RobustAccuracy((given, labels), PGD(0.1, steps=1))
            for _ in range(2):  # As in a second `fit`.
                validation.set_model(robust)
                found, found_labels = validation.examples
                self.assertAllClose(found, images, 1e-5, 1e-6)
                self.assertAllInRange(found, 0, 1)
                self.assertAllEqual(found_labels, labels)
            logs = {}
            validation.on_epoch_end(0, logs)
            expected = np.mean(
                robust.predict(given, verbose=0).argmax(-1) == labels
            )
            self.assertEqual(logs["val_clean_accuracy"], expected)


if __name__ == "__main__":
    absltest.main()
