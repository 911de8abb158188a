"""Adversarial weight perturbation: closed forms, and what it leaves alone.

`weight_perturbation_steps_test.py` computes whole steps in NumPy.
"""

import tempfile
from unittest import mock

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from fastbat_tf import (
    FGSM,
    AdversarialWeightPerturbation,
    RobustClassifier,
    Standard,
)
from fastbat_tf.errors import InputError
from tests.support import golden_network, testing

RATE, GAMMA = 0.5, 0.2


def squared(targets, outputs):
    return tf.reduce_sum((targets - outputs) ** 2, -1) / 2


def linear_data():
    random = np.random.default_rng(3)
    images = random.uniform(0.3, 0.7, (5, 2, 2, 1))
    shares = random.uniform(size=5)
    return images, np.stack([shares, 1 - shares], -1)


def train_linear(method, **compiled):
    """One step of a linear model in float64; returns it before and after."""
    with golden_network.policy("float64"):
        keras.utils.set_random_seed(1)
        network = keras.Sequential(
            [
                keras.Input((2, 2, 1)),
                keras.layers.Flatten(),
                keras.layers.Dense(2, bias_initializer="random_normal"),
            ]
        )
        before = [w.numpy() for w in network.weights]
        robust = RobustClassifier(network, method)
        robust.compile(keras.optimizers.SGD(RATE), squared, **compiled)
        robust.train_on_batch(*linear_data())
    return before, [w.numpy() for w in network.weights]


def linear_gradient(x, targets, kernel, bias):
    errors = x @ kernel + bias - targets
    return x.T @ errors / len(x), errors.mean(0)


def small(awp=None, network=None, method=None, **compiled):
    robust = RobustClassifier(
        network or testing.small_network(width=2), method or FGSM()
    )
    return robust.compile(
        keras.optimizers.SGD(0.1),
        weight_perturbation=awp,
        **(compiled or {"run_eagerly": True}),
    )


def train(robust, steps):
    for seed in range(steps):
        robust.train_on_batch(*testing.images_and_labels(4, seed=seed))
    return [w.numpy() for w in robust.classifier.weights]


class ClosedFormTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.product(
        epsilon=(0.0, 0.1),
        compiled=(
            {"run_eagerly": True},
            {"jit_compile": False},
            {"jit_compile": True},
        ),
    )
    def test_linear_model(self, epsilon, compiled):
        """v is along X^T (X W + b - Y), and the bias stays where it is."""
        awp = AdversarialWeightPerturbation(GAMMA)
        method = FGSM(epsilon=epsilon) if epsilon else Standard()
        before, after = train_linear(
            method, weight_perturbation=awp, **compiled
        )
        kernel, bias = before
        images, targets = linear_data()
        x = images.reshape(5, 4)
        errors = x @ kernel + bias - targets
        x = x + epsilon * np.sign(errors @ kernel.T)  # Inside of the pixels.
        g, _ = linear_gradient(x, targets, kernel, bias)
        v = GAMMA * np.linalg.norm(kernel) * g / np.linalg.norm(g)
        to_kernel, to_bias = linear_gradient(x, targets, kernel + v, bias)
        self.assertAllClose(after[0], kernel - RATE * to_kernel, 1e-6, 1e-9)
        self.assertAllClose(after[1], bias - RATE * to_bias, 1e-6, 1e-9)
        plain, _ = linear_gradient(x, targets, kernel, bias)
        self.assertNotAllClose(after[0], kernel - RATE * plain, 1e-3)

    def test_length_by_layer(self):
        awp = AdversarialWeightPerturbation(0.1)
        random = np.random.default_rng(0)
        weights = [random.normal(size=s) for s in ((3, 2), (2, 2, 3, 1))]
        gradients = [random.normal(size=w.shape) for w in weights]
        found = awp.perturbations(*map(list, (weights, gradients)))
        for v, w, g in zip(found, weights, gradients, strict=True):
            v = v.numpy().ravel()
            self.assertAllClose(np.linalg.norm(v), 0.1 * np.linalg.norm(w))
            cosine = v @ g.ravel() / np.linalg.norm(v) / np.linalg.norm(g)
            self.assertAllClose(cosine, 1.0)
        zero = awp.perturbations([weights[0]], [np.zeros((3, 2))])
        self.assertAllEqual(zero[0], np.zeros((3, 2)))


class WarmUpTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(True, False)
    def test_bit_by_bit(self, eager):
        """Two plain steps, then others."""
        compiled = {"run_eagerly": eager, "jit_compile": False}
        plain, warm = (
            small(awp, **compiled)
            for awp in (
                None,
                AdversarialWeightPerturbation(GAMMA, warmup_steps=2),
            )
        )
        for step in range(3):
            batch = testing.images_and_labels(4, seed=step)
            plain.train_on_batch(*batch)
            warm.train_on_batch(*batch)
            for ours, theirs in zip(warm.weights, plain.weights, strict=True):
                if step < 2:
                    self.assertAllEqual(ours, theirs)
            kernels = (
                r.classifier.get_layer("dense").kernel for r in (plain, warm)
            )
            apart = np.abs(np.subtract(*(k.numpy() for k in kernels))).max()
            self.assertEqual(apart > 0, step == 2)

    def test_no_pass_more(self):
        robust = small(AdversarialWeightPerturbation(GAMMA, warmup_steps=1))
        layer, counts = robust.classifier.get_layer("conv"), []
        with mock.patch.object(layer, "call", wraps=layer.call) as call:
            for _ in range(2):
                call.reset_mock()
                train(robust, 1)
                counts.append(call.call_count)
        self.assertEqual(counts, [2, 3])  # The attack, and the update.


class LeftAloneTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(True, False)
    def test_gamma_of_zero_is_off(self, eager):
        compiled = {"run_eagerly": eager, "jit_compile": False}
        expected, found = (
            train(small(awp, **compiled), 2)
            for awp in (None, AdversarialWeightPerturbation(0))
        )
        for one, two in zip(found, expected, strict=True):
            self.assertAllEqual(one, two)

    def test_statistics_move_once(self):
        """With the momentum m, by (1 - m^n) of the way after n moves."""
        batches = {}
        for gamma in (0.0, 1e-12):
            robust = small(
                AdversarialWeightPerturbation(gamma), method=Standard()
            )
            train(robust, 2)
            layer = robust.classifier.get_layer("bn")
            batches[gamma] = layer.moving_variance.numpy()
        self.assertAllClose(*batches.values(), rtol=1e-5)

    def test_dropout_draws_the_same(self):
        seen = []

        class Watched(keras.layers.Dropout):
            def call(self, x, training=None):
                y = super().call(x, training=training)
                if training and tf.executing_eagerly():
                    seen.append(y.numpy() == 0)
                return y

        def build():
            keras.utils.set_random_seed(0)
            return keras.Sequential(
                [
                    keras.Input((8, 8, 3)),
                    keras.layers.Flatten(),
                    Watched(0.5, seed=4),
                    keras.layers.Dense(4),
                ]
            )

        states = []
        for awp in (None, AdversarialWeightPerturbation(GAMMA)):
            robust = small(awp, build())
            seen.clear()
            images, labels = testing.images_and_labels(4)
            # No pixel is black, nor becomes so.
            robust.train_on_batch(0.2 + 0.6 * images, labels)
            self.assertLen(seen, 2 if awp is None else 3)
            for mask in seen:
                self.assertAllEqual(mask, seen[0])
            states.append(robust.classifier.layers[1].seed_generator.state)
        self.assertAllEqual(states[0], states[1])

    def test_random_and_regularized_layers(self):
        """Also in the branch of a graph that the warm-up leaves out."""
        trained = []
        for eager in (True, False):
            keras.utils.set_random_seed(0)
            network = keras.Sequential(
                [
                    keras.Input((8, 8, 3)),
                    keras.layers.RandomFlip(seed=1),
                    keras.layers.Flatten(),
                    keras.layers.Dropout(0.5, seed=2),
                    keras.layers.Dense(
                        4,
                        kernel_regularizer=keras.regularizers.L2(0.1),
                        activity_regularizer=keras.regularizers.L2(0.1),
                    ),
                ]
            )
            awp = AdversarialWeightPerturbation(GAMMA, warmup_steps=1)
            compiled = {"run_eagerly": eager, "jit_compile": False}
            trained.append(train(small(awp, network, **compiled), 2))
        for one, two in zip(*trained, strict=True):
            self.assertAllClose(one, two, 1e-5, 1e-6)

    def test_after_an_error(self):
        """In eager mode, the weights are those before the step."""

        def fail(labels, outputs):
            calls.append(robust.trainable_variables[0].numpy())
            if len(calls) == 3:  # The attack, the direction, the update.
                raise KeyError
            return keras.losses.sparse_categorical_crossentropy(
                labels, outputs, from_logits=True
            )

        calls = []
        robust = small(
            AdversarialWeightPerturbation(GAMMA), loss=fail, run_eagerly=True
        )
        before = [w.numpy() for w in robust.trainable_variables]
        calls.clear()
        with self.assertRaises(KeyError):
            train(robust, 1)
        self.assertAllEqual(calls[1], before[0])
        self.assertNotAllEqual(calls[2], before[0])
        for one, two in zip(robust.trainable_variables, before, strict=True):
            self.assertAllEqual(one, two)

    @parameterized.parameters("function", "remat")
    def test_layers_that_keep_variables(self, kind):
        """They see the perturbed weights, as any other layer does."""

        class Kept(keras.layers.Layer):
            def __init__(self, how):
                super().__init__()
                self.inner = keras.layers.Dense(4, name="inner")
                self.how = {
                    "plain": lambda x: self.inner(x),
                    "function": tf.function(lambda x: self.inner(x)),
                    "remat": tf.recompute_grad(lambda x: self.inner(x)),
                }[how]

            def build(self, shape):
                self.inner.build(shape)

            def call(self, x):
                return self.how(x)

            def compute_output_shape(self, shape):
                return (*shape[:-1], 4)

        trained = []
        for how in ("plain", kind):
            keras.utils.set_random_seed(0)
            network = keras.Sequential(
                [keras.Input((8, 8, 3)), keras.layers.Flatten(), Kept(how)]
            )
            awp = AdversarialWeightPerturbation(0.5)
            trained.append(train(small(awp, network, jit_compile=False), 2))
        for one, two in zip(*trained, strict=True):
            self.assertAllClose(one, two, 1e-5, 1e-6)


