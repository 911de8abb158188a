"""Tests the rules of the validation split."""

import numpy as np
from absl.testing import absltest, parameterized

from fastbat_tf.data import splitting
from fastbat_tf.errors import InputError


class LastTest(parameterized.TestCase):
    @parameterized.parameters((50_000, 0.1, 45_000), (10, 0.26, 7), (2, 0.3, 1))
    def test_kept(self, count, share, kept):
        self.assertEqual(splitting.last(count, share), kept)

    @parameterized.parameters((10, 0.01), (10, 0.99), (1, 0.5))
    def test_empty_split(self, count, share):
        with self.assertRaisesRegex(
            InputError,
            "^`validation_share` leaves one of the splits empty. "
            f"Received: validation_share={share}$",
        ):
            splitting.last(count, share)


class BalancedTest(parameterized.TestCase):
    def split(self, labels, share, groups=None):
        """The two splits as sorted lists, which must be disjoint."""
        parts = splitting.balanced(labels, share, groups)
        train, validation = (sorted(part.tolist()) for part in parts)
        self.assertEqual(sorted(train + validation), list(range(len(labels))))
        return train, validation

    def test_share_of_each_class(self):
        labels = np.repeat([0, 1, 2], [100, 40, 14])  # Sorted by class.
        train, validation = self.split(labels, 0.1)
        self.assertEqual(np.bincount(labels[validation]).tolist(), [10, 4, 1])
        self.assertEqual(np.bincount(labels[train]).tolist(), [90, 36, 13])

    def test_small_classes_are_in_both_splits(self):
        labels = np.repeat([0, 1, 2, 3], [1, 2, 4, 30])
        train, validation = self.split(labels, 0.1)
        self.assertEqual(np.bincount(labels[validation]).tolist(), [0, 1, 1, 3])
        # A large share leaves each class at least one training image.
        train, _ = self.split(labels, 0.9)
        self.assertEqual(np.bincount(labels[train]).tolist(), [1, 1, 1, 3])

    def test_is_the_same_each_time_and_in_a_random_order(self):
        labels = np.repeat([0, 1, 2, 3], 50)
        first, again = (splitting.balanced(labels, 0.2) for _ in range(2))
        for part, same in zip(first, again, strict=True):
            self.assertEqual(part.tolist(), same.tolist())
            # The beginning of the split holds all classes.
            self.assertEqual(set(labels[part[:20]]), {0, 1, 2, 3})

    def test_drawn_from_everywhere_in_a_class(self):
        _, validation = self.split(np.zeros(1000, int), 0.1)
        self.assertLess(validation[0], 100)
        self.assertGreater(validation[-1], 900)
        self.assertNotEqual(np.diff(validation).max(), 1)

    def test_groups_stay_together(self):
        labels = np.repeat([0, 1], [60, 60])
        groups = np.repeat(np.arange(40), 3).tolist()  # 20 of each class.
        train, validation = self.split(labels, 0.1, groups)
        chosen = {groups[index] for index in validation}
        self.assertEmpty(chosen & {groups[index] for index in train})
        self.assertLen(chosen, 4)
        self.assertLen(validation, 12)
        self.assertEqual(np.bincount(labels[validation]).tolist(), [6, 6])

    def test_names_of_groups_are_those_of_a_class(self):
        # Signs of both classes are numbered from 0.
        labels = np.repeat([0, 1], 10)
        groups = list(range(10)) * 2
        _, validation = self.split(labels, 0.1, groups)
        self.assertEqual(np.bincount(labels[validation]).tolist(), [1, 1])

    def test_empty_split(self):
        with self.assertRaisesRegex(InputError, "validation_share=0.1$"):
            splitting.balanced([0, 1], 0.1)


class SampleTest(parameterized.TestCase):
    @parameterized.parameters(
        ([0, 0, 0, 1, 1], 4, [0, 1, 3, 4]),
        ([1, 0, 1, 0, 1, 0], 3, [0, 1, 3]),
        ([2, 2, 2, 2, 0], 3, [0, 1, 4]),  # A class that is small.
        ([3, 2, 1, 0], 2, [2, 3]),
        ([0, 1], 9, [0, 1]),
    )
    def test_each_class_as_often(self, labels, count, expected):
        sample = splitting.sample(labels, count)
        self.assertEqual(sample.tolist(), expected)


if __name__ == "__main__":
    absltest.main()
