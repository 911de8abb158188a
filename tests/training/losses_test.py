"""Training losses against NumPy, and where they are used."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from absl.testing import parameterized

from fastbat_tf.attacks import losses as attack_losses
from fastbat_tf.draws import Draws
from fastbat_tf.errors import InputError
from fastbat_tf.layers.outputs import Outputs
from fastbat_tf.methods.fastat import FastAT
from fastbat_tf.methods.fastbat import FastBAT
from fastbat_tf.methods.gradalign import GradAlign
from fastbat_tf.methods.standard import Standard
from fastbat_tf.methods.step import StepContext
from fastbat_tf.training import losses
from fastbat_tf.training.classifier import RobustClassifier
from tests.support import testing


def logits_and_labels(classes=5):
    random = np.random.default_rng(0)
    logits = random.normal(0, 3, (8, classes)).astype("float32")
    return logits, random.integers(0, classes, 8, dtype="int32")


def smoothed(logits, labels, smoothing):
    """- sum_j t_j log softmax(z)_j, with the targets over all classes."""
    classes = logits.shape[1]
    targets = (1 - smoothing) * np.eye(classes)[labels] + smoothing / classes
    shifted = logits - logits.max(1, keepdims=True)
    log_softmax = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    return -(targets * log_softmax).sum(1)


class ValuesTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(0.0, 0.1, 0.4)
    def test_crossentropy(self, smoothing):
        logits, labels = logits_and_labels()
        loss = losses.get("crossentropy", label_smoothing=smoothing)
        expected = smoothed(logits.astype("float64"), labels, smoothing)
        self.assertAllClose(loss.call(labels, logits), expected, 1e-5)
        self.assertAllClose(loss(labels, logits), expected.mean(), 1e-5)

    def test_dlr(self):
        logits, labels = logits_and_labels()
        found = losses.get("dlr").call(labels, logits)
        for row, label, value in zip(logits, labels, found, strict=True):
            ordered = np.sort(row)[::-1]
            margin = np.delete(row, label).max() - row[label]
            self.assertAllClose(value, margin / (ordered[0] - ordered[2]), 1e-5)
        self.assertAllEqual(
            found, attack_losses.get("dlr")(tf.constant(logits), labels, None)
        )

    def test_dlr_of_two_classes(self):
        logits, labels = logits_and_labels(2)
        self.assertAllClose(
            losses.get("dlr").call(labels, tf.constant(logits)),
            [
                row[1 - y] - row[y]
                for row, y in zip(logits, labels, strict=True)
            ],
        )

    @parameterized.parameters("crossentropy", "dlr")
    def test_labels_as_keras_gives_them(self, name):
        options = {"label_smoothing": 0.2} if name == "crossentropy" else {}
        logits, labels = logits_and_labels()
        loss = losses.get(name, **options)
        expected = np.mean(loss.call(labels, logits))
        self.assertAllClose(loss(labels[:, np.newaxis], logits), expected)
        self.assertAllClose(loss(labels.astype("float32"), logits), expected)

    @parameterized.parameters("crossentropy", "dlr")
    def test_round_trip(self, name):
        options = {"label_smoothing": 0.2} if name == "crossentropy" else {}
        loss = losses.get(name, **options)
        again = keras.saving.deserialize_keras_object(
            keras.saving.serialize_keras_object(loss)
        )
        logits, labels = logits_and_labels()
        self.assertAllEqual(again(labels, logits), loss(labels, logits))
        self.assertIs(losses.as_loss("loss", again, Outputs(None, 5)), again)

    @parameterized.parameters(
        ("mse", (8,)),
        ("mse", (8, 1)),  # Keras broadcasts them to all classes.
        ("categorical_crossentropy", (8,)),
        ("binary_crossentropy", (8, 1)),
        ("sparse_categorical_crossentropy", (8, 3)),
    )
    def test_labels_of_another_form(self, name, shape):
        form = Outputs("softmax", 3)
        loss = losses.as_loss("loss", name, form)
        with self.assertRaisesRegex(
            InputError, "^The loss expects labels .*Received: loss="
        ):
            losses.by_example(loss, form)(tf.ones(shape), tf.zeros((8, 3)))

    def test_refused(self):
        with self.assertRaisesRegex(
            InputError, r"crossentropy, dlr\. Received: loss=mse$"
        ):
            losses.get("mse")
        with self.assertRaisesRegex(InputError, "^`attack_loss` .*=nonsense$"):
            losses.as_loss("attack_loss", "nonsense", Outputs(None, 5))


class TrainingTest(tf.test.TestCase, parameterized.TestCase):
    def test_refused_by_compile_and_by_the_step(self):
        class Doubled(keras.losses.MeanSquaredError):
            def __call__(self, *args, **kwargs):
                return 2 * super().__call__(*args, **kwargs)

        def of_classes(y_true, y_pred):
            return tf.reduce_mean((y_true - y_pred) ** 2, 0)

        robust = RobustClassifier(testing.small_network(), Standard())
        with self.assertRaisesRegex(InputError, "Received: loss=Doubled$"):
            robust.compile(loss=Doubled())
        robust.compile(loss=of_classes)
        images, labels = testing.images_and_labels(8)
        with self.assertRaisesRegex(InputError, r"the shape \(4,\)$"):
            robust.fit(images, np.eye(4)[labels], batch_size=3, verbose=0)

    @parameterized.parameters(
        ("crossentropy", FastBAT, True),
        ("crossentropy", GradAlign, False),
        ("dlr", FastBAT, True),
        ("dlr", GradAlign, False),
        ("dlr", FastAT, False),
    )
    # Each loss, and each way of running, once.
    @pytest.mark.quick("crossentropy GradAlign", "dlr FastBAT")
    def test_trains_and_evaluates(self, name, method, compiled):
        options = {"label_smoothing": 0.3} if name == "crossentropy" else {}
        images, labels = testing.images_and_labels(8)
        robust = RobustClassifier(testing.small_network(), method())
        robust.compile(
            keras.optimizers.SGD(0.05),
            losses.get(name, **options),
            jit_compile=compiled,
        )
        first = robust.evaluate(images, labels, return_dict=True, verbose=0)
        for _ in range(15):
            robust.train_on_batch(images, labels)
        last = robust.evaluate(images, labels, return_dict=True, verbose=0)
        self.assertLess(last["loss"], first["loss"])

    def test_second_derivatives_of_dlr(self):
        """The implicit term, twice in reverse, against differences."""
        logits, labels = logits_and_labels()
        logits = tf.constant(logits, tf.float64)
        loss = losses.get("dlr")
        direction = tf.constant(
            np.random.default_rng(1).normal(size=logits.shape)
        )

        def gradient(at):
            with tf.GradientTape() as tape:
                tape.watch(at)
                values = loss.call(labels, at)
            return tape.gradient(values, at)

        with tf.GradientTape() as tape:
            tape.watch(logits)
            slope = gradient(logits)
        product = tape.gradient(slope, logits, output_gradients=direction)
        step = 1e-6 * direction
        differences = (gradient(logits + step) - gradient(logits - step)) / 2e-6
        # The Hessian is symmetric as long as the order of the logits holds.
        self.assertAllClose(product, differences, 1e-5, 1e-7)

    def test_the_attack_has_its_own_loss(self):
        images, labels = testing.images_and_labels(4)
        network = testing.small_network()
        plain, other = losses.get("crossentropy"), losses.get("dlr")

        def make_context(**attack_loss):
            return StepContext(
                network=network,
                loss=other.call,
                images=images,
                labels=labels,
                draws=Draws(0, 0),
                **attack_loss,
            )

        def gradient(loss):
            x = tf.constant(images)
            with tf.GradientTape() as tape:
                tape.watch(x)
                values = loss.call(labels, network(x, training=True))
            return tape.gradient(values, x)

        zero = tf.zeros_like(images)
        for attack_loss, expected in (
            ({}, other),
            ({"attack_loss": None}, other),
            ({"attack_loss": plain.call}, plain),
        ):
            view = make_context(**attack_loss)
            self.assertAllClose(
                view.input_gradient(zero), gradient(expected), 1e-5, 1e-7
            )
            logits = view.logits(images)
            self.assertAllClose(
                view.attack_losses(logits), expected.call(labels, logits)
            )
            self.assertAllClose(view.losses(logits), other.call(labels, logits))

    @parameterized.parameters("exact", "finite_difference")
    def test_compile_sets_the_loss_of_the_attack(self, implicit_gradient):
        """Smoothing only the training loss changes no perturbation."""
        images, labels = testing.images_and_labels(4)
        plain = losses.get("crossentropy")
        smooth = losses.get("crossentropy", label_smoothing=0.5)

        def outcome(loss, attack_loss):
            network = testing.small_network()
            method = FastBAT(step_size=0.5, implicit_gradient=implicit_gradient)
            robust = RobustClassifier(network, method)
            robust.compile(loss=loss, attack_loss=attack_loss)
            return robust.compute_gradients(images, labels, Draws(0, 0))

        both_plain = outcome(plain, None)
        mixed = outcome(smooth, plain)
        both_smooth = outcome(smooth, None)
        delta = both_plain.solution.perturbation
        self.assertAllEqual(mixed.solution.perturbation, delta)
        self.assertNotAllClose(both_smooth.solution.perturbation, delta)
        self.assertAllClose(
            mixed.loss,
            smoothed(mixed.logits.numpy(), labels, 0.5).mean(),
            1e-5,
        )
        lower = "lower_gradient"
        self.assertAllClose(
            mixed.solution.memory[lower],
            both_plain.solution.memory[lower],
            1e-5,
            1e-8,
        )


if __name__ == "__main__":
    tf.test.main()
