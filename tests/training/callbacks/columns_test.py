"""What callbacks add to the logs, beside the metrics of the user."""

import keras
import tensorflow as tf
from absl.testing import absltest, parameterized

from fastbat_tf.attacks.fgsm import FGSM
from fastbat_tf.errors import InputError
from fastbat_tf.training import callbacks
from tests.support.small_training import Constant, SmallTraining
from tests.support.testing import images_and_labels


class ColumnsTest(parameterized.TestCase, tf.test.TestCase):
    def test_validation_data_keeps_its_columns(self):
        training = SmallTraining()
        training.robust.compile("sgd", metrics=["accuracy"])
        validation = training.validation()
        given = images_and_labels(4, seed=3)
        history = training.robust.fit(
            training.batches,
            validation_data=given,
            callbacks=[validation],
            verbose=0,
        ).history
        _, accuracy = training.robust.evaluate(*given, verbose=0)
        self.assertAllClose(history["val_accuracy"], [accuracy])
        self.assertAllClose(
            history["val_clean_accuracy"],
            [validation.result.clean_correct.mean()],
        )

    @parameterized.parameters(
        ("clean_accuracy", "val_clean_accuracy", 1),
        ("fgsm_accuracy", "val_fgsm_accuracy", 1),
        ("overfitting_alarm", "overfitting_alarm", 0),
        ("seconds", "seconds", 0),
    )
    def test_a_taken_name(self, metric, name, epochs):
        """Before the training, if the metric's name is enough to know."""
        training = SmallTraining()
        training.robust.compile("sgd", metrics=[Constant(name=metric)])
        ended = []
        with self.assertRaisesRegex(
            InputError,
            f"^A callback logs `{name}`, but a metric or another callback has "
            f"this name; expected it once. Received: name={name}$",
        ):
            training.robust.fit(
                training.batches,
                validation_data=images_and_labels(4),
                callbacks=[
                    keras.callbacks.LambdaCallback(
                        on_epoch_end=lambda epoch, logs: ended.append(epoch)
                    ),
                    training.validation(),
                    callbacks.OverfittingScores(
                        images_and_labels(4), FGSM(0.1), None
                    ),
                    callbacks.OverfittingGuard(),
                    callbacks.Timing(None),
                ],
                verbose=0,
            )
        self.assertLen(ended, epochs)

    @parameterized.parameters(
        (
            callbacks.OverfittingScores(images_and_labels(4), FGSM(0.1), None),
            "val_robust_accuracy",
            "RobustAccuracy",
        ),
        (
            callbacks.BestWeights("x.weights.h5", "val_clean_accuracy"),
            "val_clean_accuracy",
            "RobustAccuracy",
        ),
        (
            callbacks.OverfittingGuard(),
            "val_overfitting_gap",
            "OverfittingScores",
        ),
    )
    def test_a_missing_name(self, callback, name, source):
        with self.assertRaisesRegex(
            InputError,
            f"^The logs do not hold `{name}`; expected a `{source}` before "
            "this callback in the list. Received: logs=loss, val_loss$",
        ):
            callback.on_epoch_end(0, {"loss": 1.0, "val_loss": 1.0})


if __name__ == "__main__":
    absltest.main()
