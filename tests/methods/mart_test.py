"""MART: its terms against closed forms, and with labels of every form."""

import math

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from fastbat_tf import MART, RobustClassifier
from fastbat_tf.draws import Draws
from fastbat_tf.methods import mart
from fastbat_tf.training import losses
from tests.support import golden_network, testing

CLASSES = 4


def softmax(z):
    powers = np.exp(z - z.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def step(method, labels, loss=None):
    """A step on the small network, in float64."""
    images, _ = testing.images_and_labels(len(labels), dtype="float64")
    with golden_network.precision("float64"):
        robust = RobustClassifier(testing.small_network(), method)
        robust.compile("sgd", loss, run_eagerly=True)
        outcome = robust.compute_gradients(
            tf.constant(images), tf.constant(labels), Draws(0, 0)
        )
        delta = outcome.solution.perturbation
        both = [
            robust.classifier(x, training=True).numpy()
            for x in (images, images + delta)
        ]
    return outcome, both


class TermsTest(tf.test.TestCase, parameterized.TestCase):
    def test_against_probabilities(self):
        random = np.random.default_rng(0)
        logits = random.normal(0, 2, (50, CLASSES))
        labels = random.integers(0, CLASSES, 50)
        p = softmax(logits)
        rows = np.arange(50)
        others = p.copy()
        others[rows, labels] = 0
        found = mart.margin_losses(tf.constant(logits), tf.constant(labels))
        self.assertAllClose(found, -np.log(1 - others.max(-1)), 1e-12)
        found = mart.log_others(tf.constant(logits), tf.constant(labels))
        self.assertAllClose(found, np.log(1 - p[rows, labels]), 1e-12)

    @parameterized.parameters(1.0, 30.0, 200.0, 1e4)
    def test_sure_of_a_wrong_class(self, height):
        """-log(1 - p_1) = log(1 + e^h / 3), by -1 / 3 of h for the others."""
        logits = tf.constant([[0.0, height, 0.0, 0.0]])
        with tf.GradientTape() as tape:
            tape.watch(logits)
            loss = mart.margin_losses(logits, tf.constant([2]))
        slope = 1 / (1 + 3 * math.exp(-height))
        self.assertAllClose(loss, [np.logaddexp(0, height - math.log(3))], 1e-6)
        self.assertAllClose(
            tape.gradient(loss, logits),
            [[-slope / 3, slope, -slope / 3, -slope / 3]],
            1e-5,
        )

    def test_sure_of_the_true_class(self):
        """1 - p_y = 3 e^-h to all digits, where 1.0 - p_y is 0."""
        logits = tf.constant([[0.0, 30.0, 0.0, 0.0]])
        found = mart.log_others(logits, tf.constant([1]))
        self.assertAllClose(found, [math.log(3) - 30], 1e-6)
        found = mart.margin_losses(logits, tf.constant([1]))
        self.assertAllClose(found, [0.0])

    def test_two_classes(self):
        """Without a third class, the boost is the cross-entropy again."""
        logits = tf.constant([[0.3, -1.2], [2.0, 0.1]])
        labels = tf.constant([0, 1])
        self.assertAllClose(
            mart.margin_losses(logits, labels),
            tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits),
        )

    def test_ties(self):
        """All alike: the gradient is finite, and one class alone is boosted."""
        logits = tf.zeros((1, CLASSES))
        with tf.GradientTape() as tape:
            tape.watch(logits)
            loss = mart.margin_losses(logits, tf.constant([0]))
        self.assertAllClose(loss, [-math.log(3 / 4)])
        self.assertAllClose(
            tape.gradient(loss, logits), [[-1 / 12, 1 / 4, -1 / 12, -1 / 12]]
        )

    def test_the_constants_of_the_published_program(self):
        """They change a loss by 1.1e-4 / (1 - p_k) of it at most."""
        random = np.random.default_rng(1)
        logits = random.normal(size=(200, CLASSES))
        labels = random.integers(0, CLASSES, 200)
        p = softmax(logits)
        p[np.arange(200), labels] = 0
        published = -np.log(1.0001 - p.max(-1) + 1e-12)
        found = mart.margin_losses(tf.constant(logits), tf.constant(labels))
        bound = 1.1e-4 / (1 - p.max(-1))
        self.assertTrue((np.abs(found - published) < bound).all())


class StepTest(tf.test.TestCase, parameterized.TestCase):
    """The loss of a step, from the logits of the two images."""

    def expected(self, both, labels, ce, coefficient=5):
        p, q = map(softmax, both)
        rows = np.arange(len(labels))
        wrong = q.copy()
        wrong[rows, labels] = 0
        apart = (p * np.log(p / q)).sum(-1) * (1 - p[rows, labels])
        boosted = ce(q) - np.log(1 - wrong.max(-1))
        return boosted.mean() + coefficient * apart.mean()

    @parameterized.parameters("integers", "one-hot", "mixed")
    def test_labels(self, form):
        ids = np.array([1, 0, 3, 2, 2, 1])
        targets = np.eye(CLASSES)[ids]
        if form == "mixed":
            targets = 0.7 * targets + 0.3 * targets[::-1]
        labels = ids.astype("int32") if form == "integers" else targets
        outcome, both = step(MART(epsilon=0.1, steps=2), labels)
        expected = self.expected(
            both, ids, lambda q: -(targets * np.log(q)).sum(-1)
        )
        self.assertAllClose(outcome.loss, expected, 1e-9)

    def test_label_smoothing_is_that_of_the_cross_entropy(self):
        ids = np.array([1, 0, 3, 2], "int32")
        targets = 0.6 * np.eye(CLASSES)[ids] + 0.4 / CLASSES
        loss = losses.get("crossentropy", label_smoothing=0.4)
        outcome, both = step(MART(epsilon=0.1, steps=1), ids, loss)
        expected = self.expected(
            both, ids, lambda q: -(targets * np.log(q)).sum(-1)
        )
        self.assertAllClose(outcome.loss, expected, 1e-9)

    def test_a_loss_of_the_user(self):
        """It takes the place of the cross-entropy, as in other methods."""
        ids = np.array([1, 0, 3, 2], "int32")
        loss = keras.losses.CategoricalHinge()
        targets = np.eye(CLASSES)[ids].astype("float64")
        outcome, both = step(MART(epsilon=0.1, steps=1), targets, loss)

        def hinge(q):
            del q
            own = (targets * both[1]).sum(-1)
            other = ((1 - targets) * both[1]).max(-1)
            return np.maximum(other - own + 1, 0)

        expected = self.expected(both, ids, hinge)
        self.assertAllClose(outcome.loss, expected, 1e-9)

    def test_without_divergence(self):
        ids = np.array([1, 0, 3, 2], "int32")
        outcome, both = step(MART(epsilon=0.1, steps=1, coefficient=0), ids)
        rows = np.arange(4)
        expected = self.expected(
            both, ids, lambda q: -np.log(q[rows, ids]), coefficient=0
        )
        self.assertAllClose(outcome.loss, expected, 1e-9)


if __name__ == "__main__":
    tf.test.main()
