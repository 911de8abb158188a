"""Recorded steps in half precision, within what rounding explains.

Every tensor of the network is rounded to half precision, the kernels once for
all passes. If the kernels alone are rounded, and everything else is exact, the
step has an error d: this includes how strongly this step magnifies errors,
which the unit roundoff alone does not tell. A layer rounds, beside its kernel,
about five numbers in a forward pass (convolution, normalization, activation,
addition) and seven in a backward pass: 12 in a gradient, 24 in the derivative
of a gradient. They are independent, so that their errors add as squares, and
the error of the step is expected up to sqrt(1 + 24) d = 5 d.

Measured on an Intel Xeon with AMX, errors were 0.97 to 3.2 times d. For the
file with Softplus:

                  unit roundoff   plain gradient   d       implicit term   d
  mixed_bfloat16       2^-8           0.052        0.020        0.99      0.61
  mixed_float16        2^-11          0.0059       0.0024       0.42      0.26

The plain gradient follows the unit roundoff u: its error is 1.2 and 1.1 times
sqrt(124) u, for the 124 roundings of two passes through 18 layers that add up
at random. In files with ReLU, rounding also moves numbers across the kinks, and
the errors are larger, as d is. The implicit term is a second derivative, which
changes fast where Softplus bends (beta = 10): rounding the kernels to float16
already changes a quarter of it. `precision_test.py` compares it where it is
better determined.
"""

import pathlib

import pytest
import tensorflow as tf
from absl.testing import parameterized

from tests.support import golden_half, golden_network

FOLDER = pathlib.Path(__file__).parents[1] / "golden"
FILES = {
    path.stem: path
    for path in sorted([*FOLDER.glob("*.npz"), *FOLDER.glob("methods/*.npz")])
    # It replays its batch, and records all four perturbations.
    if path.stem != "free_at"
}
MAGNIFICATION = 5.0
# Roundings in two passes through the 18 layers, of which 20 are convolutions.
ROUNDINGS = 124
SMOOTH = "preact18w4_softplus_fast_bat_eps8"


class GoldenHalfTest(tf.test.TestCase, parameterized.TestCase):
    def compare(self, name, policy, **options):
        recording = golden_network.load(FILES[name])
        found = golden_half.first_step(recording, policy, **options)
        rounded = golden_half.with_rounded_kernels(recording, policy)
        rounded = golden_half.first_step(rounded, "float32")
        pixels = recording.arrays["delta1"].size
        for kind, error in found._asdict().items():
            if error is not None:
                base = getattr(rounded, kind)
                if kind == "points":
                    # A count n of few pixels is known to sqrt(n): rounding the
                    # kernels of fgsm_fuap to float16 moves 8 of 18432, and
                    # the step 44, above 5 * 8. So 3 deviations are added.
                    base += 3.0 * (base / pixels) ** 0.5
                expected = MAGNIFICATION * base
                message = f"{kind}: {error:.4f} above {expected:.4f}"
                self.assertLess(error, expected, message)
        return found

    @parameterized.product(
        name=tuple(FILES), policy=tuple(golden_half.ROUNDOFF)
    )
    @pytest.mark.quick("nu_at mixed_float16", "n_fgsm mixed_bfloat16")
    def test_first_step(self, name, policy):
        self.compare(name, policy)

    @parameterized.product(
        policy=tuple(golden_half.ROUNDOFF), xla=(False, True)
    )
    @pytest.mark.slow
    def test_a_smooth_network(self, policy, xla):
        found = self.compare(SMOOTH, policy, jit_compile=xla)
        # Twice the standard deviation of the sum of the roundings.
        bound = 2.0 * ROUNDINGS**0.5 * golden_half.ROUNDOFF[policy]
        self.assertLess(found.plain, bound)


if __name__ == "__main__":
    tf.test.main()
