"""The recorded steps of the published program, and their runner."""

import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf
from absl.testing import parameterized

from fastbat_tf import RobustClassifier
from tests.support import golden_network, golden_steps

FILES = sorted((pathlib.Path(__file__).parents[1] / "golden").glob("*.npz"))


class GoldenStepsTest(tf.test.TestCase, parameterized.TestCase):
    def test_files_are_there(self):
        self.assertGreaterEqual(len(FILES), 7)

    @parameterized.parameters(*FILES)
    def test_float64(self, file):
        recording = golden_network.load(file)
        passed, line = golden_steps.check(recording, ("eager",))
        self.assertTrue(passed, line)

    @parameterized.parameters(*FILES)
    @pytest.mark.slowest
    def test_float64_as_a_graph(self, file):
        recording = golden_network.load(file)
        passed, line = golden_steps.check(recording, ("graph",))
        self.assertTrue(passed, line)

    @parameterized.parameters(*FILES)
    @pytest.mark.slowest
    def test_float32(self, file):
        passed, line = golden_steps.check_float32(golden_network.load(file))
        self.assertTrue(passed, line)

    @parameterized.parameters(("lam", "cross"), ("alpha", "delta"))
    def test_a_wrong_step_is_noticed(self, setting, kind):
        recording = golden_network.load(
            next(f for f in FILES if "w4_fast_bat_eps8" in f.stem)
        )
        recording.meta[setting] *= 1.001
        passed, line = golden_steps.check(recording, ("eager",))
        self.assertFalse(passed)
        self.assertRegex(line, f"EXCEEDED.*{kind}")

    def test_nan_is_an_error(self):
        recording = golden_network.load(FILES[0])
        ours = {**recording.arrays, "delta2": np.nan}
        errors = golden_steps.errors_of(recording, ours)
        self.assertEqual(errors.pop("delta"), np.inf)
        self.assertEqual(max(errors.values()), 0.0)

    def test_statistics_update_once_per_forward(self):
        """The published program forwards Fast-BAT's delta* once more than
        needed. Ours must be those of three forward passes: replayed here for
        the first BatchNorm, whose input depends on the images alone."""
        recording = golden_network.load(
            next(f for f in FILES if "w4_fast_bat_eps8" in f.stem)
        )
        arrays = recording.arrays
        self.assertEqual(arrays["n_forward1"], 4)
        images = arrays["x1"].astype("float64")
        noise = arrays["noise1"].astype("float64")
        start = np.clip(images + noise, 0, 1) - images
        deltas = (start, arrays["z1"], arrays["delta1"])

        with golden_network.precision("float64"):
            classifier = golden_network.build_classifier(recording)
            norm = classifier.get_layer("group1.block1.bn1")
            stem = keras.Model(classifier.input, norm.input)
            mean, variance = norm.moving_mean.numpy(), norm.moving_variance
            variance = variance.numpy()
            for delta in deltas:
                x = stem(images + delta).numpy()
                mean = 0.9 * mean + 0.1 * x.mean((0, 1, 2))
                variance = 0.9 * variance + 0.1 * x.var((0, 1, 2), ddof=1)

            method = golden_steps.build_method(recording.meta)
            robust = RobustClassifier(classifier, method).compile()
            draws = golden_network.RecordedDraws({"start": noise})
            robust.compute_gradients(images, arrays["y1"], draws)
        # z1 and delta1 were stored in float32.
        self.assertAllClose(norm.moving_mean, mean, 1e-6, 1e-7)
        self.assertAllClose(norm.moving_variance, variance, 1e-6, 1e-7)

    def test_main(self):
        """Eagerly and as a graph."""
        missing = FILES[0].parent / "missing.npz"
        self.assertEqual(golden_steps.main([str(missing)]), 2)
        fast_bat = next(f for f in FILES if "w4_fast_bat_eps8" in f.stem)
        self.assertEqual(golden_steps.main([str(fast_bat)]), 0)

    @parameterized.parameters(
        # The published program calls it WRN-10-1.
        ("wrn10w1_fast_bat_eps8", "wrn16_1"),
        ("preact18w4_fast_bat_eps8", "preact_resnet18"),
    )
    def test_tells_the_network(self, stem, name):
        recording = golden_network.load(
            next(f for f in FILES if f.stem == stem)
        )
        weights = golden_network.weights_of(recording, "weights0")
        self.assertEqual(golden_network.network_of(weights), name)

    def test_refuses_networks_that_do_not_exist(self):
        conv = np.zeros((3, 3, 16, 160))
        names = {
            f"group{g}/block{b}/conv1/kernel": conv
            for g in (1, 2, 3)
            for b in (1, 2)
        }
        self.assertEqual(golden_network.network_of(names), "wrn16_10")
        del names["group3/block2/conv1/kernel"]
        with self.assertRaisesRegex(ValueError, "Received: model=wrn14_10"):
            golden_network.network_of(names)
        with self.assertRaisesRegex(ValueError, "Received: model=resnet12"):
            golden_network.network_of({"stem/bn/gamma": conv, **names})


if __name__ == "__main__":
    tf.test.main()
