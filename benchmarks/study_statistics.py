"""Differences between trainings, over seeds and images.

Two rows of a study share the seeds (initial weights, order of the images,
random starts) and the test images, so that their outcomes are compared pair by
pair: image by image, seed by seed.
"""

import math
from typing import NamedTuple

import numpy as np

from fastbat_tf.experiment.report import paired


class Difference(NamedTuple):
    """How two rows differ.

    Attributes:
        value: Float, the mean accuracy of the first minus the second.
        interval: The lower and the upper bound of its 95 % interval.
        seeds: Integer, the number of seeds.
        images: Integer, the number of images.
    """

    value: float
    interval: tuple[float, float]
    seeds: int
    images: int

    @property
    def differs(self):
        """Whether 0 is outside of the interval."""
        low, high = self.interval
        return low > 0 or high < 0


def difference(first, second):
    """Compares two rows, seed by seed and image by image.

    With one seed, the interval is that of paired proportions
    (`fastbat_tf.experiment.report.paired`): it holds for these two trainings,
    and says nothing about other seeds. With several, let d_si in {-1, 0, 1} be
    the difference for seed s and image i. The variance of its mean over S
    seeds and N images is taken as

    ```
    var_s(mean_i d_si) / S + var_i(mean_s d_si) / N
    ```

    which counts the noise of single pairs twice, so that the interval is rather
    too wide (Owen, "The pigeonhole bootstrap", Annals of Applied Statistics
    2007). The quantile is Student's, with the degrees of freedom of Welch and
    Satterthwaite.

    Args:
        first: bool array `(seeds, images)`, what the first row gets right.
        second: The same of the second row.

    Returns:
        A `Difference`.
    """
    first, second = np.asarray(first, bool), np.asarray(second, bool)
    seeds, images = first.shape
    if seeds == 1:
        found = paired.compare(first[0], second[0])
        return Difference(found.value, found.interval, 1, images)
    each = first.astype(float) - second.astype(float)
    parts = [
        (each.mean(1).var(ddof=1) / seeds, seeds - 1),
        (each.mean(0).var(ddof=1) / images, images - 1),
    ]
    spread = _spread(parts)
    value = float(each.mean())
    return Difference(value, (value - spread, value + spread), seeds, images)


def _spread(parts):
    """Half the width of an interval, of variances and degrees of freedom."""
    from scipy import special

    total = sum(variance for variance, _ in parts)
    if not total:
        return 0.0
    freedom = total**2 / sum(variance**2 / free for variance, free in parts)
    quantile = special.stdtrit(freedom, (1 + paired.CONFIDENCE) / 2)
    return float(quantile) * math.sqrt(total)


def accuracy_interval(right):
    """Returns the mean accuracy and its 95 % interval.

    Wilson's interval with one seed; with several, that of the mean over seeds
    and images, as in `difference`.

    Args:
        right: bool array `(seeds, images)`.

    Returns:
        Float and a pair of floats, all in [0, 1].
    """
    right = np.asarray(right, bool)
    seeds, images = right.shape
    value = float(right.mean())
    if seeds == 1:
        return value, _wilson(value, images)
    spread = _spread(
        [
            (right.mean(1).var(ddof=1) / seeds, seeds - 1),
            (right.mean(0).var(ddof=1) / images, images - 1),
        ]
    )
    return value, (max(0.0, value - spread), min(1.0, value + spread))


def _wilson(share, count):
    from scipy import special

    z = float(special.ndtri((1 + paired.CONFIDENCE) / 2))
    center = (share + z * z / (2 * count)) / (1 + z * z / count)
    spread = (
        z
        * math.sqrt(share * (1 - share) / count + z * z / (4 * count**2))
        / (1 + z * z / count)
    )
    return center - spread, center + spread
