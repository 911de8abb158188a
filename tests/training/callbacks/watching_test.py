"""Tests of what watches a training."""

import contextlib
import io
import math
import pathlib
import tempfile
import time
from unittest import mock

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized
from tensorboard.backend.event_processing import event_accumulator

from fastbat_tf.attacks.pgd import PGDAttack
from fastbat_tf.data.loading import Examples
from fastbat_tf.errors import NonFiniteError
from fastbat_tf.methods.fastat import FastAT
from fastbat_tf.methods.fastbat import FastBAT
from fastbat_tf.runtime import display
from fastbat_tf.saving.model_files import logits_of
from fastbat_tf.training import callbacks
from fastbat_tf.training.classifier import RobustClassifier
from tests.support.testing import images_and_labels, small_network

BROKEN = 3  # A label.


class BreaksAtLabel(keras.losses.SparseCategoricalCrossentropy):
    """Is not a number for one label, nor are its derivatives."""

    def __init__(self):
        super().__init__(from_logits=True)

    def call(self, y_true, y_pred):
        factor = tf.where(tf.equal(y_true, BROKEN), math.nan, 1.0)
        return factor * super().call(y_true, y_pred)


class Watched:
    """A training of 2 epochs with 4 steps of 5 images each."""

    def __init__(self, method=None, broken_batch=None):
        # Of the 8 batches of both epochs, one can be broken.
        images, labels = images_and_labels(40)
        loss = None
        if broken_batch is not None:
            images, labels = images_and_labels(40, classes=BROKEN)
            labels[5 * broken_batch + 2] = BROKEN
            loss = BreaksAtLabel()
        self.batches = tf.data.Dataset.from_tensor_slices(
            (images, labels)
        ).batch(5)
        self.robust = RobustClassifier(
            small_network(normalization=None), method or FastAT(epsilon=0.02)
        )
        self.robust.compile(keras.optimizers.SGD(0.05), loss)

    def validation(self, epsilon=0.02, averaged_weights=None):
        attack = PGDAttack(logits_of(self.robust.classifier), steps=2)
        examples = Examples(*images_and_labels(12, seed=1))
        return callbacks.RobustValidation(
            attack, examples, epsilon, 4, averaged_weights
        )

    def fit(self, *watching):
        return self.robust.fit(
            self.batches,
            epochs=2,
            steps_per_epoch=4,
            shuffle=False,
            callbacks=list(watching),
            verbose=0,
        )


class RobustValidationTest(tf.test.TestCase):
    def test_adds_to_the_logs(self):
        watched = Watched()
        validation = watched.validation()
        later = []  # What callbacks behind it see at the end of an epoch.

        def look(epoch, logs):
            later.append((epoch, dict(logs), validation.result))

        history = watched.fit(
            validation, keras.callbacks.LambdaCallback(on_epoch_end=look)
        ).history
        self.assertLen(later, 2)
        for epoch, logs, result in later:
            for name, value in (
                ("val_accuracy", result.clean_correct.mean()),
                ("val_robust_accuracy", result.robust.mean()),
            ):
                self.assertIsInstance(logs[name], float)
                self.assertAlmostEqual(logs[name], value)
                self.assertEqual(history[name][epoch], logs[name])
        # The last one is of the weights that are there now.
        again = validation.attack(*validation.examples, 0.02, seed=4)
        self.assertAllEqual(again.perturbation, validation.result.perturbation)
        self.assertTrue(again.perturbation.any())

    def test_averaged_weights_too(self):
        watched = Watched()
        watched.robust.compile(keras.optimizers.SGD(2.0), weight_averaging=0.9)
        averaged_weights = watched.robust.averaged_weights
        validation = watched.validation(0.1, averaged_weights)
        history = watched.fit(validation).history
        self.assertLen(history["val_averaged_robust_accuracy"], 2)

        def measure():
            result = validation.attack(*validation.examples, 0.1, seed=4)
            return result.clean_correct.mean(), result.robust.mean()

        raw = measure()
        with averaged_weights():
            averaged = measure()
        self.assertNotEqual(raw, averaged)
        for prefix, measured in (("val_", raw), ("val_averaged_", averaged)):
            columns = f"{prefix}accuracy", f"{prefix}robust_accuracy"
            found = tuple(history[column][-1] for column in columns)
            self.assertAllClose(found, measured)
        # What is shown is of the raw weights.
        self.assertAllClose(validation.result.robust.mean(), raw[1])


