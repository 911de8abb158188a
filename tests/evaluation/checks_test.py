"""Tests the signs that an evaluation overestimates robustness.

Each check is run on a model with the fault, and on a sound one.
"""

import contextlib
import io

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from fastbat_tf.attacks.classifier import Classifier
from fastbat_tf.evaluation import checks
from fastbat_tf.evaluation.robustness import evaluate_robustness
from fastbat_tf.evaluation.runner import AttackOutcome
from fastbat_tf.layers.pixel_range import PixelRange
from tests.support.testing import small_network
from tests.support.toy_evaluation import (
    as_floats,
    masked,
    toy_data,
    toy_network,
)


def noisy(network):
    return lambda images: network(images + tf.random.normal(tf.shape(images)))


def rounded(network):
    return lambda images: network(tf.round(255 * images) / 255)


def loud(network):
    return lambda images: 1e6 * network(images)


def softmax(network):
    return lambda images: tf.nn.softmax(network(images))


def scaled_wrongly(network):
    """Takes pixels in [0, 255]; in [0, 1] it always predicts one class."""
    bias = tf.constant([0.0, 0.0, 9.0, 0.0])
    return lambda images: network(images) / 255 + bias


def dropping(network):
    drop = keras.layers.Dropout(0.5)
    return lambda images: network(drop(images, training=True))


def masked_for_some(share):
    """A share of the images, by their first pixel, has no gradient."""

    def network(images):
        hidden = images[:, :1, :1, :1] < share
        return toy_network()(tf.where(hidden, tf.stop_gradient(images), images))

    return network


class NetworkTest(parameterized.TestCase, tf.test.TestCase):
    def check(self, network, count=250):
        images, labels = toy_data(100)
        clean = Classifier(network)(images, labels)
        return [*checks.check_network(network, clean, count).values()]

    @parameterized.named_parameters(
        ("linear", toy_network()),
        ("logits above zero", lambda x: 50.0 + toy_network()(x)),
        ("log-probabilities", lambda x: tf.nn.log_softmax(toy_network()(x))),
        ("large but finite", lambda x: 10.0 * toy_network()(x)),
        ("some gradients are zero", masked_for_some(0.05)),
    )
    def test_honest(self, network):
        self.assertEqual(self.check(network), [])

    def check_fires(self, network, *expected):
        warnings = self.check(network)
        self.assertLen(warnings, len(expected))
        for text, start in zip(warnings, expected, strict=True):
            self.assertRegex(text, f"^{start}")
            self.assertNotIn("\n", text)

    def test_probabilities(self):
        self.check_fires(
            softmax(toy_network()),
            "The model's outputs look like probabilities, not logits: .*"
            "without its final softmax.$",
        )

    def test_chance(self):
        self.check_fires(
            scaled_wrongly(toy_network()),
            r"The clean accuracy, \d+\.\d%, is not above chance: .*\[0, 1\]",
        )

    def test_chance_in_another_range(self):
        images, labels = toy_data(100)
        network = scaled_wrongly(toy_network())
        clean = Classifier(network)(images, labels)
        found = checks.check_network(
            network, clean, pixels=PixelRange.parse((0, 255))
        )
        self.assertRegex(found["chance"], r"take pixels in \[0, 255\], with")

    def test_many_times(self):
        """TensorFlow warns of nothing."""
        with self.assertNoLogs("tensorflow", "WARNING"):
            for _ in range(12):
                self.check(toy_network())

    @parameterized.parameters(noisy, dropping)
    def test_random(self, spoil):
        self.check_fires(
            spoil(toy_network()),
            "The model is not deterministic .* differ by .*autoattack-rand.$",
        )

    @parameterized.parameters(masked, rounded)
    def test_zero_gradients(self, spoil):
        self.check_fires(
            spoil(toy_network()),
            "The gradient of the cross-entropy is exactly zero on 100% of ",
        )

    def test_gradients_that_underflow(self):
        self.check_fires(
            loud(toy_network()),
            "The gradient of the cross-entropy is exactly zero on (9.|100)% ",
        )

    def test_gradients_that_are_zero_for_some(self):
        self.check_fires(
            masked_for_some(0.5),
            "The gradient of the cross-entropy is exactly zero on [45].% ",
        )

    def test_nothing_is_correct(self):
        images, _ = toy_data(10)
        wrong = np.asarray(toy_network()(as_floats(images))).argmin(axis=-1)
        clean = Classifier(toy_network())(images, wrong)
        found = checks.check_network(toy_network(), clean)
        self.assertEqual([*found], ["chance"])
        self.assertStartsWith(found["chance"], "The clean accuracy, 0.0%, ")

    def test_answers_that_are_not_numbers(self):
        self.check_fires(
            lambda images: np.nan * toy_network()(images),
            "The clean accuracy, 0.0%",
        )


