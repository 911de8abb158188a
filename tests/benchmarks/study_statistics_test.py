"""Differences over seeds and images, against NumPy and by simulation."""

import numpy as np
from absl.testing import absltest
from scipy import stats

from benchmarks import study_statistics
from fastbat_tf.experiment.report import paired


class DifferenceTest(absltest.TestCase):
    def test_one_seed_is_that_of_paired_proportions(self):
        draws = np.random.default_rng(0)
        first, second = draws.random((2, 1, 90)) < 0.5
        found = study_statistics.difference(first, second)
        expected = paired.compare(first[0], second[0])
        self.assertEqual(found.value, expected.value)
        self.assertEqual(found.interval, expected.interval)
        self.assertEqual((found.seeds, found.images), (1, 90))

    def test_several_seeds_against_numpy(self):
        draws = np.random.default_rng(1)
        first, second = draws.random((2, 3, 40)) < [[[0.6]], [[0.4]]]
        each = np.float64(first) - np.float64(second)
        by_seed = each.mean(1).var(ddof=1) / 3
        by_image = each.mean(0).var(ddof=1) / 40
        freedom = (by_seed + by_image) ** 2 / (
            by_seed**2 / 2 + by_image**2 / 39
        )
        low, high = stats.t.interval(
            0.95, freedom, each.mean(), np.sqrt(by_seed + by_image)
        )
        found = study_statistics.difference(first, second)
        np.testing.assert_allclose(found.interval, (low, high))
        self.assertAlmostEqual(found.value, each.mean())

    def test_covers_over_new_seeds_and_images(self):
        """Both vary from experiment to experiment; the true value is 0."""
        draws = np.random.default_rng(2)
        covered = []
        for _ in range(400):
            # One image is easier than another, and one seed than another.
            image = draws.normal(0, 0.3, (1, 200))
            rows = [
                draws.random((5, 200))
                < 0.5 + image + draws.normal(0, 0.05, (5, 1))
                for _ in range(2)
            ]
            found = study_statistics.difference(*rows)
            covered.append(not found.differs)
        self.assertBetween(np.mean(covered), 0.93, 1.0)

    def test_a_true_difference_is_seen(self):
        draws = np.random.default_rng(3)
        luck = draws.random((5, 1000))
        found = study_statistics.difference(luck < 0.5, luck < 0.4)
        self.assertTrue(found.differs)
        low, high = found.interval
        self.assertBetween(0.1, low, high)

    def test_equal_rows(self):
        right = np.ones((3, 10), bool)
        found = study_statistics.difference(right, right)
        self.assertEqual((found.value, found.interval), (0, (0, 0)))
        self.assertFalse(found.differs)


class AccuracyTest(absltest.TestCase):
    def test_one_seed_is_wilsons_interval(self):
        right = np.arange(50)[np.newaxis] < 20
        value, interval = study_statistics.accuracy_interval(right)
        wilson = stats.binomtest(20, 50).proportion_ci(method="wilson")
        self.assertEqual(value, 0.4)
        np.testing.assert_allclose(interval, (wilson.low, wilson.high))

    def test_several_seeds_against_numpy(self):
        draws = np.random.default_rng(4)
        right = draws.random((4, 30)) < 0.5
        by_seed = right.mean(1).var(ddof=1) / 4
        by_image = right.mean(0).var(ddof=1) / 30
        freedom = (by_seed + by_image) ** 2 / (
            by_seed**2 / 3 + by_image**2 / 29
        )
        expected = stats.t.interval(
            0.95, freedom, right.mean(), np.sqrt(by_seed + by_image)
        )
        value, interval = study_statistics.accuracy_interval(right)
        self.assertAlmostEqual(value, right.mean())
        np.testing.assert_allclose(interval, expected)


if __name__ == "__main__":
    absltest.main()