class BestWeightsTest(tf.test.TestCase):
    """Each epoch has weights of its own, and the file is read after each."""

    def story(self, rows, averaged):
        keras.utils.set_random_seed(0)
        robust = Watched().robust
        robust.compile("sgd", weight_averaging=0.5)
        (average,) = (
            robust.weight_average.averages[i]
            for i, v in enumerate(robust.classifier.weights)
            if v.path.startswith("dense/bias")
        )
        bias = robust.classifier.get_layer("dense").bias
        path = pathlib.Path(self.get_temp_dir(), "best.weights.h5")
        best = callbacks.BestWeights(
            path, "val_accuracy", robust.averaged_weights if averaged else None
        )
        best.set_model(robust)
        found = []
        for epoch, row in enumerate(rows):
            bias.assign([float(epoch)] * 4)
            average.assign([epoch + 0.5] * 4)
            names = ("val_accuracy", "val_averaged_accuracy")
            best.on_epoch_end(epoch, dict(zip(names, row, strict=True)))
            self.assertAllEqual(bias, [epoch] * 4)
            again = RobustClassifier(
                small_network(normalization=None), FastAT()
            )
            again.load_weights(path)
            saved = again.classifier.get_layer("dense").bias.numpy()[0]
            found.append((float(saved), best.column))
        return found

    def test_the_better_of_both(self):
        raw, averaged = "val_accuracy", "val_averaged_accuracy"
        self.assertEqual(
            self.story([(3, 2), (1, 4), (4, 4), (5, 6), (7, 7)], True),
            [
                (0.0, raw),
                (1.5, averaged),
                (1.5, averaged),  # Of equals the first.
                (3.5, averaged),
                (4.0, raw),
            ],
        )

    def test_raw_alone(self):
        raw = "val_accuracy"
        self.assertEqual(
            self.story([(3, 9), (1, 9), (4, 9)], False),
            [(0.0, raw), (0.0, raw), (2.0, raw)],
        )


class PerturbationPanelTest(tf.test.TestCase):
    def validation(self, shift):
        """With labels that are the predictions, or are all others."""
        validation = Watched().validation(epsilon=0.1)
        images, _ = validation.examples
        predicted = np.argmax(validation.attack.network(images), axis=-1)
        validation.examples = Examples(images, (predicted + shift) % 4)
        return validation

    def read(self, directory):
        """The images of the panel as arrays, by step."""
        events = event_accumulator.EventAccumulator(
            directory, {event_accumulator.TENSORS: 0}
        ).Reload()
        tags = events.Tags()["tensors"]
        if not tags:
            return {}
        self.assertEqual(tags, ["clean, perturbed, difference"])
        return {
            event.step: tf.io.decode_png(
                event.tensor_proto.string_val[2]
            ).numpy()
            for event in events.Tensors(tags[0])
        }

    def test_three_rows(self):
        directory = self.enterContext(tempfile.TemporaryDirectory())
        validation = self.validation(shift=0)
        validation.examples.labels[1] += 1
        panel = callbacks.PerturbationPanel(validation, directory, columns=3)
        panel.on_train_begin()
        for epoch in (0, 1):
            validation.on_epoch_end(epoch, {})
            panel.on_epoch_end(epoch, {})
        panel.on_train_end()
        panels = self.read(directory)
        self.assertEqual(set(panels), {0, 1})
        # Every pixel is a square of 3 x 3.
        pixels = panels[1][::3, ::3]
        self.assertAllEqual(pixels.repeat(3, 0).repeat(3, 1), panels[1])
        rows = pixels.reshape(3, 8, 3, 8, 3).transpose(0, 2, 1, 3, 4)
        # The first three that are classified correctly: the second is not.
        shown = [0, 2, 3]
        clean = validation.examples.images[shown]
        delta = validation.result.perturbation[shown]
        self.assertAllClose(rows[0], 255 * clean, atol=1)
        self.assertAllClose(rows[1], 255 * (clean + delta), atol=1)
        # -epsilon is black, zero is gray, +epsilon is white.
        self.assertAllClose(rows[2], 255 * (0.5 + 0.5 * delta / 0.1), atol=1)
        self.assertLess(rows[2].min(), 60)
        self.assertGreater(rows[2].max(), 195)

    def test_gray_images(self):
        directory = self.enterContext(tempfile.TemporaryDirectory())
        images = np.random.default_rng(0).integers(0, 256, (4, 28, 28, 1))
        validation = mock.Mock(epsilon=0.1)
        validation.examples.images = images.astype(np.uint8)
        validation.result.clean_correct = np.ones(4, bool)
        validation.result.perturbation = np.zeros(images.shape, np.float32)
        panel = callbacks.PerturbationPanel(validation, directory, columns=4)
        panel.on_train_begin()
        panel.on_epoch_end(0)
        panel.on_train_end()
        pixels = self.read(directory)[0][::3, ::3]
        self.assertEqual(pixels.shape, (3 * 28, 4 * 28, 1))
        self.assertAllEqual(pixels[:28], np.hstack(images))
        self.assertAllInRange(pixels[56:], 127, 128)

    def test_nothing_to_show(self):
        directory = self.enterContext(tempfile.TemporaryDirectory())
        validation = self.validation(shift=1)
        validation.on_epoch_end(0, {})
        panel = callbacks.PerturbationPanel(validation, directory)
        panel.on_train_begin()
        panel.on_epoch_end(0)
        panel.on_train_end()
        self.assertEqual(self.read(directory), {})