class NotFiniteTest(tf.test.TestCase):
    def test_a_skipped_step(self):
        """The scale falls, and no statistic becomes NaN."""
        with golden_network.policy("mixed_float16"):
            network = testing.small_network(width=2)
        optimizer = keras.optimizers.LossScaleOptimizer(
            keras.optimizers.SGD(0.1), initial_scale=2.0**60
        )
        robust = RobustClassifier(network, FGSM())
        robust.compile(
            optimizer,
            weight_perturbation=AdversarialWeightPerturbation(GAMMA),
            jit_compile=False,
        )
        before = [w.numpy() for w in robust.trainable_variables]
        train(robust, 1)
        for one, two in zip(robust.trainable_variables, before, strict=True):
            self.assertAllEqual(one, two)
        self.assertEqual(float(robust.optimizer.dynamic_scale), 2.0**59)
        for weight in network.weights:
            self.assertAllInRange(tf.cast(weight, "float32"), -1e3, 1e3)

    def test_a_training_that_diverged(self):
        """Without a scale, the gradient is not finite, so that `fit` stops."""
        robust = small(AdversarialWeightPerturbation(GAMMA))
        kernel = robust.classifier.get_layer("dense").kernel
        kernel.assign(kernel * float("nan"))
        images, labels = testing.images_and_labels(4)
        logs = robust.train_on_batch(images, labels, return_dict=True)
        self.assertFalse(np.isfinite(logs["robust_gradient_norm"]))


class SettingsTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(-0.1, 1.0, "0.1", None, float("nan"))
    def test_gamma(self, gamma):
        with self.assertRaisesRegex(InputError, rf"\[0, 1\).*gamma={gamma}$"):
            AdversarialWeightPerturbation(gamma)

    @parameterized.parameters(-1, 0.5, None)
    def test_warmup_steps(self, steps):
        with self.assertRaisesRegex(InputError, f"warmup_steps={steps}$"):
            AdversarialWeightPerturbation(warmup_steps=steps)

    @parameterized.parameters(0.005, AdversarialWeightPerturbation)
    def test_compile(self, given):
        with self.assertRaisesRegex(
            InputError, "an object of .* weight_perturbation="
        ):
            small(given)

    def test_xla_on_replicas(self):
        awp = AdversarialWeightPerturbation()
        with (
            testing.two_cpu_strategy().scope(),
            self.assertRaisesRegex(
                InputError, r"XLA cannot.*jit_compile=True, replicas=2$"
            ),
        ):
            small(awp, jit_compile=True)
        with testing.two_cpu_strategy().scope():
            small(AdversarialWeightPerturbation(0), jit_compile=True)

    def test_saved(self):
        robust = small(AdversarialWeightPerturbation(0.1, 7))
        with tempfile.TemporaryDirectory() as directory:
            robust.save(f"{directory}/robust.keras")
            again = keras.models.load_model(f"{directory}/robust.keras")
        self.assertEqual(
            repr(again.weight_perturbation),
            "AdversarialWeightPerturbation(gamma=0.1, warmup_steps=7)",
        )


if __name__ == "__main__":
    tf.test.main()
