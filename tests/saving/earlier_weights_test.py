"""Weights that were saved before a layer of the zoo was renamed."""

import pathlib

import h5py
import keras
import tensorflow as tf

from fastbat_tf import RobustClassifier, Standard
from fastbat_tf.saving.earlier_weights import load_weights
from tests.support import testing


def save_as_before(model, path):
    """Saves weights under the name that the layer once had."""
    model.save_weights(path)
    found = []
    with h5py.File(path, "r+") as file:
        file.visit(found.append)
        for name in found:
            parent, _, last = name.rpartition("/")
            if last.startswith("fused_batch_normalization"):
                file.move(name, f"{parent}/{last.removeprefix('fused_')}")


class EarlierWeightsTest(tf.test.TestCase):
    def test_renamed_layers(self):
        path = pathlib.Path(self.get_temp_dir(), "a.weights.h5")
        saved, loaded, kept = (
            RobustClassifier(testing.small_network(seed=seed), Standard())
            for seed in (0, 1, 2)
        )
        save_as_before(saved, path)
        with self.assertRaises(ValueError):
            loaded.load_weights(path)
        before = path.read_bytes()
        load_weights(loaded, path)
        self.assertEqual(path.read_bytes(), before)
        self.check(saved, loaded)
        # As they are saved now.
        saved.save_weights(path)
        load_weights(kept, path)
        self.check(saved, kept)

    def check(self, first, second):
        for one, two in zip(first.weights, second.weights, strict=True):
            self.assertAllEqual(one, two)

    def test_layers_of_keras_keep_their_names(self):
        path = pathlib.Path(self.get_temp_dir(), "a.weights.h5")
        saved, loaded = (
            testing.small_network(
                seed=seed, normalization=keras.layers.BatchNormalization
            )
            for seed in (0, 1)
        )
        saved.save_weights(path)
        load_weights(loaded, path)
        self.check(saved, loaded)


if __name__ == "__main__":
    tf.test.main()