def outcome(name, robust, white_box=True, stages=()):
    """The outcome for 1,000 examples; `robust` lists ranges of them."""
    standing = np.zeros(1000, bool)
    for first, last in robust:
        standing[first:last] = True
    return AttackOutcome(name, white_box, standing, 1.0, tuple(stages), None)


class OutcomesTest(parameterized.TestCase):
    """Tests of the checks that compare outcomes."""

    def check(self, *outcomes):
        return checks.check_outcomes(list(outcomes))

    def test_black_box_is_stronger(self):
        (text,) = self.check(
            outcome("pgd-10-1", [(0, 500)]),
            outcome("square-100", [(0, 480)], white_box=False),
        )
        self.assertEqual(
            text,
            "square-100, which uses no gradient of the model, breaks 20 images "
            "that no white-box attack breaks (and misses 0): gradient masking. "
            "Do not trust the white-box numbers.",
        )

    def test_transfer_is_stronger(self):
        texts = self.check(
            outcome("fgsm", [(0, 500)]),
            outcome("transfer-pgd-10-1", [(10, 400)], white_box=False),
        )
        self.assertLen(texts, 1)
        self.assertIn("breaks 110 images", texts[0])

    @parameterized.named_parameters(
        ("weaker", [(0, 600)]),
        ("equal", [(0, 500)]),
        ("a few more", [(0, 496)]),
        ("different ones", [(20, 520)]),
        ("about as many", [(30, 525)]),
    )
    def test_black_box_is_not_stronger(self, robust):
        self.assertEqual(
            self.check(
                outcome("pgd-10-1", [(0, 500)]),
                outcome("square", robust, white_box=False),
            ),
            [],
        )

    def test_what_another_white_box_attack_breaks_does_not_count(self):
        self.assertEqual(
            self.check(
                outcome("pgd-10-1", [(0, 500)]),
                outcome("apgd-ce", [(0, 450)]),
                outcome("square", [(0, 480)], white_box=False),
            ),
            [],
        )

    def test_square_beside_an_ensemble_that_ends_with_it(self):
        stages = (
            outcome("apgd-ce", [(0, 500)]),
            outcome("square", [(0, 480)], white_box=False),
        )
        first, second = self.check(
            outcome("apgd-ce+square", [(0, 480)], stages=stages),
            outcome("square-500", [(0, 480)], white_box=False),
        )
        self.assertRegex(
            first, r"^square, .* attacks of apgd-ce\+square do not"
        )
        self.assertRegex(second, "^square-500, .* no white-box attack breaks")

    def test_no_white_box_attack(self):
        self.assertEqual(
            self.check(
                outcome("square", [(0, 480)], white_box=False),
                outcome("transfer", [(0, 500)], white_box=False),
            ),
            [],
        )

    def ensemble(self, name, *counts):
        names = "apgd-ce", "apgd-t", "fab-t", "square"
        stages = [
            outcome(stage, [(0, count)], stage != "square")
            for stage, count in zip(names, counts, strict=True)
        ]
        return outcome(name, [(0, counts[-1])], stages=stages)

    @parameterized.parameters(3, 2, 1, 0)
    def test_square_in_an_ensemble(self, more):
        # 2 of 1,000 are 0.2 %.
        texts = self.check(
            self.ensemble("autoattack", 500, 450, 450, 450 - more)
        )
        self.assertLen(texts, int(more >= 2))
        for text in texts:
            self.assertStartsWith(
                text,
                f"square, which uses no gradient of the model, breaks {more} "
                "images that the earlier attacks of autoattack do not break: "
                "gradient masking.",
            )

    def test_later_white_box_stages_may_break_more(self):
        self.assertEqual(
            self.check(self.ensemble("autoattack", 500, 300, 200, 200)), []
        )

    @parameterized.parameters(
        ("pgd-50-10", 450, False),
        ("pgd-50-10", 499, False),
        ("pgd-50-10", 502, True),
        ("pgd-50-10-margin", 600, True),
        ("apgd-ce", 600, False),
        ("fgsm", 600, False),
    )
    def test_pgd_over_autoattack(self, name, count, fires):
        texts = self.check(
            outcome(name, [(0, count)]),
            self.ensemble("autoattack", 500, 400, 400, 400),
        )
        self.assertEqual(
            texts,
            [
                f"{name} is {(count - 400) / 10:.1f} points above autoattack: "
                "it overestimates the robustness."
            ]
            if fires
            else [],
        )


