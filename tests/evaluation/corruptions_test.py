"""Accuracy on common corruptions: means, subsets, and wrong files."""

import pathlib
import pickle
import re
import tempfile

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

import fastbat_tf as fb
from fastbat_tf.errors import InputError
from fastbat_tf.evaluation import corruption_table, inputs
from fastbat_tf.evaluation.corruptions import EXTRA, STANDARD, open_files
from tests.support import toy_evaluation

COUNT, CLASSES = 12, 4
SHAPE = toy_evaluation.SHAPE
LABELS = np.arange(COUNT) % CLASSES


def marked(classes):
    """Images whose first pixel is the class that `read_mark` predicts."""
    images = np.full((len(classes), *SHAPE), 7, np.uint8)
    images[:, 0, 0, 0] = classes
    return images


def read_mark(images):
    """Logits of the class that is marked, exact for gray levels."""
    level = tf.cast(tf.round(images[:, 0, 0, 0] * 255), tf.int32)
    return tf.one_hot(level, CLASSES)


def right(corruption, severity):
    """How many of the images are classified correctly."""
    return (corruption + 2 * severity) % (COUNT + 1)


def write(directory, names):
    """Writes a directory; the first images are those that are right."""
    directory.mkdir(exist_ok=True)
    for name in names:
        number = (*STANDARD, *EXTRA).index(name)
        classes = np.tile(LABELS, (5, 1))
        for severity in range(5):
            classes[severity, right(number, severity) :] += 1
        np.save(directory / f"{name}.npy", marked(classes.ravel() % CLASSES))
    np.save(directory / "labels.npy", np.tile(LABELS, 5).astype(np.uint8))


class CorruptionsTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = pathlib.Path(directory.name, "c")

    def test_the_published_names(self):
        self.assertLen(STANDARD, 15)
        self.assertLen({*STANDARD, *EXTRA}, 19)

    def test_accuracies_and_means(self):
        write(self.directory, (*EXTRA, *STANDARD))
        found = fb.evaluate_corruptions(read_mark, self.directory, batch_size=5)
        shares = np.array(
            [[right(c, s) / COUNT for s in range(5)] for c in range(19)]
        )
        self.assertEqual(list(found["accuracy"]), [*STANDARD, *EXTRA])
        self.assertAllClose(list(found["accuracy"].values()), shares, 1e-12)
        self.assertAllClose(found["mean_accuracy"], shares[:15].mean(), 1e-12)
        self.assertAllClose(
            found["severity_accuracy"], shares[:15].mean(0), 1e-12
        )
        self.assertEqual(found["missing"], [])
        self.assertEqual((found["examples"], found["subset"]), (COUNT, None))

    def test_missing_corruptions_leave_no_mean(self):
        write(self.directory, ("spatter", *STANDARD[2:]))
        found = fb.evaluate_corruptions(read_mark, self.directory)
        self.assertEqual(found["missing"], list(STANDARD[:2]))
        self.assertIsNone(found["mean_accuracy"])
        self.assertIsNone(found["severity_accuracy"])
        self.assertLen(found["accuracy"], 14)
        listed = corruption_table.rows(found)
        self.assertLen(listed, 15)
        self.assertEqual(listed[-1][0], "spatter (extra)")
        self.assertFalse([row for row in listed if "mean of" in row[0]])
        self.assertRegex(
            corruption_table.describe(found),
            r"no mean of the 15 .* without gaussian_noise, shot_noise\.$",
        )

    def test_a_subset_is_the_same_at_each_severity(self):
        write(self.directory, STANDARD)
        found = fb.evaluate_corruptions(
            read_mark, self.directory, max_examples=8, seed=3
        )
        index, subset = inputs.choose(LABELS, 8, 3)
        self.assertEqual(found["subset"], subset)
        self.assertEqual((found["examples"], found["seed"]), (8, 3))
        for number, name in enumerate(STANDARD):
            expected = [(index < right(number, s)).mean() for s in range(5)]
            self.assertAllClose(found["accuracy"][name], expected, 1e-12)

    def test_models_of_other_kinds(self):
        """A file, a range of pixels, and many small reads."""
        write(self.directory, ("fog",))
        inputs_ = keras.Input(SHAPE)
        x = keras.layers.Flatten()(inputs_)
        x = keras.layers.Dense(CLASSES, name="dense")(x)
        model = keras.Model(inputs_, x)
        # -(level - k)^2 up to a constant: the nearest class.
        k = np.arange(CLASSES)
        kernel = np.zeros((np.prod(SHAPE), CLASSES))
        kernel[0] = 2 * k
        model.set_weights([kernel, -(k**2)])
        path = self.directory / "model.keras"
        model.save(path)
        expected = [right(STANDARD.index("fog"), s) / COUNT for s in range(5)]
        for given in (model, path):
            found = fb.evaluate_corruptions(
                given, self.directory, pixel_range=(0, 255), batch_size=1
            )
            self.assertAllClose(found["accuracy"]["fog"], expected, 1e-12)

    def test_labels_beyond_the_classes_of_the_model(self):
        write(self.directory, ("fog",))
        with self.assertRaisesRegex(InputError, "Labels.*0, 3"):
            fb.evaluate_corruptions(
                lambda x: read_mark(x)[:, :3], self.directory
            )

    def check(self, expected, name="fog"):
        path = re.escape(str(self.directory / f"{name}.npy"))
        with self.assertRaisesRegex(InputError, f"{expected}.*{path}") as error:
            open_files(self.directory)
        self.assertNotIn("\n", str(error.exception))

    def test_no_directory(self):
        with self.assertRaisesRegex(
            InputError, "file for each corruption.*gaussian_noise.npy.*/c$"
        ):
            open_files(self.directory)

    @parameterized.parameters(
        (marked(np.zeros(59)), r"\(60, height, width, channels\).*\(59, 4"),
        (marked(np.zeros(60)).astype("float32"), "uint8.*float32"),
        (np.zeros((60, 48), np.uint8), r"uint8 \(60, h.*\(60, 48\)"),
        (np.array([{}, []], object), "array of numbers"),
    )
    def test_wrong_arrays(self, array, expected):
        write(self.directory, ("fog",))
        np.save(self.directory / "fog.npy", array)
        self.check(expected)

    def test_images_of_two_sizes(self):
        write(self.directory, ("snow", "fog"))
        np.save(self.directory / "fog.npy", np.zeros((60, 4, 5, 3), np.uint8))
        self.check(r"uint8 \(60, 4, 4, 3\) in fog.npy.*\(60, 4, 5, 3\)")

    @parameterized.parameters("pickle", "archive", "cut", "empty")
    def test_files_of_other_kinds(self, kind):
        write(self.directory, ("fog",))
        path = self.directory / "fog.npy"
        content = path.read_bytes()
        if kind == "archive":
            with path.open("wb") as file:
                np.savez(file, fog=np.zeros(3))
        else:
            path.write_bytes(
                {
                    "pickle": pickle.dumps(np.zeros(3)),
                    "cut": content[: len(content) // 2],
                    "empty": b"",
                }[kind]
            )
        self.check("array of numbers is expected")

    @parameterized.parameters(
        (np.zeros(58, int), "5 severities of one size"),
        (np.zeros((60, 4), int), r"integers \(images,\).*int64 \(60, 4\)"),
        (np.zeros(60), "integers.*float64"),
        (np.arange(60) % 7, "same at each"),
        (np.zeros(0, int), "integers"),
    )
    def test_wrong_labels(self, labels, expected):
        write(self.directory, ("fog",))
        np.save(self.directory / "labels.npy", labels)
        self.check(expected, "labels")

    def test_no_labels(self):
        write(self.directory, ("fog",))
        (self.directory / "labels.npy").unlink()
        self.check("array of numbers", "labels")

    def test_wrong_arguments(self):
        write(self.directory, ("fog",))
        for name, value in (
            ("max_examples", 13),
            ("max_examples", -1),
            ("batch_size", 0),
            ("seed", -1),
        ):
            with self.assertRaisesRegex(InputError, f"{name}={value}$"):
                fb.evaluate_corruptions(
                    read_mark, self.directory, **{name: value}
                )


if __name__ == "__main__":
    tf.test.main()
