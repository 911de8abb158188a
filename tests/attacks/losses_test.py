"""Tests the losses that attacks maximize, against NumPy."""

import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from fastbat_tf.attacks import losses
from fastbat_tf.errors import InputError


def example(classes, count=50, seed=0):
    """Logits, labels, and wrong classes as targets."""
    random = np.random.default_rng(seed)
    logits = random.normal(0, 2, (count, classes)).astype("float32")
    labels = random.integers(0, classes, count, dtype="int32")
    targets = (labels + random.integers(1, classes, count)) % classes
    return logits, labels, targets.astype("int32")


def formula(name, z, y, t):
    """The published formula for one example."""
    falling = np.sort(z)[::-1]
    margin = max(z[i] for i in range(len(z)) if i != y) - z[y]
    if name == "ce":
        return np.log(np.exp(z).sum()) - z[y]
    if name == "margin":
        return margin
    if name == "targeted_ce":
        return z[t] - np.log(np.exp(z).sum())
    if name == "targeted_margin":
        return z[t] - max(z[i] for i in range(len(z)) if i != t)
    if name == "difference":
        return z[t] - z[y]
    if name == "dlr":
        return margin / (falling[0] - falling[2])
    return (z[t] - z[y]) / (falling[0] - (falling[2] + falling[3]) / 2)


def expected(name, logits, labels, targets):
    """The formula for all examples, in float64."""
    examples = zip(logits.astype("float64"), labels, targets, strict=True)
    return np.array([formula(name, *example) for example in examples])


class LossTest(parameterized.TestCase, tf.test.TestCase):
    @parameterized.product(name=tuple(losses.LOSSES), classes=(4, 10))
    def test_formula(self, name, classes):
        given = example(classes)
        values = losses.get(name)(*map(tf.constant, given))
        self.assertEqual(values.shape, (50,))
        self.assertAllClose(values, expected(name, *given), rtol=1e-4)

    def test_dlr_of_three_classes(self):
        given = example(3)
        self.assertAllClose(
            losses.dlr(*map(tf.constant, given)),
            expected("dlr", *given),
            rtol=1e-4,
        )

    @parameterized.parameters(
        ("dlr", 2, "margin"),
        ("targeted_dlr", 2, "difference"),
        ("targeted_dlr", 3, "difference"),
    )
    def test_too_few_classes(self, name, classes, instead):
        given = example(classes)
        self.assertAllClose(
            losses.get(name)(*map(tf.constant, given)),
            expected(instead, *given),
            rtol=1e-4,
        )
        note = losses.fallback(name, classes)
        self.assertIn(f"{name} needs", note)
        self.assertIn(f"the model has {classes}", note)

    @parameterized.parameters(("dlr", 3), ("targeted_dlr", 4), ("ce", 2))
    def test_enough_classes(self, name, classes):
        self.assertIsNone(losses.fallback(name, classes))

    @parameterized.parameters("dlr", "targeted_dlr")
    def test_scaled_and_shifted_logits(self, name):
        logits, labels, targets = example(6)
        loss = losses.get(name)
        values = loss(tf.constant(logits), labels, targets)
        for scale, shift in ((100, 0), (0.01, 0), (1, 50), (1e6, 0)):
            changed = tf.constant(scale * logits + np.float32(shift))
            self.assertAllClose(
                loss(changed, labels, targets), values, rtol=1e-3, atol=1e-4
            )

    @parameterized.parameters("dlr", "targeted_dlr")
    def test_equal_logits(self, name):
        # The scale is zero, and the loss still finite.
        value = losses.get(name)(tf.zeros((1, 5)), [0], [1])
        self.assertAllEqual(value, [0.0])

    @parameterized.parameters("margin", "dlr")
    def test_positive_where_misclassified(self, name):
        logits, labels, targets = example(5)
        wrong = logits.argmax(axis=-1) != labels
        self.assertBetween(wrong.sum(), 10, 45)
        self.assertAllEqual(
            losses.get(name)(tf.constant(logits), labels, targets) > 0,
            wrong,
        )

    def test_unknown_name(self):
        with self.assertRaises(InputError) as caught:
            losses.get("mse")
        message = str(caught.exception)
        for name in losses.LOSSES:
            self.assertIn(name, message)
        self.assertEndsWith(message, "Received: loss=mse")
        self.assertNotIn("\n", message)


