"""Tests the input of an evaluation: data sets, subsets, streams."""

import pathlib
import tempfile
from unittest import mock

import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from fastbat_tf.data import Reading, image_files, sources
from fastbat_tf.errors import InputError
from fastbat_tf.evaluation.inputs import check_count, choose
from fastbat_tf.evaluation.robustness import evaluate_robustness
from fastbat_tf.experiment import reading
from tests.evaluation.robustness_test import without_seconds
from tests.support.image_data import write
from tests.support.toy_evaluation import SHAPE, as_floats, toy_data, toy_network

DIVIDED = "The images are uint8: pixels were divided by 255."


class ChooseTest(parameterized.TestCase, tf.test.TestCase):
    def labels(self, *counts):
        labels = np.repeat(np.arange(len(counts)), counts)
        return np.random.default_rng(1).permutation(labels)

    def counts(self, labels, max_examples, seed=0):
        index, _ = choose(labels, max_examples, seed)
        self.assertLen(index, max_examples)
        self.assertLen(set(index), max_examples)
        self.assertAllEqual(index, np.sort(index))
        return np.bincount(labels[index], minlength=labels.max() + 1).tolist()

    @parameterized.parameters(None, 0, 20)
    def test_all(self, max_examples):
        index, sentence = choose(self.labels(5, 15), max_examples, 0)
        self.assertAllEqual(index, np.arange(20))
        self.assertIsNone(sentence)

    def test_balanced(self):
        labels = self.labels(100, 60, 20, 10)
        self.assertEqual(self.counts(labels, 4), [1, 1, 1, 1])
        self.assertEqual(self.counts(labels, 40), [10, 10, 10, 10])

    def test_remainder(self):
        labels = self.labels(50, 50, 50, 50)
        extra = set()
        for seed in range(20):
            counts = self.counts(labels, 42, seed)
            self.assertEqual(sorted(counts), [10, 10, 11, 11])
            extra |= {n for n, count in enumerate(counts) if count == 11}
        # The classes vary.
        self.assertEqual(extra, {0, 1, 2, 3})

    def test_small_classes(self):
        labels = self.labels(100, 3, 100, 1)
        counts = self.counts(labels, 41)
        self.assertEqual((counts[1], counts[3]), (3, 1))
        self.assertEqual({counts[0], counts[2]}, {18, 19})
        self.assertEqual(self.counts(labels, 203)[1::2], [3, 1])

    def test_seed(self):
        labels = self.labels(50, 50)
        first, sentence = choose(labels, 10, 3)
        again, _ = choose(labels[:, np.newaxis], 10, 3)
        other, _ = choose(labels, 10, 4)
        self.assertAllEqual(first, again)
        self.assertNotAllEqual(first, other)
        self.assertEqual(
            sentence,
            "A class-balanced subset, drawn with seed 3: 10 of 100 examples.",
        )
        # Drawn from the whole data set, not from its beginning.
        self.assertGreater(first.max(), 50)

    @parameterized.parameters(-1, 101)
    def test_refused(self, max_examples):
        with self.assertRaisesRegex(
            InputError,
            r"^`max_examples` is expected in \[0, 100\].* "
            f"Received: max_examples={max_examples}$",
        ):
            choose(self.labels(50, 50), max_examples, 0)


def ranged(network, low, high):
    """The network for pixels in [low, high]."""
    return lambda images: network((images - low) / (high - low))


