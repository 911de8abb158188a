"""Clean and robust accuracy after each epoch."""

import keras
import tensorflow as tf
from absl.testing import absltest

from tests.support.small_training import SmallTraining


class RobustValidationTest(tf.test.TestCase):
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
        again = validation.attack(*validation.examples, 0.02, seed=4)
        self.assertAllEqual(again.perturbation, validation.result.perturbation)
        self.assertTrue(again.perturbation.any())

    def test_averaged_weights_too(self):
        training = SmallTraining()
        training.robust.compile(keras.optimizers.SGD(2.0), weight_averaging=0.9)
        averaged_weights = training.robust.averaged_weights
        validation = training.validation(0.1, averaged_weights)
        history = training.fit(validation).history
        self.assertLen(history["val_averaged_robust_accuracy"], 2)

        def measure():
            result = validation.attack(*validation.examples, 0.1, seed=4)
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


if __name__ == "__main__":
    absltest.main()