class CorrectTest(tf.test.TestCase):
    def test_highest_logit(self):
        logits = tf.constant([[1.0, 2.0, 0.0]] * 3)
        labels = tf.constant([0, 1, 2])
        self.assertAllEqual(
            losses.is_correct(logits, labels), [False, True, False]
        )

    def test_nan_is_wrong_wherever_it_is(self):
        logits = tf.constant(
            [[np.nan, 1.0], [1.0, np.nan], [np.nan, np.nan], [1.0, 0.0]]
        )
        for label in (0, 1):
            labels = tf.fill([4], label)
            self.assertAllEqual(
                losses.is_correct(logits, labels), [False] * 3 + [label == 0]
            )

    def test_infinity_is_a_number(self):
        logits = tf.constant([[np.inf, 1.0], [-np.inf, 1.0]])
        self.assertAllEqual(
            losses.is_correct(logits, tf.constant([0, 1])), [True, True]
        )


class AskTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        random = np.random.default_rng(1)
        self.images = tf.constant(random.random((5, 2, 2, 1)), tf.float32)
        self.weights = random.normal(size=(4, 3)).astype("float32")
        self.labels = tf.constant([0, 1, 2, 0, 1])
        self.targets = tf.constant([1, 2, 0, 2, 0])

    def network(self, images):
        return tf.reshape(images, (-1, 4)) @ self.weights

    def ask(self, network, loss, samples=1):
        return losses.ask(
            network,
            loss,
            images=self.images,
            labels=self.labels,
            targets=self.targets,
            samples=samples,
        )

    def test_of_each_image_by_itself(self):
        answer = self.ask(self.network, losses.difference)
        rise = self.weights[:, self.targets] - self.weights[:, self.labels]
        self.assertAllClose(answer.gradient, rise.T.reshape(5, 2, 2, 1))
        logits = self.network(self.images).numpy()
        self.assertAllEqual(
            answer.correct, logits.argmax(axis=-1) == self.labels.numpy()
        )
        rows = np.arange(5)
        self.assertAllClose(
            answer.loss,
            logits[rows, self.targets] - logits[rows, self.labels],
        )

    def test_averages_the_answers(self):
        # The calls return the logits times 1, 2, 3 and 4 in turn.
        turn = tf.Variable(0.0)

        def drawn(images):
            return turn.assign_add(1.0) * self.network(images)

        one = self.ask(self.network, losses.difference)
        mean = self.ask(drawn, losses.difference, samples=4)
        self.assertEqual(float(turn), 4)
        self.assertAllClose(mean.loss, 2.5 * one.loss)
        self.assertAllClose(mean.gradient, 2.5 * one.gradient)
        self.assertAllEqual(mean.correct, one.correct)

    def test_averages_probabilities_not_votes(self):
        # Twice slightly in favor of class 1, once clearly of class 0.
        turn = tf.Variable(0)
        rounds = tf.constant([[0.0, 0.1], [9.0, 0.0], [0.0, 0.1]])

        def drawn(images):
            logits = tf.gather(rounds, turn)
            turn.assign_add(1)
            return logits + 0 * images[:, 0, 0, :1]

        labels = tf.constant([0, 1, 0, 1, 0])
        answer = losses.ask(
            drawn,
            losses.margin,
            images=self.images,
            labels=labels,
            targets=labels,
            samples=3,
        )
        self.assertAllEqual(answer.correct, labels == 0)

    def test_no_gradient(self):
        answer = self.ask(
            lambda images: self.network(tf.stop_gradient(images)),
            losses.cross_entropy,
        )
        self.assertAllEqual(answer.gradient, np.zeros((5, 2, 2, 1)))

    def test_gradients_that_are_no_numbers(self):
        # The slope of the square root is infinite at 0.
        images = tf.zeros((1, 1, 2, 1)) + [[[[0.0], [0.25]]]]
        answer = losses.ask(
            lambda batch: tf.sqrt(tf.reshape(batch, (-1, 2))),
            losses.difference,
            images=images,
            labels=tf.constant([1]),
            targets=tf.constant([0]),
        )
        self.assertAllClose(answer.gradient, [[[[0.0], [-1.0]]]])

    def test_half_precision(self):
        answer = self.ask(
            lambda images: tf.cast(self.network(images), tf.float16),
            losses.cross_entropy,
        )
        self.assertEqual(answer.loss.dtype, tf.float32)
        self.assertEqual(answer.gradient.dtype, tf.float32)
        exact = self.ask(self.network, losses.cross_entropy)
        self.assertAllClose(answer.loss, exact.loss, atol=1e-2)


if __name__ == "__main__":
    tf.test.main()
