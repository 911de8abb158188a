"""Tests the initial weights of a training."""

import pathlib
import tempfile

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from fastbat_tf import FastBAT, RobustClassifier, models
from fastbat_tf.errors import InputError
from fastbat_tf.experiment.config import Config, DataConfig, ModelConfig
from fastbat_tf.experiment.run_directory import RunDirectory, weights_file
from fastbat_tf.saving import initial_weights
from tests.support import testing


def network(name="wrn10_1", **options):
    return models.get(
        name, batch_normalization=testing.ZOO_NORMALIZATION, **options
    )


def _load(target, path):
    initial_weights.load(target, weights_file(path), received=path)


class InitialWeightsTest(tf.test.TestCase, parameterized.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        directory = tempfile.TemporaryDirectory()
        cls.addClassCleanup(directory.cleanup)
        cls.path = pathlib.Path(directory.name)
        keras.utils.set_random_seed(1)
        cls.source = network(dropout=0.1)
        # Moving statistics are weights, too.
        moving_mean = cls.source.get_layer("head.bn").moving_mean
        moving_mean.assign(tf.range(64, dtype="float32"))
        cls.source.save(cls.path / "model.keras")
        cls.source.save_weights(cls.path / "plain.weights.h5")
        robust = RobustClassifier(cls.source, FastBAT())
        robust.compile(keras.optimizers.SGD(0.1, momentum=0.9))
        robust.save(cls.path / "robust.keras")
        run = RunDirectory(cls.path / "run")
        run.create(Config(DataConfig("cifar10_mini"), ModelConfig("wrn10_1")))
        robust.save_weights(run.best)

    @parameterized.parameters(
        "model.keras",
        "plain.weights.h5",
        "robust.keras",
        "run",
        "run/checkpoints/best.weights.h5",
    )
    def test_load(self, file):
        target = network(activation="swish")  # It has no weights.
        _load(target, self.path / file)
        self.assertLen(target.weights, len(self.source.weights))
        for ours, theirs in zip(
            target.weights, self.source.weights, strict=True
        ):
            self.assertAllEqual(ours, theirs, ours.path)

    @parameterized.parameters(
        ({"num_classes": 7}, "head.dense", r"\(64, 7\).*not.*\(64, 10\)"),
        ({"name": "wrn10_2"}, r"group1\.block1\.conv1", r"32\).*not.*16\)"),
        ({"name": "wrn16_1"}, r"group1\.block2\.bn1", "not none"),
        ({"stem": "imagenet"}, r"stem\.conv", r"\(7, 7.*not.*\(3, 3"),
        (
            {"name": "resnet18", "width": 16},
            r"stem\.bn",
            "not none",
        ),
    )
    def test_a_layer_that_does_not_fit(self, options, layer, shapes):
        target = network(**options)
        before = target.get_weights()
        path = self.path / "model.keras"
        with self.assertRaisesRegex(
            InputError,
            f"the layer {layer} is expected .*{shapes}.*"
            f"Received: init_weights={path}$",
        ):
            _load(target, path)
        for old, new in zip(before, target.get_weights(), strict=True):
            self.assertAllEqual(old, new)

    def test_a_layer_too_many(self):
        network("wrn16_1").save_weights(self.path / "deep.weights.h5")
        with self.assertRaisesRegex(
            InputError, r"layer group\d.block2.\w+ is expected to have no we"
        ):
            _load(network(), self.path / "deep.weights.h5")

    def test_networks_of_keras(self):
        keras.utils.set_random_seed(1)
        source = models.get("keras:MobileNetV3Small")
        source.save(self.path / "mobile.keras")
        target = models.get("keras:MobileNetV3Small", mean=[0.5], std=[1.0])
        target = RobustClassifier(target, FastBAT()).classifier
        _load(target, self.path / "mobile.keras")
        images, _ = testing.images_and_labels(2, size=32)
        self.assertAllClose(
            target(images + 0.5, training=False),
            source(images, training=False),
            1e-4,
            1e-5,
        )

    def test_files_that_are_something_else(self):
        (self.path / "text.keras").write_text("no weights")
        (self.path / "text.weights.h5").write_text("no weights")
        whole = (self.path / "plain.weights.h5").read_bytes()
        (self.path / "cut.weights.h5").write_bytes(whole[: len(whole) // 2])
        with (self.path / "array.keras").open("wb") as file:
            np.savez(file, weights=np.zeros(3))
        for name in (
            "text.keras",
            "text.weights.h5",
            "cut.weights.h5",
            "array.keras",
        ):
            with (
                self.subTest(name),
                self.assertRaisesRegex(
                    InputError,
                    f"cannot be read.*init_weights={self.path / name}",
                ),
            ):
                _load(network(), self.path / name)

    def test_no_such_file(self):
        (self.path / "model.h5").write_text("")
        for name in ("none.keras", "none", "model.h5", "."):
            path = self.path / name
            with (
                self.subTest(name),
                self.assertRaisesRegex(
                    InputError, "expected to be a .keras file.*init_weights="
                ),
            ):
                _load(network(), path)


if __name__ == "__main__":
    tf.test.main()
