"""The devices of a training, and its peak memory."""

import pathlib
from unittest import mock

import keras
import numpy as np
import tensorflow as tf
from absl.testing import absltest

from fastbat_tf import distribution
from fastbat_tf.errors import InputError
from tests.support import testing


class StrategyTest(absltest.TestCase):
    def test_one_device(self):
        for name in ("none", "auto"):
            strategy = distribution.get_strategy(name)
            self.assertEqual(strategy.num_replicas_in_sync, 1)
        with testing.two_cpu_strategy().scope():
            inside = distribution.get_strategy("none")
        self.assertIs(inside, testing.two_cpu_strategy())
        outside = distribution.get_strategy("none")
        self.assertEqual(outside.num_replicas_in_sync, 1)

    def test_mirrored_is_made_once(self):
        made = mock.Mock(side_effect=lambda devices: object())
        with mock.patch.object(tf.distribute, "MirroredStrategy", made):
            first = distribution.get_strategy("mirrored")
            self.assertIs(distribution.get_strategy("mirrored"), first)
        made.assert_called_once()
        distribution._mirrored.cache_clear()


class ResolveJitCompileTest(absltest.TestCase):
    def test_layers_that_xla_cannot_compile(self):
        plain = keras.layers.Dense(2, name="plain")
        gpu = mock.patch.object(
            tf.config, "list_physical_devices", lambda kind: [kind]
        )
        for layer in (keras.layers.RandomZoom(0.1), keras.layers.MixUp()):
            layers = [plain, layer]
            self.assertFalse(distribution.resolve_jit_compile(False, layers))
            with gpu:
                self.assertFalse(
                    distribution.resolve_jit_compile("auto", layers)
                )
            with self.assertRaisesRegex(
                InputError, f"layers={layer.name} .{type(layer).__name__}.$"
            ):
                distribution.resolve_jit_compile(True, layers)
        self.assertTrue(distribution.resolve_jit_compile(True, [plain]))
        with gpu:
            self.assertTrue(distribution.resolve_jit_compile("auto", [plain]))


class PeakMemoryTest(absltest.TestCase):
    def test_rises(self):
        before = distribution.peak_gigabytes()
        block = np.ones((2**30 // 8,))  # One gigabyte.
        self.assertGreater(distribution.peak_gigabytes(), 1)
        del block
        self.assertGreaterEqual(distribution.peak_gigabytes(), before)

    def test_where_the_system_does_not_say(self):
        with mock.patch.object(
            pathlib.Path, "read_text", return_value="Name: python\n"
        ):
            self.assertIsNone(distribution.peak_gigabytes())
        with mock.patch.object(pathlib.Path, "exists", return_value=False):
            self.assertIsNone(distribution.peak_gigabytes())


if __name__ == "__main__":
    absltest.main()
