"""Tests that data in each form that `fit` takes are read alike."""

from unittest import mock

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from fastbat_tf.data import examples
from fastbat_tf.data.examples import read_examples
from fastbat_tf.data.indexing import with_index
from fastbat_tf.errors import InputError
from tests.support import testing

IMAGES, LABELS = testing.images_and_labels(10)
WEIGHTS = np.linspace(0.5, 1, 10)


class Sequence(keras.utils.PyDataset):
    """Batches of 4, 4 and 2 examples."""

    def __len__(self):
        return 3

    def __getitem__(self, number):
        part = slice(4 * number, 4 * number + 4)
        return IMAGES[part], LABELS[part]


class Endless(Sequence):
    @property
    def num_batches(self):
        return None


def parts():
    sequence = Sequence()
    return (sequence[number] for number in range(3))


def dataset(*parts):
    return tf.data.Dataset.from_tensor_slices(parts)


DICTS = {"image": IMAGES, "label": LABELS, "id": np.arange(10)}
FORMS = {
    "pair": lambda: (IMAGES, LABELS),
    "list": lambda: [IMAGES, LABELS],
    "lists": lambda: (IMAGES.tolist(), LABELS.tolist()),
    "tensors": lambda: (tf.constant(IMAGES), tf.constant(LABELS)),
    "dict": lambda: DICTS,
    "only_input": lambda: ({"input": IMAGES}, LABELS),
    "index": lambda: ({"images": IMAGES, "index": np.arange(10)}, LABELS),
    "dataset": lambda: dataset(IMAGES, LABELS).batch(4),
    "dataset_of_dicts": lambda: dataset(DICTS).map(lambda x: x).batch(4),
    "dataset_with_index": lambda: with_index(dataset(IMAGES, LABELS)).batch(4),
    "unknown_length": lambda: (
        dataset(IMAGES, LABELS).filter(lambda x, y: True).batch(4)
    ),
    "py_dataset": Sequence,
    "generator": parts,
    "iterator": lambda: map(tuple, parts()),
    "generator_of_dicts": lambda: (
        {"image": images, "label": labels} for images, labels in parts()
    ),
}
IMAGES_ALONE = dataset(IMAGES).batch(4)


class FormsTest(parameterized.TestCase, tf.test.TestCase):
    @parameterized.parameters(*FORMS)
    def test_form(self, form):
        found = read_examples(FORMS[form]())
        self.assertAllEqual(found.images, IMAGES)
        self.assertAllEqual(found.labels, LABELS)
        self.assertFalse(found.is_weighted)

    def test_weights(self):
        for data in (
            (IMAGES, LABELS, WEIGHTS),
            dataset(IMAGES, LABELS, WEIGHTS).batch(4),
        ):
            found = read_examples(data)
            self.assertTrue(found.is_weighted)
            self.assertAllEqual(found.images, IMAGES)

    @parameterized.parameters("uint8", "float16", "bfloat16", "float64")
    def test_type_is_kept(self, dtype):
        images = tf.cast(255 * IMAGES, dtype)
        for data in ((images, LABELS), dataset(images, LABELS).batch(4)):
            found = read_examples(data)
            self.assertEqual(found.images.dtype.name, dtype)
            self.assertAllEqual(found.images, images)

    @parameterized.named_parameters(
        ("infinite", dataset(IMAGES, LABELS).batch(4).repeat(), "finite.*take"),
        ("endless", Endless(workers=1), "finite.*__len__.*Endless without a"),
        ("base", keras.utils.PyDataset(), "finite.*__len__.*PyDataset without"),
        ("unbatched", dataset(IMAGES, LABELS), r"call dataset.batch\(...\)"),
        ("no_labels", IMAGES_ALONE, r"pair \(images, labels\)"),
        ("alone", IMAGES, r"pair .*dataset=ndarray of shape \(10, 8, 8, 3\)$"),
        ("alone_in_tuple", (IMAGES,), r"pair \(images, labels\)"),
        ("name", "cifar10", "dataset='cifar10'$"),
        ("none", None, "dataset=NoneType$"),
        ("other_dict", {"x": IMAGES, "y": LABELS}, "dict with x, y$"),
        ("four", (IMAGES, LABELS, LABELS, LABELS), "Received: 4 parts$"),
        ("swapped", (LABELS, IMAGES), r"first: \(images, labels\)"),
        ("empty", iter([]), "at least one batch"),
        ("splits", ((IMAGES, LABELS), (IMAGES, LABELS)), "images=tuple of 2$"),
        (
            "inputs",
            ({"a": IMAGES, "b": LABELS}, LABELS),
            "fixes the others. Received: images=dict with a, b$",
        ),
        ("count", (IMAGES, LABELS[:9]), r"same number.*labels.shape=\(9,\)$"),
        ("gray", (IMAGES[..., 0], LABELS), r"one channel, images\[..., None\]"),
        (
            "sizes",
            iter([(IMAGES, LABELS), (IMAGES[:, :4], LABELS)]),
            r"images.shape=\(batch, 4, 8, 3\) and \(batch, 8, 8, 3\)$",
        ),
    )
    def test_refused(self, data, message):
        with self.assertRaisesRegex(InputError, message) as caught:
            read_examples(data)
        self.assertIn("Received: ", str(caught.exception))
        self.assertNotIn("\n", str(caught.exception))

    def test_endless_generator(self):
        """It would fill the memory; the message names a way out."""

        def endless():
            while True:
                yield IMAGES, LABELS

        with mock.patch.object(examples, "MEMORY_LIMIT", 10 * IMAGES.nbytes):
            with self.assertRaisesRegex(InputError, "end within.*assert_card"):
                read_examples(endless())


if __name__ == "__main__":
    tf.test.main()
