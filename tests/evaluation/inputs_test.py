"""Tests the input of an evaluation: data sets, subsets, invalid input."""

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
from fastbat_tf.experiment import train
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
        images, labels = train.first(self.stream, 7)
        self.assertAllEqual(images, self.images[:7])
        self.assertAllEqual(labels, self.labels[:7])
        for count in (0, 21):
            with self.assertRaisesRegex(
                InputError, f"streamed; `validation_examples` .*={count}$"
            ):
                train.first(self.stream, count)
        self.assertEqual(self.read.call_count, 7)


def half_of(network):
    return lambda images: network(images)[::2]


IMAGES, LABELS = toy_data(8)


class RefusedTest(parameterized.TestCase, tf.test.TestCase):
    """Each error is one line, with the expected and the received value."""

    def assert_refused(self, message, model=None, data=None, **kwargs):
        arguments = {"attacks": ["pgd-1-1"], "epsilons": [0.1], **kwargs}
        if data is None:
            data = (IMAGES, LABELS)
        with self.assertRaisesRegex(InputError, message) as caught:
            model = toy_network() if model is None else model
            evaluate_robustness(model, data, **arguments)
        self.assertIsInstance(caught.exception, ValueError)
        text = str(caught.exception)
        self.assertIn("Received: ", text)
        self.assertNotIn("\n", text)

    @parameterized.parameters(
        (["pgd-1-1", "cw"], "one of fgsm, .*square.* Received: attack=cw$"),
        (["pgd-50"], r"pgd-STEPS-RESTARTS\b.* Received: attack=pgd-50$"),
        (["pgd-0-1"], "attack=pgd-0-1$"),
        (["fgsm+transfer"], r"attack=fgsm\+transfer$"),
        ([], r"`attacks` .*at least one.* Received: attacks=\[\]$"),
        (["fgsm", "fgsm"], "none twice.*attacks="),
        ("cw", "one of fgsm, .* Received: attack=cw$"),
        ("fgsm,pgd-1-1", "Received: attack=fgsm,pgd-1-1$"),
        # `fit(images, labels)` has taught this call.
        (LABELS, r"dataset=\(images, labels\).*attacks=ndarray of shape"),
        ([3, 1], r"dataset=\(images, labels\).* Received: attacks=\[3, 1\]$"),
        ([print], r'such as \["pgd-50-10", "autoattack"\]\. Received'),
        (3, "list of names, .* Received: attacks=3$"),
    )
    def test_attacks(self, attacks, message):
        self.assert_refused(message, attacks=attacks)

    @parameterized.parameters(
        ([0.0], r"above 0 .*, such as 8/255\. Received: epsilon=0.0$"),
        ([0.1, -0.1], "above 0.* Received: epsilon=-0.1$"),
        ([float("nan")], "Received: epsilon=nan$"),
        ([8], "at most 1 for linf: for 8 gray levels 8/255.*epsilon=8.0$"),
        (300.0, "at most 1 for linf, .* Received: epsilon=300.0$"),
        ([], r"`epsilons` .*at least one.* Received: epsilons=\[\]$"),
        ([0.1, 0.1], r"none twice.* Received: epsilons=\[0.1, 0.1\]$"),
        ("8/255", "`epsilons` .*Received: epsilons='8/255'$"),
        (["8/255"], r"`epsilons` .*Received: epsilons=\['8/255'\]$"),
    )
    def test_epsilons(self, epsilons, message):
        self.assert_refused(message, epsilons=epsilons)

    def test_epsilon_of_l2(self):
        self.assert_refused(
            "finite.*epsilon=inf$", norm="l2", epsilons=[float("inf")]
        )

    def test_norm(self):
        self.assert_refused("linf, l2.* Received: norm=l1$", norm="l1")

    @parameterized.parameters(
        # `fit` takes whole numbers as floats, so the evaluation does, too.
        ((LABELS + 0.5).astype("float32"), "integers.*dtype=float32$"),
        (LABELS[:7], r"same number.*labels.shape=\(7,\)$"),
        (LABELS + 4, r"in \[0, 4\).*Received: range=\("),
        (LABELS - 5, r"in \[0, 4\).*Received: range=\(-"),
        # One-hot labels are as good as integers, if they fit the model.
        (np.eye(5)[LABELS], "model's 4 classes. Received: labels for 5"),
        (np.full((8, 4), 0.25), r"likeliest .*labels\[0\] with several of"),
        (np.where(LABELS > 1, 1, -1), "4 classes. Received: labels for 2"),
        (3, r"same number.*labels.shape=\(\)$"),
    )
    def test_labels(self, labels, message):
        self.assert_refused(message, data=(IMAGES, labels))

    @parameterized.parameters(
        (IMAGES.astype("float32"), r"in \[0, 1\].*range=\(0.0, 255.0\)$"),
        (as_floats(IMAGES) - 0.1, r"in \[0, 1\].*range=\(-0.1"),
        (IMAGES * np.float32("nan"), r"in \[0, 1\].*range=\(nan"),
        (IMAGES.astype("int32"), "uint8.*images.dtype=int32$"),
        (IMAGES[..., 0], r"images.shape=\(8, 4, 4\)$"),
        (
            as_floats(IMAGES) * np.float32(1.000002),
            r"in \[0, 1\].*1\.00000\d+\)$",
        ),
        (IMAGES[0], r"same number.*images.shape=\(4, 4, 3\)"),
    )
    def test_images(self, images, message):
        self.assert_refused(message, data=(images, LABELS))

    @parameterized.parameters(
        (lambda images: images, "logits.*shape="),
        (lambda images: toy_network()(images)[:, 0], "logits.*shape="),
        (half_of(toy_network()), "logits.*for 8 images$"),
        (lambda images: {"logits": toy_network()(images)}, "logits.*shape="),
        (toy_network(classes=1), "two classes.*classes=1$"),
        (7, "keras.Model, a path, or a callable .*Received: model=7$"),
        (IMAGES, "come before the data set.*model=ndarray of shape"),
        ((IMAGES, LABELS), "come before the data set.*model=tuple of 2$"),
        ("no/such.keras", "there is none.*model_path=no/such.keras$"),
        (pathlib.Path("no", "such"), "model_path=no/such$"),
    )
    def test_model(self, model, message):
        self.assert_refused(message, model=model)

    def test_empty(self):
        empty = tf.data.Dataset.from_tensor_slices((IMAGES, LABELS)).batch(8)
        self.assert_refused("at least one batch", data=empty.take(0))
        self.assert_refused(
            r"at least one\. .*shape=\(0, ", data=(IMAGES[:0], LABELS[:0])
        )

    def test_data_sets(self):
        examples = tf.data.Dataset.from_tensor_slices((IMAGES, LABELS))
        batches = examples.batch(4)
        self.assert_refused("to be finite;.*infinite$", data=batches.repeat())
        self.assert_refused(r"call dataset.batch\(...\)", data=examples)
        self.assert_refused(
            "Labels are expected beside", data=batches.map(lambda x, y: x)
        )
        self.assert_refused(r"pair \(images, labels\)", data=IMAGES)
        self.assert_refused("dataset=function$", data=toy_network())
        self.assert_refused(r"pair \(images, labels\)", data=(IMAGES,))

    @parameterized.parameters(-1, 9)
    def test_max_examples(self, count):
        self.assert_refused(f"max_examples={count}$", max_examples=count)

    def test_batch_size(self):
        self.assert_refused("batch_size=0$", batch_size=0)

    def test_surrogate(self):
        self.assert_refused(
            "together. Received: attacks=fgsm,transfer-fgsm, surrogate=None$",
            attacks=["fgsm", "transfer-fgsm"],
        )
        self.assert_refused(
            "together. Received: attacks=pgd-1-1, surrogate=<function",
            surrogate=toy_network(),
        )
        self.assert_refused(
            "there is none.*model_path=no/such$",
            attacks=["transfer"],
            surrogate="no/such",
        )

    def test_save_images(self):
        self.assert_refused(
            "`save_images` .* directory .* Received: directory=None$",
            save_images=True,
        )

    def test_nothing_is_written(self):
        directory = pathlib.Path(self.get_temp_dir(), "nothing")
        for refused in (
            {"attacks": ["cw"]},
            {"epsilons": [0]},
            {"model": "no/such"},
            {"data": (IMAGES.astype("float32"), LABELS)},
            {"max_examples": 99},
            {"attacks": ["transfer"]},
        ):
            self.assert_refused("Received", directory=directory, **refused)
            self.assertFalse(directory.exists())

    def test_images_that_the_network_does_not_take(self):
        larger = np.zeros((7, SHAPE[0] + 1, *SHAPE[1:]), np.float32)
        self.assert_refused(
            r"^The model cannot classify these.* "
            r"Received: images.shape=\(7, 5, 4, 3\)",
            data=(larger, LABELS[:7]),
        )


if __name__ == "__main__":
    tf.test.main()
