"""The step size of Fast-BAT that holds the interior fraction."""

from unittest import mock

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from fastbat_tf import EpsilonSchedule, FastBAT, RobustClassifier
from fastbat_tf.errors import InputError
from fastbat_tf.experiment.config import Config, MethodConfig
from fastbat_tf.methods import auto_step
from tests.methods import replicas_test
from tests.support import golden_network, testing

EPSILON = 0.1
PIXELS = 40


def linear_model(weights):
    """Logits `(0, <w, x>)`, which SGD with a rate of 0 leaves as they are."""
    network = keras.Sequential(
        [
            keras.Input((1, PIXELS, 1)),
            keras.layers.Flatten(),
            keras.layers.Dense(2, use_bias=False),
        ]
    )
    network.set_weights([np.stack([np.zeros(PIXELS), weights], 1)])
    return network


def linear_loss(labels, logits):
    """Its gradient is w, wherever it is taken."""
    return logits[:, 1]


def compiled(weights, method, **settings):
    robust = RobustClassifier(linear_model(weights), method)
    return robust.compile(
        keras.optimizers.SGD(0.0),
        attack_loss=linear_loss,
        jit_compile=False,
        **settings,
    )


def gray(examples):
    return np.full((examples, 1, PIXELS, 1), 0.5), np.zeros(examples, "int32")


def state_of(robust):
    return robust.method_state.entries["gradient_quantile"].numpy()


