"""The index that `with_index` gives the examples of a data set."""

import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from fastbat_tf import with_index
from fastbat_tf.data.indexing import find_batch_size, find_examples
from fastbat_tf.errors import InputError

# Each image, label and weight says which example it is.
IMAGES = np.arange(7.0, dtype="float32").reshape(7, 1, 1, 1)
LABELS = np.arange(7)
Dataset = tf.data.Dataset


def examples(*more):
    return Dataset.from_tensor_slices((IMAGES, LABELS, *more))


def dicts():
    return Dataset.from_tensor_slices(
        {"image": IMAGES, "label": LABELS, "id": LABELS}
    )


def indices(dataset):
    """The index of each example, which its image and labels repeat."""
    found = []
    for x, *others in dataset:
        found.append(np.ravel(x["index"]))
        np.testing.assert_array_equal(np.ravel(x["images"]), found[-1])
        for other in others:
            np.testing.assert_array_equal(np.ravel(other), found[-1])
    return np.concatenate(found).tolist()


class WithIndexTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.named_parameters(
        ("examples", examples, 1),
        ("weighted", lambda: examples(LABELS), 2),
        ("dicts", dicts, 1),
        ("batches", lambda: examples().batch(3), 1),
        ("weighted_batches", lambda: examples(LABELS).batch(3), 2),
        ("batches_of_dicts", lambda: dicts().batch(2), 1),
        ("uneven_batches", lambda: examples().batch(3).unbatch().batch(2), 1),
        ("unbatched", lambda: examples().batch(3).unbatch(), 1),
    )
    def test_index(self, make, others):
        dataset = with_index(make())
        self.assertLen(dataset.element_spec, 1 + others)
        for _ in range(2):  # The same in each pass.
            self.assertEqual(indices(dataset), list(range(7)))
        shuffled = indices(dataset.shuffle(7, seed=0).repeat(2))
        self.assertEqual(sorted(shuffled), sorted(2 * list(range(7))))

    def test_a_dict_of_inputs(self):
        images = {"image": IMAGES, "metadata": LABELS}
        dataset = Dataset.from_tensor_slices((images, LABELS)).batch(2)
        for x, labels in with_index(dataset):
            self.assertAllEqual(x["images"]["metadata"], x["index"])
            self.assertAllEqual(labels, x["index"])

    def test_sizes_are_found(self):
        indexed = with_index(examples())
        made = indexed.cache().shuffle(7).repeat().batch(2).prefetch(1)
        self.assertEqual(find_examples(made), 7)
        self.assertEqual(find_batch_size(made), 2)
        self.assertEqual(find_examples(indexed.concatenate(indexed)), 7)
        self.assertIsNone(find_examples(examples()))
        self.assertIsNone(find_examples(with_index(examples().batch(3))))
        self.assertIsNone(
            find_examples(with_index(examples().filter(lambda x, y: y > 2)))
        )
        fixed = examples().batch(3, drop_remainder=True).map(lambda x, y: x)
        self.assertEqual(find_batch_size(fixed), 3)
        with self.assertRaisesRegex(InputError, "Received: 2 data sets"):
            find_examples(indexed.concatenate(with_index(examples())))

    def test_order_that_stays(self):
        for dataset in (
            examples().shuffle(7, reshuffle_each_iteration=False),
            examples().shuffle(7).cache(),
        ):
            first = [x["index"] for x, _ in with_index(dataset)]
            self.assertAllEqual(first, np.arange(7))

    @parameterized.named_parameters(
        ("array", lambda: IMAGES, "dataset=ndarray"),
        ("shuffled", lambda: examples().shuffle(7), "before `shuffle`"),
        (
            "shuffled_long_ago",
            lambda: examples().shuffle(7).map(lambda *x: x).batch(2),
            "before `shuffle`",
        ),
        ("repeated", lambda: examples().repeat(), "before `repeat`"),
        ("twice", lambda: with_index(examples()), "with an index"),
        ("no_labels", lambda: Dataset.from_tensor_slices(IMAGES), "labels"),
        (
            "no_images",
            lambda: Dataset.from_tensor_slices((LABELS, LABELS)),
            "element_spec=",
        ),
    )
    def test_refused(self, make, message):
        with self.assertRaisesRegex(InputError, message):
            with_index(make())


if __name__ == "__main__":
    tf.test.main()
