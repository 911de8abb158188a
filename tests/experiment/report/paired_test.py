"""Tests of the statistics against published and independent numbers."""

import itertools
import math
import statistics

import numpy as np
from absl.testing import absltest, parameterized
from scipy import stats

from fastbat_tf.experiment.report import paired


class DifferenceTest(parameterized.TestCase):
    @parameterized.parameters(
        # The examples of ci.prop.ps and ci.pairs.prop1 in statpsych, Bonett's
        # own package for R.
        (26, 4, 48, 0.2548067, 0.6251933),
        (125, 82, 299, 0.05011508, 0.23559920),
        (125, 92, 299, 0.01407230, 0.20519680),
        (82, 92, 299, -0.11952594, 0.05308076),
    )
    def test_published_intervals(self, first, second, count, low, high):
        found = paired.difference_interval(first, second, count)
        np.testing.assert_allclose(found, (low, high), atol=5e-8)

    def test_interval_holds_the_difference_and_turns_with_the_runs(self):
        for count in 1, 5, 200:
            for first, second in itertools.product(range(0, count + 1, 5), [0]):
                low, high = paired.difference_interval(first, second, count)
                self.assertBetween((first - second) / count, low, high)
                self.assertBetween(low, -1, high)
                self.assertBetween(high, low, 1)
                turned = paired.difference_interval(second, first, count)
                np.testing.assert_allclose(turned, (-high, -low))

    def test_counts(self):
        first = np.array([1, 1, 1, 1, 0, 0, 0, 0], bool)
        second = np.array([1, 0, 0, 0, 1, 0, 0, 0], bool)
        found = paired.compare(first, second)
        self.assertEqual((found.only_first, found.only_second), (3, 1))
        self.assertEqual(found.value, 0.25)
        self.assertEqual(found.interval, paired.difference_interval(3, 1, 8))
        self.assertEqual(found.p, paired.mcnemar(3, 1))
        turned = paired.compare(second, first)
        self.assertEqual((turned.value, turned.p), (-0.25, found.p))

    @parameterized.parameters((0, 0), (1, 7), (7, 1), (5, 5), (0, 9), (40, 61))
    def test_mcnemar(self, first, second):
        """Twice the tail of a fair coin."""
        count = first + second
        fewer = range(min(first, second) + 1)
        tail = sum(math.comb(count, k) for k in fewer) / 2**count
        found = paired.mcnemar(first, second)
        self.assertAlmostEqual(found, min(1, 2 * tail), places=12)
        if count:
            test = stats.binomtest(first, count)
            self.assertAlmostEqual(found, test.pvalue, places=12)

    def test_mcnemar_of_a_published_table(self):
        # Fagerland, Lydersen and Laake (2013), of 1 and 7 discordant pairs.
        self.assertEqual(round(paired.mcnemar(1, 7), 3), 0.07)

    def test_holm(self):
        # What p.adjust of R gives.
        self.assertSequenceAlmostEqual(
            paired.holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02]
        )
        self.assertEqual(paired.holm([0.4]), [0.4])
        self.assertEqual(paired.holm([0.9, 0.8]), [1.0, 1.0])
        self.assertEqual(paired.holm([]), [])


class SeedsTest(absltest.TestCase):
    def test_two_groups(self):
        first, second = [0.45, 0.47, 0.44], [0.41, 0.42, 0.44, 0.40]
        found = paired.compare_seeds(first, second)
        test = stats.ttest_ind(first, second, equal_var=False)
        value = statistics.mean(first) - statistics.mean(second)
        self.assertAlmostEqual(found.value, value)
        self.assertAlmostEqual(found.p, test.pvalue)
        bounds = test.confidence_interval(0.95)
        np.testing.assert_allclose(found.interval, bounds)

    def test_a_group_and_a_single_run(self):
        group = [0.45, 0.47, 0.44]
        found = paired.compare_seeds(group, [0.40])
        error = statistics.stdev(group) * math.sqrt(1 + 1 / 3)
        value = statistics.mean(group) - 0.40
        self.assertAlmostEqual(found.value, value)
        p = 2 * stats.t(2).sf(value / error)
        self.assertAlmostEqual(found.p, p)
        spread = error * stats.t(2).ppf(0.975)
        np.testing.assert_allclose(
            found.interval, (value - spread, value + spread)
        )
        turned = paired.compare_seeds([0.40], group)
        self.assertAlmostEqual(turned.value, -value)
        self.assertAlmostEqual(turned.p, found.p)

    def test_nothing_to_test(self):
        found = paired.compare_seeds([0.5, 0.5], [0.25])
        self.assertEqual(found, (0.25, (0.25, 0.25), None))


if __name__ == "__main__":
    absltest.main()
