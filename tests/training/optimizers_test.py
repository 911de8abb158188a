"""Optimizers, weight decay and clipping against updates in NumPy."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from absl.testing import parameterized

from fastbat_tf.errors import InputError
from fastbat_tf.methods.standard import Standard
from fastbat_tf.training import optimizers
from fastbat_tf.training.classifier import RobustClassifier
from fastbat_tf.training.optimizers import UpdateRule
from tests.support import testing

RATE, DECAY = 0.05, 0.3
BETA_1, BETA_2 = 0.8, 0.95
OPTIONS = {
    "sgd": {"momentum": 0.7, "nesterov": False},
    "nesterov": {"momentum": 0.7, "nesterov": True},
    "adam": {"beta_1": BETA_1, "beta_2": BETA_2},
    "adamw": {"beta_1": BETA_1, "beta_2": BETA_2},
    "lamb": {"beta_1": BETA_1, "beta_2": BETA_2},
}


def build(name, rate=RATE):
    kind = "sgd" if name == "nesterov" else name
    return optimizers.get(kind, rate, **OPTIONS[name])


def updates(name, w, gradients, *, decay=0.0, mode="l2", rates=(RATE, RATE)):
    """Returns the weights after each gradient, by the papers' formulas."""
    m, v, found = np.zeros_like(w), np.zeros_like(w), []
    for t, (g, rate) in enumerate(zip(gradients, rates, strict=True), 1):
        if mode == "l2":
            g = g + decay * w
        else:
            w = w - rate * decay * w
        if name in ("sgd", "nesterov"):
            m = 0.7 * m - rate * g
            w = w + (0.7 * m - rate * g if name == "nesterov" else m)
        else:
            m = BETA_1 * m + (1 - BETA_1) * g
            v = BETA_2 * v + (1 - BETA_2) * g**2
            mean = m / (1 - BETA_1**t)
            root = np.sqrt(v / (1 - BETA_2**t))
            if name == "lamb":
                ratio = mean / (root + 1e-6)
                trust = np.linalg.norm(w) / np.linalg.norm(ratio)
                w = w - rate * trust * ratio
            else:
                w = w - rate * mean / (root + 1e-8)
        found.append(w)
    return found


def weights_and_gradients():
    random = np.random.default_rng(0)
    kernel, bias = random.normal(size=(3, 2)), random.normal(size=2)
    gradients = [
        [random.normal(size=(3, 2)), random.normal(size=2)] for _ in range(2)
    ]
    return [kernel, bias], gradients


class UpdateTest(tf.test.TestCase, parameterized.TestCase):
    def apply(self, rule, optimizer, weights, gradients):
        """Returns the variables after each gradient."""
        variables = [keras.Variable(w, dtype="float64") for w in weights]
        rule.prepare(optimizer, variables)
        found = []
        for gradient in gradients:
            rule.apply(optimizer, [tf.constant(g) for g in gradient], variables)
            found.append([v.numpy() for v in variables])
        return found

    @parameterized.product(
        name=tuple(OPTIONS), mode=("l2", "decoupled"), on=("all", "kernels")
    )
    def test_two_steps(self, name, mode, on):
        weights, gradients = weights_and_gradients()
        # The learning rate changes, and the decoupled decay with it.
        rates = (RATE, RATE / 4)
        schedule = keras.optimizers.schedules.PiecewiseConstantDecay([0], rates)
        found = self.apply(
            UpdateRule(DECAY, mode, on),
            build(name, schedule),
            weights,
            gradients,
        )
        for i, decay in ((0, DECAY), (1, DECAY if on == "all" else 0.0)):
            expected = updates(
                name,
                weights[i],
                [g[i] for g in gradients],
                decay=decay,
                mode=mode,
                rates=rates,
            )
            for step in range(2):
                self.assertAllClose(found[step][i], expected[step], 1e-5, 1e-6)

    @parameterized.parameters("l2", "decoupled")
    def test_a_weight_without_a_gradient_does_not_decay(self, mode):
        weights, gradients = weights_and_gradients()
        kernel, bias = (keras.Variable(w, dtype="float64") for w in weights)
        UpdateRule(DECAY, mode).apply(
            build("sgd"), [tf.constant(gradients[0][0]), None], [kernel, bias]
        )
        self.assertAllEqual(bias, weights[1])
        expected = updates(
            "sgd",
            weights[0],
            [gradients[0][0]],
            decay=DECAY,
            mode=mode,
            rates=(RATE,),
        )
        self.assertAllClose(kernel, expected[0], 1e-6)

    @parameterized.parameters(*OPTIONS)
    def test_no_decay(self, name):
        weights, gradients = weights_and_gradients()
        found = self.apply(UpdateRule(), build(name), weights, gradients)
        expected = updates(name, weights[0], [g[0] for g in gradients])
        self.assertAllClose(found[1][0], expected[1], 1e-5, 1e-6)

    @parameterized.parameters("l2", "decoupled")
    def test_the_gradient_is_clipped_before_the_decay(self, mode):
        weights, gradients = weights_and_gradients()
        rule = UpdateRule(DECAY, mode, clip_norm=1.5)
        for factor in (0.1, 10.0):
            given = [[factor * g for g in gradients[0]]]
            norm = np.sqrt(sum(np.sum(g**2) for g in given[0]))
            self.assertEqual(norm > 1.5, factor > 1)
            found = self.apply(rule, build("sgd"), weights, given)
            for i in (0, 1):
                clipped = given[0][i] * min(1, 1.5 / norm)
                expected = updates(
                    "sgd",
                    weights[i],
                    [clipped],
                    decay=DECAY,
                    mode=mode,
                    rates=(RATE,),
                )
                self.assertAllClose(found[0][i], expected[0], 1e-6)

    def test_clipping_keeps_what_is_not_finite(self):
        weights, gradients = weights_and_gradients()
        gradients[0][0][1, 1] = np.inf
        rule = UpdateRule(clip_norm=1.0)
        found = self.apply(rule, build("sgd"), weights, gradients[:1])
        self.assertFalse(np.isfinite(found[0][0]).all())

    def test_published_epsilons(self):
        for name, epsilon in (("adam", 1e-8), ("adamw", 1e-8), ("lamb", 1e-6)):
            self.assertEqual(build(name).epsilon, epsilon)

    def test_refused(self):
        variables = [keras.Variable(np.ones((2, 2)))]
        adamw = keras.optimizers.AdamW(0.1, weight_decay=0.01)
        message = (
            r"expected once\. Received: weight_decay=0.1, "
            r"optimizer\.weight_decay=0.01$"
        )
        for rule in (UpdateRule(0.1), UpdateRule(0.1, "decoupled")):
            with self.assertRaisesRegex(InputError, message):
                rule.prepare(adamw, variables)
        # It has its own decay, and keeps it.
        UpdateRule().prepare(adamw, variables)
        UpdateRule(0.01, "decoupled").prepare(adamw, variables)
        self.assertEqual(adamw.weight_decay, 0.01)
        for arguments, message in (
            ({"weight_decay": -1.0}, "weight_decay=-1.0$"),
            ({"weight_decay_mode": "both"}, "l2, decoupled.*=both$"),
            ({"weight_decay_on": "some"}, "all, kernels.*=some$"),
            ({"clip_norm": -1.0}, "clip_norm=-1.0$"),
        ):
            with self.assertRaisesRegex(InputError, message):
                UpdateRule(**arguments)
        with self.assertRaisesRegex(InputError, "sgd, adam.*optimizer=adagrad"):
            optimizers.get("adagrad", 0.1)

    def test_clipping_of_keras_on_two_replicas_is_refused(self):
        for name in ("clipnorm", "clipvalue", "global_clipnorm"):
            optimizer = keras.optimizers.SGD(0.1, **{name: 2.0})
            UpdateRule().prepare(optimizer, [])
            with (
                testing.two_cpu_strategy().scope(),
                self.assertRaisesRegex(
                    InputError,
                    f"`clip_norm` instead. Received: optimizer.{name}=2.0$",
                ),
            ):
                UpdateRule().prepare(optimizer, [])


