"""Tests labels in each form that losses take, as class numbers."""

import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from fastbat_tf.data.classes import as_classes, check_count
from fastbat_tf.errors import InputError

LABELS = np.array([2, 0, 1, 3])
ONE_HOT = np.eye(4)[LABELS]
BINARY = np.array([1, 0, 0, 1])


class ClassesTest(parameterized.TestCase, tf.test.TestCase):
    @parameterized.parameters(
        (LABELS, None),
        (LABELS.tolist(), None),
        (LABELS[:, np.newaxis], None),
        (LABELS.astype("uint8"), None),
        (LABELS.astype("float64"), None),
        (tf.constant(LABELS, tf.bfloat16), None),
        (ONE_HOT, 4),
        (ONE_HOT.astype(int), 4),
        (ONE_HOT.astype(bool), 4),
        (2 * ONE_HOT - 1, 4),
        (0.9 * ONE_HOT + 0.025, 4),
        ((0.6 * ONE_HOT + 0.1).astype("float16"), 4),
    )
    def test_forms(self, labels, classes):
        found = as_classes(labels, 4)
        self.assertAllEqual(found.labels, LABELS)
        self.assertEqual(found.labels.dtype, np.int32)
        self.assertEqual(found.count, classes)

    @parameterized.parameters(
        (BINARY, None),
        (BINARY.astype(bool), None),
        (2 * BINARY - 1, 2),
        (2.0 * BINARY[:, np.newaxis] - 1, 2),
        (0.8 * BINARY + 0.1, 2),
        (np.eye(2)[BINARY], 2),
    )
    def test_two_classes(self, labels, classes):
        found = as_classes(labels, 4)
        self.assertAllEqual(found.labels, BINARY)
        self.assertEqual(found.count, classes)

    @parameterized.parameters(
        (LABELS[:3], r"4 integers.*labels.shape=\(3,\), dtype=int64$"),
        (ONE_HOT[:3], r"4 integers.*labels.shape=\(3, 4\)"),
        (LABELS + 0.5, "integers.* Received: label=2.5, dtype=float64$"),
        (LABELS * np.nan, "integers.* Received: label=nan$"),
        (LABELS.astype(str), "numbers.*dtype=<U21$"),
        (2 * ONE_HOT, r"from 0 to 1.* label=2, labels.shape=\(4, 4\)$"),
        (np.full((4, 2), 0.5), r"labels\[0\] with several of 0.5$"),
        ([0.1, 0.9, 0.5, 0.2], r"labels\[2\] with several of 0.5$"),
    )
    def test_refused(self, labels, message):
        with self.assertRaisesRegex(InputError, message):
            as_classes(labels, 4)

    def test_a_class_beyond_int32_stays_beyond_the_classes(self):
        labels = as_classes(np.array([2**32 + 1, -(2**40)]), 2).labels
        self.assertAllEqual(labels, [2**31 - 1, -(2**31)])

    def test_count(self):
        check_count(None, 4)
        check_count(4, 4)
        with self.assertRaisesRegex(InputError, "4 classes.* for 5 classes$"):
            check_count(5, 4)


if __name__ == "__main__":
    tf.test.main()
