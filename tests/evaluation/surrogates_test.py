"""Tests evaluations with one surrogate and with several."""

import pathlib

import keras
import tensorflow as tf
from absl.testing import parameterized

import fastbat_tf as fb
from fastbat_tf import attacks
from fastbat_tf.errors import InputError
from fastbat_tf.evaluation.inputs import fingerprint_of_model
from fastbat_tf.evaluation.robustness import evaluate_robustness
from fastbat_tf.evaluation.surrogates import Surrogates
from fastbat_tf.layers.pixel_range import PixelRange
from tests.support.toy_evaluation import SHAPE, toy_data, toy_network

EPSILON = 0.04


def keras_model(seed):
    keras.utils.set_random_seed(seed)
    return keras.Sequential(
        [
            keras.layers.Input(SHAPE),
            keras.layers.Flatten(),
            keras.layers.Dense(4),
        ]
    )


def evaluate(surrogate, name="transfer-mi-fgsm-4", **kwargs):
    return evaluate_robustness(
        toy_network(), toy_data(), name, EPSILON, surrogate=surrogate, **kwargs
    )


class SurrogatesTest(parameterized.TestCase, tf.test.TestCase):
    def test_several(self):
        """The same as the attack alone, on the mean of the logits."""
        first, second = keras_model(1), toy_network(seed=2)
        results = evaluate([first, second])
        found = attacks.Transfer(
            lambda batch: (first(batch) + second(batch)) / 2.0,
            "mi-fgsm-4",
            EPSILON,
        )(toy_network(), *toy_data())
        (row,) = results["attacks"]
        self.assertEqual(row["robust_accuracy"], found.robust.mean())
        self.assertLess(row["robust_accuracy"], results["clean_accuracy"])

    def test_files(self):
        paths = []
        for seed in (1, 2):
            paths.append(pathlib.Path(self.get_temp_dir(), f"{seed}.keras"))
            keras_model(seed).save(paths[-1])
        found = evaluate([paths[0], str(paths[1])])
        expected = evaluate([keras_model(1), keras_model(2)])
        for row in (*found["attacks"], *expected["attacks"]):
            del row["seconds"]
        self.assertEqual(found["attacks"], expected["attacks"])

    def settings(self, given, default=(0, 1)):
        def as_network(model, default):
            own = getattr(model, "pixel_range", None)
            return model, default if own is None else PixelRange.parse(own)

        return Surrogates(given, as_network, PixelRange.parse(default)).settings

    def test_settings_of_one_are_those_of_earlier_versions(self):
        model = keras_model(1)
        checksum = fingerprint_of_model(model)
        self.assertEqual(self.settings(None), {"surrogate": None})
        self.assertEqual(self.settings(model), {"surrogate": checksum})
        self.assertEqual(self.settings([model]), {"surrogate": checksum})
        self.assertEqual(
            self.settings(model, (0, 255)),
            {"surrogate": checksum, "surrogate_pixel_range": [0.0, 255.0]},
        )

    def test_settings_of_several(self):
        first, second = keras_model(1), keras_model(2)
        wide = fb.RobustClassifier(second, fb.Standard(), pixel_range=(0, 255))
        one, other = (self.settings(m)["surrogate"] for m in (first, second))
        self.assertNotEqual(one, other)
        self.assertEqual(
            self.settings([first, second]), {"surrogate": [one, other]}
        )
        self.assertEqual(
            self.settings([first, wide])["surrogate_pixel_range"],
            [[0.0, 1.0], [0.0, 255.0]],
        )

    def test_a_directory_knows_its_surrogates(self):
        directory = pathlib.Path(self.get_temp_dir(), "known")
        first, second = keras_model(1), keras_model(2)
        results = evaluate([first, second], directory=directory)
        again = evaluate([first, second], directory=directory)
        self.assertEqual(again, results)
        for other in (first, [second, first], [first, keras_model(3)]):
            with self.assertRaisesRegex(InputError, "other=surrogate$"):
                evaluate(other, directory=directory)

    def test_warnings_and_errors_name_one(self):
        first, network = toy_network(seed=1), toy_network(seed=2)

        def soft(images):
            return tf.nn.softmax(network(images))

        with self.assertWarnsRegex(
            UserWarning, r"The surrogate 2 \(soft\): .*probabilities"
        ):
            evaluate([first, soft])
        with self.assertRaisesRegex(
            InputError,
            r"The surrogate 1 \(network\) is expected to have the model's 4 "
            "classes. Received: classes=3$",
        ):
            evaluate([toy_network(classes=3), first])

        def of_numpy(images):
            return network(images).numpy()

        with self.assertRaisesRegex(InputError, "without gradient"):
            evaluate([first, of_numpy])

    def test_lists_that_are_none(self):
        model = keras_model(1)
        for given in ([], [model, model]):
            with self.assertRaisesRegex(InputError, "none of them twice"):
                evaluate(given)
        with self.assertRaisesRegex(
            InputError, f"attacks=fgsm, surrogate={model.name},toy$"
        ):
            evaluate([model, "toy"], name="fgsm")
        with self.assertRaisesRegex(InputError, "there is none.*no/such$"):
            evaluate([model, "no/such"])


if __name__ == "__main__":
    tf.test.main()
