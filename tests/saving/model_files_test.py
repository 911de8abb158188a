"""Tests models that are read from files."""

import pathlib
import tempfile

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from fastbat_tf import FastAT, RobustClassifier
from fastbat_tf.attacks.models import logits_of
from fastbat_tf.errors import InputError
from fastbat_tf.evaluation.robustness import evaluate_robustness
from fastbat_tf.saving import model_files
from fastbat_tf.saving.export import export
from tests.evaluation.robustness_test import without_seconds
from tests.support.command_line import python
from tests.support.testing import images_and_labels, small_network

SPEC = tf.TensorSpec((None, 8, 8, 3), tf.float32, name="pixels")


class FormsTest(tf.test.TestCase):
    """One model in all its forms."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        directory = tempfile.TemporaryDirectory()
        cls.addClassCleanup(directory.cleanup)
        cls.directory = pathlib.Path(directory.name)
        model = small_network(normalization=keras.layers.BatchNormalization)
        # Training mode would change the logits.
        model.get_layer("bn").moving_variance.assign([0.1, 0.2, 0.3, 0.4])
        model.save(cls.directory / "model.keras")
        model.save(cls.directory / "model.h5")
        export(model, cls.directory / "ours")
        model.export(cls.directory / "of_keras", verbose=False)
        cls.images, _ = images_and_labels(16)
        cls.labels = model(cls.images).numpy().argmax(axis=-1)
        cls.labels[::4] = (cls.labels[::4] + 1) % 4
        cls.model = model

    def forms(self):
        names = "model.keras", "model.h5", "ours", "of_keras"
        return {
            "callable": lambda images: self.model(images, training=False),
            "logits_of": logits_of(self.model),
            **{name: self.directory / name for name in names},
            "string": str(self.directory / "ours"),
        }

    def evaluate(self, model, form):
        directory = self.directory / "results" / form
        results = evaluate_robustness(
            model,
            (self.images, self.labels),
            ["pgd-5-2", "apgd-ce-10", "fab-t-5"],
            [0.01, 0.03],
            directory=directory,
        )
        # The path, if the model is a file.
        self.assertEqual(
            results.pop("model", None),
            str(model) if isinstance(model, str | pathlib.Path) else None,
        )
        with np.load(directory / "outcomes.npz") as file:
            return without_seconds(results), file["robust"]

    def test_same_numbers(self):
        expected, robust = self.evaluate(self.model, "keras.Model")
        self.assertEqual(expected["clean_accuracy"], 0.75)
        # The radii are informative for each attack.
        self.assertTrue(robust.any(axis=1)[:3].all())
        self.assertBetween(robust.mean(), 0.05, 0.7)
        for form, model in self.forms().items():
            with self.subTest(form):
                results, found = self.evaluate(model, form)
                self.assertEqual(results, expected)
                self.assertAllEqual(found, robust)

    def test_load(self):
        expected = self.model(self.images, training=False)
        for form, path in self.forms().items():
            if callable(path):
                continue
            with self.subTest(form):
                network = model_files.load(path)
                # Whole and in parts: the batch size is not fixed.
                self.assertAllClose(network(self.images), expected, 1e-4)
                self.assertAllClose(
                    network(tf.constant(self.images[:3])), expected[:3], 1e-4
                )

    def test_surrogate(self):
        transferred = [
            evaluate_robustness(
                self.model,
                (self.images, self.labels),
                ["transfer-pgd-3-1"],
                [0.03],
                surrogate=surrogate,
            )["attacks"][0]["robust_accuracy"]
            for surrogate in (self.model, self.directory / "ours")
        ]
        self.assertEqual(*transferred)
        self.assertLess(transferred[0], 0.75)


class Softmax(keras.Model):
    """Probabilities by an operation of TensorFlow."""

    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(4)

    def call(self, images):
        flat = tf.reshape(images, (-1, 8 * 8 * 3))
        return tf.nn.softmax(self.dense(flat))


class UnbuiltTest(tf.test.TestCase):
    images, _ = images_and_labels(7)

    def test_eager(self):
        """An eager call finds logits, as a traced one does."""
        model = Softmax()
        network = logits_of(model)
        eager = network(tf.constant(self.images))
        flat = self.images.reshape(7, -1)
        expected = tf.nn.log_softmax(model.dense(flat))
        self.assertAllClose(eager, expected, 1e-4)
        traced = tf.function(network, autograph=False)(tf.constant(self.images))
        self.assertAllClose(tf.nn.log_softmax(traced), expected, 1e-4)


class MeanOfProbabilitiesTest(tf.test.TestCase):
    images, _ = images_and_labels(7)

    def test_logarithms_are_attacked(self):
        """What no softmax ends in cannot say so; it is seen in the outputs."""
        inputs = keras.Input((8, 8, 3))
        flat = keras.layers.Flatten()(inputs)
        members = [
            keras.layers.Dense(4, activation="softmax")(flat) for _ in range(2)
        ]
        model = keras.Model(inputs, keras.layers.Average()(members))
        expected = np.log(model(self.images))
        self.assertAllClose(logits_of(model)(self.images), expected, 1e-5)
        labels = expected.argmax(-1)
        results = evaluate_robustness(model, (self.images, labels), "fgsm")
        self.assertEqual(results["clean_accuracy"], 1.0)
        self.assertEqual(results["warnings"], [])


class NewProcessTest(tf.test.TestCase):
    def test_a_robust_classifier(self):
        """Its class need not have been imported."""
        directory = self.enterContext(tempfile.TemporaryDirectory())
        robust = RobustClassifier(
            small_network(), FastAT(), pixel_range=(0, 255)
        )
        robust.save(f"{directory}/robust.keras")
        process = python(
            "-c",
            "from fastbat_tf.saving import model_files\n"
            f"network = model_files.load('{directory}/robust.keras')\n"
            "print(tuple(network.pixel_range))",
        )
        self.assertEqual(process.returncode, 0, process.stderr)
        self.assertEqual(process.stdout.splitlines()[-1], "(0.0, 255.0)")


class RefusedTest(parameterized.TestCase, tf.test.TestCase):
    def setUp(self):
        super().setUp()
        directory = self.enterContext(tempfile.TemporaryDirectory())
        self.path = pathlib.Path(directory, "model")

    def assert_refused(self, message):
        with self.assertRaisesRegex(InputError, message) as caught:
            model_files.load(self.path)
        self.assertIn("Received: ", str(caught.exception))
        self.assertNotIn("\n", str(caught.exception))

    def save(self, answers):
        """A SavedModel with two inputs, whose signature returns `answers`."""
        module = tf.Module()
        module.f = tf.function(answers, [SPEC], autograph=False)
        tf.saved_model.save(
            module, str(self.path), {"serving_default": module.f}
        )

    def test_nothing(self):
        self.assert_refused(
            "^The model is expected to be a .keras, .onnx or .tflite file or "
            "the directory of a SavedModel, but there is none. "
            "Received: model_path="
            rf"{self.path}$"
        )

    def test_an_empty_directory(self):
        self.path.mkdir()
        self.assert_refused(
            rf"^The model cannot be read;.* Received: model_path={self.path}"
        )

    @parameterized.parameters("1/saved_model.pb", "model.onnx", "model.keras")
    def test_a_directory_around_a_model(self, name):
        """It tells the path that was meant."""
        model = self.path / name
        model.parent.mkdir(parents=True)
        model.touch()
        meant = model.parent if model.suffix == ".pb" else model
        self.assert_refused(
            f"^The model cannot be read;.*, such as {meant}. "
            f"Received: model_path={self.path}$"
        )

    @parameterized.parameters(
        *("model", "model.keras", "model.h5", "model.txt", "model.mlir")
    )
    def test_no_model(self, name):
        self.path = self.path.with_name(name)
        self.path.write_text("No model.\n")
        self.assert_refused(
            rf"^The model cannot be read;.* Received: model_path={self.path}"
        )

    @parameterized.parameters("model.keras", "model.h5")
    def test_an_unknown_layer(self, name):
        self.path = self.path.with_name(name)
        layer = type("Unknown", (keras.layers.Layer,), {})
        keras.Sequential([keras.Input((8, 8, 3)), layer()]).save(self.path)
        self.assert_refused(
            "^The model cannot be read;.* Received: model_path="
            rf"{self.path} \(the (class|layer) Unknown is not defined; "
            r"import or define it before\)$"
        )

    def test_half_a_file(self):
        self.path = self.path.with_name("model.keras")
        small_network().save(self.path)
        content = self.path.read_bytes()
        self.path.write_bytes(content[: len(content) // 2])
        self.assert_refused("^The model cannot be read;")

    def test_no_signature(self):
        tf.saved_model.save(tf.Module(), str(self.path))
        self.assert_refused(r"serving_default .*signatures=\[\]")

    def test_two_outputs_without_logits(self):
        self.save(lambda x: {"a": x, "b": x})
        self.assert_refused(
            "signature serving_default with one input, and with the output "
            r"logits or a single output\. Received: signatures="
            r"\['serving_default'\], inputs=\['pixels'\], "
            r"outputs=\['a', 'b'\]$"
        )

    def test_two_inputs(self):
        module = tf.Module()
        specs = [SPEC, tf.TensorSpec((), tf.float32, name="temperature")]
        module.f = tf.function(lambda x, t: {"logits": x / t}, specs)
        tf.saved_model.save(
            module, str(self.path), {"serving_default": module.f}
        )
        self.assert_refused(r"one input.* inputs=\['pixels', 'temperature'\]")

    def test_logits_among_others(self):
        self.save(lambda x: {"a": x, "logits": 2 * x, "z": 3 * x})
        images, _ = images_and_labels(2)
        self.assertAllClose(model_files.load(self.path)(images), 2 * images)

    def test_images_of_another_shape(self):
        """TensorFlow would call the network, which accepts some of them."""
        self.save(lambda x: {"logits": 2 * x})
        network = model_files.load(self.path)
        for shape in ((4, 6, 6, 3), (4, 8, 8, 1), (8, 8, 3)):
            with self.assertRaisesRegex(
                InputError,
                r"^The SavedModel expects images of the shape \(None, 8, 8, 3\)"
                rf"\. Received: images.shape=\({', '.join(map(str, shape))}\)$",
            ):
                network(tf.zeros(shape))

    def test_one_output_of_any_name(self):
        self.save(lambda x: {"scores": 2 * x})
        images, _ = images_and_labels(2)
        self.assertAllClose(model_files.load(self.path)(images), 2 * images)


if __name__ == "__main__":
    tf.test.main()