class DataSetTest(tf.test.TestCase):
    def evaluate(self, dataset, **kwargs):
        results = evaluate_robustness(
            toy_network(), dataset, ["pgd-3-2"], [0.02], **kwargs
        )
        return without_seconds(results)

    def test_forms(self):
        """The numbers do not depend on the form of the data."""
        images, labels = toy_data(30)
        expected = self.evaluate((images, labels))
        self.assertEqual(expected["notes"], [DIVIDED])
        self.assertEqual(
            self.evaluate([images, labels[:, np.newaxis].astype("uint8")]),
            expected,
        )
        batches = tf.data.Dataset.from_tensor_slices((images, labels)).batch(7)
        self.assertEqual(self.evaluate(batches), expected)
        unknown = tf.data.Dataset.from_generator(
            lambda: iter([(images[:9], labels[:9]), (images[9:], labels[9:])]),
            output_types=(tf.uint8, tf.int64),
        )
        self.assertEqual(self.evaluate(unknown), expected)
        expected["notes"] = []
        floats = as_floats(images)
        self.assertEqual(self.evaluate((floats, labels)), expected)
        self.assertEqual(
            self.evaluate((tf.constant(floats), tf.constant(labels))), expected
        )
        self.assertEqual(
            self.evaluate((floats.astype("float64"), labels)), expected
        )

    def test_forms_of_fit(self):
        """All that training takes is measured as the pair of arrays is."""
        images, labels = toy_data(30)
        images = (np.round(as_floats(images) * 128) / 128).astype("float32")
        expected = self.evaluate((images, labels))
        one_hot = np.eye(4)[labels]
        for data in (
            (images.astype("float16"), one_hot),
            (tf.cast(images, "bfloat16"), 0.9 * one_hot + 0.025),
            ((images[k : k + 9], labels[k : k + 9]) for k in (0, 9, 18, 27)),
        ):
            self.assertEqual(self.evaluate(data), expected)
        weighted = self.evaluate((images, labels, np.ones(30)))
        (note,) = weighted.pop("notes")
        self.assertRegex(note, "weights are ignored")
        expected.pop("notes")
        self.assertEqual(weighted, expected)

    def test_one_attack_and_the_default_radius(self):
        """Of one attack the name suffices; the norm has a usual radius."""
        data = toy_data(10)
        for norm, epsilon in ((np.inf, 8 / 255), ("L2", 128 / 255)):
            results = evaluate_robustness(
                toy_network(), data, "fgsm", norm=norm
            )
            self.assertEqual(
                results["norm"], {np.inf: "linf", "L2": "l2"}[norm]
            )
            (row,) = results["attacks"]
            self.assertEqual((row["attack"], row["epsilon"]), ("fgsm", epsilon))

    def test_rounding_is_clipped_with_a_note(self):
        """Pixels of 1.0000002 are 1; the note says how far they were off."""
        images, labels = toy_data(20)
        images = as_floats(images)
        images[0, 0, 0, 0] = 1
        for low, high in ((0, 1), (-1, 1)):
            given = (low + (high - low) * images).astype("float32")
            model = ranged(toy_network(), low, high)
            expected = self.evaluate_in(model, given, labels, (low, high))
            given[0, 0, 0, 0] = np.nextafter(np.float32(high), np.float32(9))
            found = self.evaluate_in(model, given, labels, (low, high))
            self.assertRegex(
                found["notes"][0],
                rf"outside \[{low}, 1\], by at most 1.2e-07, were clipped",
            )
            self.assertEqual(found["notes"][1:], expected["notes"])
            self.assertEqual(found["attacks"], expected["attacks"])

    def evaluate_in(self, model, images, labels, pixel_range):
        return without_seconds(
            evaluate_robustness(
                model, (images, labels), "fgsm", pixel_range=pixel_range
            )
        )

    def test_subset(self):
        data = images, labels = toy_data(60)
        results = self.evaluate(data, max_examples=12, seed=3)
        index, sentence = choose(labels, 12, 3)
        self.assertEqual(results["subset"], sentence)
        self.assertEqual(results["notes"], [sentence, DIVIDED])
        self.assertEqual(results["examples"], 12)
        alone = self.evaluate((images[index], labels[index]), seed=3)
        for name in ("clean_accuracy", "attacks"):
            self.assertEqual(results[name], alone[name])


class StreamTest(tf.test.TestCase):
    """A data set of 60 image files that is too large for memory."""

    def setUp(self):
        super().setUp()
        directory = pathlib.Path(
            self.enterContext(tempfile.TemporaryDirectory())
        )
        self.images, self.labels = toy_data(60)
        paths = [
            write(directory / f"{n}.png", image)
            for n, image in enumerate(self.images)
        ]
        self.read = self.enterContext(
            mock.patch.object(
                image_files, "read_file", side_effect=image_files.read_file
            )
        )
        self.stream = sources.Files(paths, self.labels, Reading(*SHAPE))
        limit = 20 * int(np.prod(SHAPE))
        self.enterContext(mock.patch.object(sources, "MEMORY_LIMIT", limit))

    def test_the_subset_alone_is_decoded(self):
        results, expected = (
            without_seconds(
                evaluate_robustness(
                    toy_network(), dataset, ["pgd-3-2"], [0.02], max_examples=12
                )
            )
            for dataset in (self.stream, (self.images, self.labels))
        )
        self.assertEqual(results, expected)
        self.assertEqual(self.read.call_count, 12)

    def test_more_than_the_memory_holds(self):
        for count in (0, 21, 60):
            with self.assertRaisesRegex(
                InputError,
                r"`max_examples` is expected in \[1, 20\].*"
                f"Received: max_examples={count}$",
            ):
                evaluate_robustness(
                    toy_network(), self.stream, max_examples=count
                )
            with self.assertRaises(InputError):
                check_count(self.stream, count)
        with self.assertRaisesRegex(InputError, r"\[0, 60\].*=61$"):
            check_count(self.stream, 61)
        check_count(self.stream, 20)
        self.assertEmpty(self.read)

    def test_validation(self):
        images, labels = reading.first(self.stream, 7)
        self.assertAllEqual(images, self.images[:7])
        self.assertAllEqual(labels, self.labels[:7])
        for count in (0, 21):
            with self.assertRaisesRegex(
                InputError, f"streamed; `validation_examples` .*={count}$"
            ):
                reading.first(self.stream, count)
        self.assertEqual(self.read.call_count, 7)


if __name__ == "__main__":
    tf.test.main()
