"""Tests transfer attacks on several surrogates at once."""

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

import fastbat_tf as fb
from fastbat_tf import attacks
from fastbat_tf.attacks.surrogates import as_surrogates
from fastbat_tf.errors import InputError
from tests.support.attack_problems import SHAPE, predictions, smooth_network


def networks(count=3, classes=4):
    return [
        smooth_network(classes=classes, width=6, seed=seed)
        for seed in range(1, count + 1)
    ]


def problem(count=20):
    random = np.random.default_rng(0)
    images = random.uniform(0.3, 0.7, (count, *SHAPE)).astype("float32")
    victim = smooth_network(classes=4, width=6)
    return victim, images, predictions(victim, images).astype("int32")


def keras_model(seed, scale=1.0, softmax=False):
    keras.utils.set_random_seed(seed)
    layers = [
        keras.layers.Input(SHAPE),
        keras.layers.Rescaling(scale),
        keras.layers.Flatten(),
        keras.layers.Dense(4),
    ]
    return keras.Sequential(
        layers + [keras.layers.Softmax()] if softmax else layers
    )


class SurrogatesTest(parameterized.TestCase, tf.test.TestCase):
    @parameterized.parameters("pgd-5-2", "mi-fgsm-5", "apgd-t-5", "fgsm")
    def test_is_an_attack_on_the_mean_of_the_logits(self, name):
        victim, images, labels = problem()
        three = networks()

        def mean(batch):
            first, second, third = (each(batch) for each in three)
            return (first + second + third) / 3.0

        found = attacks.Transfer(three, name, 0.05)(victim, images, labels)
        expected = attacks.Transfer(mean, name, 0.05)(victim, images, labels)
        self.assertAllClose(found.images, expected.images, atol=1e-6)
        self.assertAllEqual(found.robust, expected.robust)
        # It is not what any of them gives alone.
        for each in three:
            alone = attacks.Transfer(each, name, 0.05)(victim, images, labels)
            self.assertGreater(np.abs(alone.images - found.images).max(), 0.01)

    def test_one_in_a_list_is_one(self):
        victim, images, labels = problem()
        (one,) = networks(1)
        found, expected = (
            attacks.Transfer(given, "pgd-3-1", 0.05)(victim, images, labels)
            for given in ([one], one)
        )
        self.assertAllEqual(found.images, expected.images)

    def test_each_takes_its_own_pixels_and_gives_its_own_logits(self):
        """A range of its own, and a softmax, whose logits are averaged."""
        victim, images, labels = problem()
        plain, soft = keras_model(1), keras_model(2, softmax=True)
        wide = fb.RobustClassifier(
            keras_model(3, 1 / 255), fb.Standard(), pixel_range=(0, 255)
        )
        found = attacks.Transfer([plain, soft, wide], "pgd-5-1", 0.05)(
            victim, images, labels
        )
        logits_of_soft = keras.Sequential(soft.layers[:-1])

        def mean(batch):
            return (
                plain(batch)
                + logits_of_soft(batch)
                + wide.classifier(255.0 * batch)
            ) / 3.0

        expected = attacks.Transfer(mean, "pgd-5-1", 0.05)(
            victim, images, labels
        )
        self.assertAllClose(found.images, expected.images, atol=1e-5)

    def test_layers_that_changed_are_seen(self):
        _, images, labels = problem()
        victim, models = keras_model(0), [keras_model(1), keras_model(2)]
        attack = attacks.Transfer(models, "fgsm", 0.05)
        attack(victim, images, labels)
        models[1].pop()
        models[1].add(keras.layers.Dense(4))
        again = attack(victim, images, labels)
        fresh = attacks.Transfer(models, "fgsm", 0.05)(victim, images, labels)
        self.assertAllEqual(again.images, fresh.images)


class RefusedTest(parameterized.TestCase, tf.test.TestCase):
    def test_no_gradient_of_one(self):
        victim, images, labels = problem()
        first, second = networks(2)
        for broken in (
            lambda batch: second(tf.stop_gradient(batch)),
            lambda batch: second(batch).numpy(),
        ):
            attack = attacks.Transfer([first, broken], "fgsm", 0.05)
            with self.assertRaisesRegex(InputError, "without gradient"):
                attack(victim, images, labels)

    def test_other_classes(self):
        victim, images, labels = problem()
        given = [*networks(1), *networks(1, classes=5)]
        with self.assertRaisesRegex(InputError, "same classes.*classes=4, 5$"):
            attacks.Transfer(given, "fgsm", 0.05)(victim, images, labels)

    def test_lists(self):
        model = keras_model(0)
        for given, received in (
            ([], r"\[\]"),
            (["a.keras", "./a.keras"], r"\[a.keras, ./a.keras\]"),
            ([model, model], rf"\[{model.name}, {model.name}\]"),
            ([model, None], rf"\[{model.name}, NoneType\]"),
        ):
            with self.assertRaisesRegex(
                InputError,
                f"none of them twice. Received: surrogate={received}$",
            ):
                as_surrogates(given)


if __name__ == "__main__":
    tf.test.main()