class StopOnNonFiniteTest(parameterized.TestCase, tf.test.TestCase):
    @parameterized.parameters((0, 1, 1), (3, 1, 4), (4, 2, 1), (6, 2, 3))
    def test_names_epoch_and_step(self, batch, epoch, step):
        watched = Watched(broken_batch=batch)
        with self.assertRaises(NonFiniteError) as caught:
            watched.fit(callbacks.StopOnNonFinite())
        self.assertEqual(
            str(caught.exception),
            f"The loss is not finite in epoch {epoch}, step {step}; expected "
            "a number. Received: loss=nan",
        )
        self.assertEqual(watched.robust.optimizer.iterations, batch + 1)

    def test_the_last_good_checkpoint_stays(self):
        watched = Watched(broken_batch=6)
        path = pathlib.Path(
            self.enterContext(tempfile.TemporaryDirectory()), "last.weights.h5"
        )
        checkpoint = keras.callbacks.ModelCheckpoint(
            str(path), save_weights_only=True
        )
        with self.assertRaises(NonFiniteError):
            watched.fit(callbacks.StopOnNonFinite(), checkpoint)
        self.assertTrue(
            np.isnan(watched.robust.classifier.weights[0].numpy()).any(),
            "This test should break the weights.",
        )
        watched.robust.load_weights(path)
        self.assertEqual(watched.robust.optimizer.iterations, 4)
        for weights in watched.robust.weights:
            self.assertAllInRange(weights.numpy(), -100, 100)

    def test_with_a_method_that_differentiates_twice(self):
        watched = Watched(FastBAT(), broken_batch=5)
        with self.assertRaisesRegex(NonFiniteError, "in epoch 2, step 2;"):
            watched.fit(callbacks.StopOnNonFinite())

    @parameterized.parameters(math.inf, -math.inf, math.nan)
    def test_gradient(self, norm):
        watching = callbacks.StopOnNonFinite()
        watching.on_epoch_begin(11)
        watching.on_train_batch_end(0, {"loss": 1.0, "gradient_norm": 3.0})
        with self.assertRaisesRegex(
            NonFiniteError,
            "^The gradient norm is not finite in epoch 12, step 31; expected "
            f"a number. Received: gradient_norm={norm}$",
        ):
            watching.on_train_batch_end(
                30, {"loss": 1.0, "gradient_norm": norm}
            )

    def test_a_good_training_ends(self):
        history = Watched().fit(callbacks.StopOnNonFinite()).history
        self.assertLen(history["loss"], 2)


class TimeForecastTest(parameterized.TestCase, tf.test.TestCase):
    def test_prints_once(self):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            Watched().fit(callbacks.TimeForecast("Buy a GPU.", steps=2))
        lines = printed.getvalue().strip().splitlines()
        self.assertLen(lines, 1)
        self.assertRegex(
            lines[0],
            r"^\d+\.\d\d s/step: about \d+ s for all 2 epochs, without "
            r"validation and measurement\.$",
        )

    @parameterized.parameters(
        # 2,000 steps, timed on 3 of them: long ones get the hint.
        (7.5, "2.50 s/step: about 1 h 23 min", " Hint."),
        (2.73, "0.91 s/step: about 30 min", " Hint."),
        (2.67, "0.89 s/step: about 30 min", ""),
        (0.15, "0.05 s/step: about 100 s", ""),
    )
    def test_the_first_step_is_left_out(self, seconds, expected, hint):
        forecast = callbacks.TimeForecast("Hint.", steps=3)
        forecast.set_params({"steps": 100, "epochs": 20})
        printed, now = io.StringIO(), 0.0
        with (
            contextlib.redirect_stdout(printed),
            mock.patch.object(time, "perf_counter") as clock,
        ):
            clock.side_effect = lambda: now
            for step in range(200):
                # The first step takes a minute, those not timed too.
                now += seconds / 3 if 1 <= step <= 3 else 60
                forecast.on_train_batch_end(step)
                self.assertEqual(bool(printed.getvalue()), step >= 3)
        self.assertEqual(
            printed.getvalue().strip(),
            f"{expected} for all 20 epochs, without validation and "
            f"measurement.{hint}",
        )

    def test_a_generator_of_unknown_length(self):
        """Nobody knows how long it will take; all else is told."""
        batches = list(Watched().batches.take(3).as_numpy_iterator())
        robust = Watched().robust
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            robust.fit(
                (batch for batch in batches),
                epochs=1,
                shuffle=False,
                callbacks=[
                    callbacks.TrainingProgress(),
                    callbacks.TimeForecast("Buy a GPU.", steps=2),
                ],
                verbose=0,
            )
        forecast, epoch = printed.getvalue().splitlines()
        self.assertRegex(forecast, r"^\d+\.\d\d s/step$")
        self.assertRegex(epoch, r"^epoch 1/1  loss \d.* s/step$")

    @parameterized.parameters(
        (0, "0 s"),
        (1.4, "1 s"),
        (119, "119 s"),
        (120, "2 min"),
        (200, "3 min"),
        (3540, "59 min"),
        (3599, "1 h 0 min"),
        (5000, "1 h 23 min"),
        (100 * 3600, "100 h 0 min"),
    )
    def test_duration(self, seconds, expected):
        self.assertEqual(display.duration(seconds), expected)


if __name__ == "__main__":
    tf.test.main()
