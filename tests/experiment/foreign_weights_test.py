"""Tests runs that begin with weights of PyTorch."""

import json
import pathlib
import tempfile

import numpy as np
import tensorflow as tf
from safetensors.numpy import save_file

from fastbat_tf import models
from fastbat_tf.experiment import building
from fastbat_tf.experiment.config import (
    Config,
    DataConfig,
    MethodConfig,
    ModelConfig,
)
from fastbat_tf.saving.pytorch import constants as torch_constants
from tests.support.torch_cases import CASES, recorded


class ForeignWeightsTest(tf.test.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        directory = tempfile.TemporaryDirectory()
        cls.addClassCleanup(directory.cleanup)
        cls.path = str(pathlib.Path(directory.name) / "weights.safetensors")
        cls.case = CASES["deepmind_swish_wrn10_2"]
        cls.arrays, cls.expected = recorded("deepmind_swish_wrn10_2")
        save_file(cls.arrays, cls.path)

    def config(self, mean=None, std=None):
        model = ModelConfig(
            "wrn10_2",
            activation="swish",
            padding="same",
            init_weights=self.path,
            mean=mean,
            std=std,
        )
        data = DataConfig("cifar10_mini")
        return Config(data, model, MethodConfig("standard"))

    def test_a_run_keeps_the_constants(self):
        """They are not among its weights, and differ from the data set's."""
        mean, std = torch_constants.read_file(self.path, "")
        config = self.config(mean, std)
        robust = building.build_initial(config, models.get)
        images = self.case.images()
        logits = robust.classifier(images, training=False)
        self.assertAllClose(logits, self.expected, rtol=0, atol=1e-5)
        # Its weights are loaded into a network that is built again.
        text = json.dumps(config.to_dict())
        again = building.build_robust(
            Config.from_dict(json.loads(text)), models.get
        )
        again.classifier.set_weights(robust.classifier.get_weights())
        same = again.classifier(images, training=False)
        self.assertAllEqual(same, logits)

    def test_a_file_without_constants(self):
        arrays = {
            k: v for k, v in self.arrays.items() if k not in ("mean", "std")
        }
        path = self.path.replace("weights.", "bare.")
        save_file(arrays, path)
        config = self.config()
        object.__setattr__(config.model, "init_weights", path)
        robust = building.build_initial(config, models.get)
        layer = robust.classifier.get_layer("normalization")
        mean = np.reshape(config.data.spec.mean, (1, 1, 1, 3))
        self.assertAllClose(layer.mean, mean)


if __name__ == "__main__":
    tf.test.main()