class ReplicasTest(tf.test.TestCase, parameterized.TestCase):
    """Without BatchNorm, two replicas of two images equal one of four."""

    def norm(self, images, labels):
        """The norm of the gradient of all images, at the start."""
        network = testing.small_network(normalization=None)
        robust = RobustClassifier(network, Standard()).compile()
        outcome = robust.compute_gradients(images, labels, None)
        return float(tf.linalg.global_norm(outcome.gradients))

    @parameterized.parameters(
        *((name, 0.5) for name in OPTIONS),
        # Not clipped, though the sum over the replicas would be, and the
        # gradient of a half is longer still.
        ("sgd", 1.01),
    )
    # Both ways to decay weights, and both sides of the clipping norm.
    @pytest.mark.quick("sgd", "adamw 0.5")
    def test_two_replicas_are_one_device(self, name, share):
        images, labels = testing.images_and_labels(4)
        norm = self.norm(images, labels)
        halves = [self.norm(images[i::2], labels[i::2]) for i in (0, 1)]
        self.assertGreater(max(halves), 1.01 * norm)
        data = tf.data.Dataset.from_tensors((images, labels)).repeat(2)
        weights = []
        for strategy in (
            tf.distribute.get_strategy(),
            testing.two_cpu_strategy(),
        ):
            with strategy.scope():
                network = testing.small_network(normalization=None)
                robust = RobustClassifier(network, Standard())
                robust.compile(
                    build(name),
                    weight_decay=0.1,
                    weight_decay_mode="decoupled",
                    weight_decay_on="kernels",
                    clip_norm=share * norm,
                )
            before = [v.numpy() for v in network.weights]
            robust.fit(data, shuffle=False, verbose=0)
            weights.append([v.numpy() for v in network.weights])
        for old, one, two in zip(before, *weights, strict=True):
            self.assertAllClose(one, two, 1e-4, 2e-6)
            self.assertNotAllClose(one, old, 1e-4, 2e-6)

    def test_the_gradient_norm_that_is_logged_is_not_clipped(self):
        images, labels = testing.images_and_labels(4)
        norms = []
        for clip_norm in (0.0, 1e-3):
            robust = RobustClassifier(testing.small_network(), Standard())
            robust.compile(keras.optimizers.SGD(0.1), clip_norm=clip_norm)
            logs = robust.train_on_batch(images, labels, return_dict=True)
            norms.append(logs["robust_gradient_norm"])
        self.assertAllEqual(*norms)


if __name__ == "__main__":
    tf.test.main()