class AutoStepTest(tf.test.TestCase, parameterized.TestCase):
    def test_sequence_of_a_linear_model(self):
        """In NumPy, with starts that are drawn once."""
        random = np.random.default_rng(0)
        weights = np.exp(random.normal(-4, 1.5, PIXELS))
        weights *= random.choice([-1, 1], PIXELS)
        start = random.uniform(-EPSILON, EPSILON, (5, 1, PIXELS, 1))
        target, steps = 0.4, 60
        gradient = weights.reshape(1, 1, PIXELS, 1)
        q, expected = EPSILON / (2000 / 255), []
        for _ in range(steps):
            a = EPSILON / q
            z = np.clip(start + a * gradient, -EPSILON, EPSILON)
            delta = np.clip(z + a * gradient, -EPSILON, EPSILON)
            fraction = np.mean(np.abs(delta) < EPSILON - 1e-7)
            expected.append((a, fraction))
            q *= np.exp(auto_step.GAIN * (target - fraction))
        with golden_network.precision("float64"):
            method = FastBAT(EPSILON, "auto", np.inf, interior_fraction=target)
            robust = compiled(weights, method)
            robust.draws = lambda step: golden_network.RecordedDraws(
                {"start": tf.constant(start)}
            )
            images, labels = gray(5)
            found = []
            for _ in range(steps):
                robust.reset_metrics()
                logs = robust.train_on_batch(images, labels, return_dict=True)
                found.append(
                    (
                        logs["robust_step_size"],
                        logs["robust_interior_fraction"],
                    )
                )
            # Keras' means are in float32.
            self.assertAllClose(found, expected, 1e-6)
            self.assertAllClose(state_of(robust), q, 1e-12)
        self.assertGreater(abs(expected[0][1] - target), 0.15)
        self.assertLess(abs(expected[-1][1] - target), 0.02)

    @parameterized.parameters(0.2, 0.5, 0.8)
    def test_it_is_the_quantile_of_the_gradients(self, target):
        """From 0, a pixel stays inside if two steps are below epsilon."""
        weights = np.exp(np.random.default_rng(1).normal(-3, 1.0, PIXELS))
        method = FastBAT(
            EPSILON,
            "auto",
            np.inf,
            "ns-pgd-zero",
            interior_fraction=target,
        )
        robust = compiled(weights, method)
        images, labels = gray(2)
        for _ in range(100):
            robust.train_on_batch(images, labels)
        # A quantile of few values is any number between two of them.
        share = 1 / PIXELS
        low, high = np.quantile(weights, [target - share, target + share])
        quantile = state_of(robust) / 2
        self.assertBetween(quantile, low, high)

    def test_the_radius_is_ramped(self):
        """It is held in clean steps, and follows the radius."""
        weights = np.full(PIXELS, 0.01)
        method = FastBAT(EPSILON, "auto")
        schedule = EpsilonSchedule(clean_steps=3, ramp_steps=4)
        robust = compiled(weights, method, epsilon_schedule=schedule)
        images, labels = gray(2)
        begin = state_of(robust)
        for step in range(9):
            robust.reset_metrics()
            old = state_of(robust)
            logs = robust.train_on_batch(images, labels, return_dict=True)
            share = min(max(step - 2, 0) / 4, 1)
            self.assertAllClose(
                logs["robust_step_size"], share * EPSILON / old, 1e-6
            )
            if step < 3:
                self.assertEqual(state_of(robust), begin)
            else:
                self.assertNotEqual(state_of(robust), old)

    @parameterized.parameters(
        {"epsilon": 0.0},
        {"weights": 0.0},
        {"weights": 1e30},
        {"weights": 1e-30},
        {"epsilon": 1e-9},
    )
    def test_extremes(self, weights=0.01, epsilon=EPSILON):
        """Where no step size can hold the fraction, it stays finite."""
        robust = compiled(
            np.full(PIXELS, weights), FastBAT(epsilon, "auto", np.inf)
        )
        images, labels = gray(2)
        for _ in range(80):
            logs = robust.train_on_batch(images, labels, return_dict=True)
        self.assertAllInRange(list(logs.values()), -1e38, 1e38)
        self.assertGreater(state_of(robust), 0)

    def test_a_restored_training_goes_on_as_it_was(self):
        def build():
            robust = RobustClassifier(
                testing.small_network(), FastBAT(step_size="auto")
            )
            return robust.compile(keras.optimizers.SGD(0.1), jit_compile=False)

        def train(robust, numbers):
            for number in numbers:
                robust.train_on_batch(
                    *testing.images_and_labels(4, seed=number)
                )

        whole, first = build(), build()
        train(whole, range(4))
        train(first, range(2))
        path = f"{self.get_temp_dir()}/half.weights.h5"
        first.save_weights(path)
        second = build()
        train(second, range(1))  # So that its optimizer has variables.
        second.load_weights(path)
        train(second, range(2, 4))
        self.assertNotEqual(state_of(first), state_of(whole))
        self.assertEqual(state_of(second), state_of(whole))
        for ours, theirs in zip(second.weights, whole.weights, strict=True):
            self.assertAllEqual(ours, theirs)

    def test_two_replicas_are_one_device(self):
        """With batches of several sizes."""
        case = {"auto": ("fastbat", {"step_size": "auto"})}
        with mock.patch.dict(replicas_test.CASES, case):
            (one, logs), (two, others) = (
                replicas_test.train("auto", n) for n in (1, 2)
            )
        self.assertAllClose(state_of(one), state_of(two), 1e-10)
        for name in ("robust_step_size", "robust_interior_fraction"):
            self.assertAllClose(logs[name], others[name], 1e-6)
            self.assertNotAllClose(logs[name], [logs[name][0]] * 3, 1e-4)

    def test_it_is_an_option_of_one_method_in_one_norm(self):
        for method, options, expected in (
            ("fastat", {"step_size": "auto"}, r"in \[0, inf\), such as 8/255"),
            (
                "fastbat",
                {"step_size": "auto", "norm": "l2"},
                r"^`step_size=auto` does not apply unless norm == 'linf'\. "
                r"Received: step_size=auto, norm=l2$",
            ),
            (
                "fastbat",
                {"interior_fraction": 0.5},
                r"^`interior_fraction=0.5` does not apply unless step_size == "
                r"'auto'\. Received: interior_fraction=0.5, "
                r"step_size=5000/255$",
            ),
            (
                "fastbat",
                {"step_size": "auto", "interior_fraction": 1.0},
                r"in \(0, 1\)\. Received: interior_fraction=1.0$",
            ),
            ("fastbat", {"step_size": "Auto"}, r"in \[0, inf\) or auto, such"),
        ):
            with self.assertRaisesRegex(InputError, expected):
                MethodConfig(method, options)
            if method == "fastbat":
                with self.assertRaisesRegex(InputError, expected):
                    FastBAT(**options)

    def test_configs(self):
        auto = Config(method=MethodConfig("fastbat", {"step_size": "auto"}))
        self.assertEqual(auto.method.options["interior_fraction"], 0.3)
        self.assertEqual(Config.from_dict(auto.to_dict()), auto)
        fixed = Config()
        self.assertIsNone(fixed.method.options["interior_fraction"])
        self.assertEqual(Config.from_dict(fixed.to_dict()), fixed)
        # As an earlier version has written it.
        old = fixed.to_dict()
        for name in ("implicit_clip", "interior_fraction"):
            del old["method"]["options"][name]
        self.assertEqual(Config.from_dict(old), fixed)
        for config in (auto, fixed):
            method = FastBAT(**config.method.options)
            self.assertEqual(method.get_config(), config.method.options)
            again = FastBAT.from_config(method.get_config())
            self.assertEqual(again.get_config(), method.get_config())


if __name__ == "__main__":
    tf.test.main()