class EvaluationTest(parameterized.TestCase, tf.test.TestCase):
    """Tests from the model to the printed lines."""

    def evaluate(self, network, attacks, data=None, **kwargs):
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            results = evaluate_robustness(
                network,
                data or toy_data(100),
                attacks,
                [0.05],
                verbose=True,
                **kwargs,
            )
        printed = [
            line.removeprefix("WARNING: ")
            for line in said.getvalue().splitlines()
            if line.startswith("WARNING")
        ]
        self.assertEqual(printed, results["warnings"])
        return results["warnings"]

    @parameterized.parameters(
        (["pgd-10-1", "square-200"], "square-200"),
        # Also as part of an attack.
        (["pgd-10-1", "apgd-ce-5+square-200"], "square-200"),
    )
    def test_masked_gradients(self, attacks, name):
        warnings = self.evaluate(masked(toy_network()), attacks)
        self.assertLen(warnings, 2)
        self.assertStartsWith(
            warnings[0],
            "The gradient of the cross-entropy is exactly zero on 100% of ",
        )
        self.assertRegex(
            warnings[1],
            f"^At epsilon 0.05: {name}, which uses no gradient of the model, "
            r"breaks \d\d images that .*: gradient masking",
        )

    def test_masked_gradients_and_a_surrogate(self):
        warnings = self.evaluate(
            masked(toy_network()),
            ["pgd-5-1", "transfer-pgd-5-1"],
            surrogate=toy_network(),
        )
        self.assertLen(warnings, 2)
        self.assertStartsWith(
            warnings[1],
            "At epsilon 0.05: transfer-pgd-5-1, which uses no gradient of the "
            "model, breaks ",
        )

    def test_probabilities(self):
        (text, *_) = self.evaluate(softmax(toy_network()), ["fgsm"])
        self.assertIn("look like probabilities", text)

    def test_an_honest_network(self):
        """A small trained model."""
        random = np.random.default_rng(0)
        labels = random.integers(0, 4, 400)
        images = random.uniform(0, 0.8, (400, 8, 8, 3)).astype("float32")
        # Each class is brighter in a different quarter.
        for label in range(4):
            row, column = 4 * (label // 2), 4 * (label % 2)
            images[labels == label, row : row + 4, column : column + 4] += 0.2
        network = small_network(normalization=None)
        network.compile(
            "adam", keras.losses.SparseCategoricalCrossentropy(True)
        )
        network.fit(images, labels, epochs=20, verbose=0)
        data = images[:100], labels[:100]
        warnings = self.evaluate(
            network,
            ["pgd-10-2", "apgd-ce-10+apgd-t-5+square-100", "square-100"],
            data,
        )
        self.assertEqual(warnings, [])
        clean = network(images[:100]).numpy().argmax(axis=-1)
        self.assertGreater((clean == labels[:100]).mean(), 0.8)


if __name__ == "__main__":
    tf.test.main()
