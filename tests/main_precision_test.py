"""Fast-BAT in half precision is as robust as in float32."""

import json

import pytest
from absl.testing import absltest

from fastbat_tf.training.options import PRECISIONS
from tests.support.command_line import CommandLineTest, main

SETTINGS = (
    "--method=fastbat",
    "--dataset=cifar10_mini",
    "--model=preact_resnet18",
    "--width=8",
    "--epochs=8",
    "--batch_size=64",
    "--validation_examples=100",
    "--validation_attack=pgd-10-1",
    "--max_examples=500",
    "--attacks=pgd-10-1",
    "--on_overfitting=off",
)


class PrecisionTest(CommandLineTest):
    @pytest.mark.slowest  # Three trainings of three minutes.
    def test_within_two_points(self):
        robust = {}
        for precision in PRECISIONS:
            run_dir = self.directory / precision
            # TensorFlow has no fast kernels for float16 on a CPU, but XLA.
            xla = str(precision == "mixed_float16").lower()
            process = main(
                *SETTINGS,
                f"--precision={precision}",
                f"--jit_compile={xla}",
                f"--run_dir={run_dir}",
            )
            self.assertEqual(process.returncode, 0, process.stderr)
            results = json.loads((run_dir / "results.json").read_text())
            (measured,) = results["attacks"]
            robust[precision] = measured["robust_accuracy"]
        for precision, accuracy in robust.items():
            self.assertGreater(accuracy, robust["float32"] - 0.02, precision)


if __name__ == "__main__":
    absltest.main()
