"""`compile`, `fit` and data of `parity_test.py`: as Keras does."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from absl.testing import parameterized
from keras import layers

from fastbat_tf import RobustClassifier, Standard
from tests.support import parity, parity_networks
from tests.training.parity_test import CATEGORICAL, SPARSE, TOLERANCE, squared


class ArgumentsTest(tf.test.TestCase, parameterized.TestCase):
    def compare(self, make, **settings):
        parity.compare(self, TOLERANCE, make, **settings)

    @parameterized.named_parameters(
        ("loss_weight", {"loss_weights": 0.3}),
        ("loss_weight_list", {"loss_weights": [0.3]}),
        ("no_metrics", {"metrics": None}),
        (
            "metrics",
            {
                "metrics": ["acc", "top_k_categorical_accuracy"],
                "weighted_metrics": [squared, "mse"],
            },
        ),
        ("metrics_by_output", {"metrics": {"head": "accuracy"}}),
        ("no_loss_scaling", {"auto_scale_loss": False}),
    )
    def test_arguments_of_compile(self, compiled):
        self.compare(
            parity_networks.CONVOLUTION,
            labels=parity.ONE_HOT,
            loss=CATEGORICAL(from_logits=True),
            sample_weight=parity.WEIGHTS,
            compiled=compiled,
        )

    def test_positional_arguments_of_compile(self):
        """Their order is that of Keras."""
        arguments = ("adam", "mse", 0.5, ["mae"], ["mse"], True, 1, False)
        histories = []
        for robust in (True, False):
            keras.utils.set_random_seed(0)
            model = parity_networks.CONVOLUTION()
            if robust:
                model = RobustClassifier(model, Standard())
            model.compile(*arguments)
            history = model.fit(
                parity.IMAGES, parity.ONE_HOT, shuffle=False, verbose=0
            ).history
            histories.append(
                {k: v for k, v in history.items() if k[:7] != "robust_"}
            )
        self.assertAllClose(*histories)

    @parameterized.named_parameters(
        ("split", {"validation_split": 0.25}),
        (
            "data",
            {
                "validation_data": (
                    parity.IMAGES[:5],
                    parity.INTEGERS[:5],
                    parity.WEIGHTS[:5],
                )
            },
        ),
        (
            "steps",
            {
                "validation_data": parity.dataset(
                    parity.IMAGES, parity.INTEGERS
                ),
                "validation_steps": 1,
                "validation_freq": 2,
            },
        ),
        ("shuffle", {"shuffle": True}),
        ("initial_epoch", {"initial_epoch": 1, "epochs": 3}),
        ("steps_per_epoch", {"steps_per_epoch": 2}),
        ("one_batch", {"batch_size": 100}),
    )
    def test_arguments_of_fit(self, fit):
        self.compare(
            parity_networks.LOGITS["batch_normalization"], loss=SPARSE(), **fit
        )

    @parameterized.named_parameters(
        ("dataset", parity.dataset),
        ("py_dataset", parity.Batches),
        ("generator", parity.generator),
    )
    def test_data(self, make):
        for weights in ((), (parity.WEIGHTS,)):
            self.compare(
                parity_networks.CONVOLUTION,
                loss=SPARSE(),
                data=lambda *arrays: (make(*arrays, *weights),),  # noqa: B023
                steps_per_epoch=3,
            )

    @parameterized.parameters("float64", "float16", "tensor", "list", "dict")
    # What is cast, what is no array, and what is nested.
    @pytest.mark.quick("float16", "tensor", "dict")
    def test_kinds_of_arrays(self, kind):
        def data(images, labels):
            if kind == "tensor":
                return tf.constant(images), tf.constant(labels)
            if kind == "list":
                return [images], [labels]
            if kind == "dict":
                return {"image": images}, labels
            return images.astype(kind), labels

        images = parity.IMAGES.astype("float16").astype("float32")
        self.compare(
            parity_networks.CONVOLUTION,
            images=images,
            loss=SPARSE(),
            data=lambda *given: data(*given),
            batch_size=6,
        )

    @parameterized.parameters("uint8", "int32", "float32")
    def test_pixels_up_to_255(self, dtype):
        def scaled(x):
            return layers.Conv2D(2, 3)(layers.Rescaling(1 / 127.5, -1.0)(x))

        self.compare(
            parity_networks.functional(scaled),
            images=np.round(255 * parity.IMAGES).astype(dtype),
            loss=SPARSE(),
            wrap={"pixel_range": (0, 255)},
        )

    def test_a_float64_network(self):
        def make():
            with_policy = keras.DTypePolicy("float64")
            inputs = keras.Input(parity_networks.SHAPE, dtype="float64")
            x = layers.Flatten(dtype=with_policy)(inputs)
            return keras.Model(inputs, layers.Dense(4, dtype=with_policy)(x))

        self.compare(make, loss=SPARSE())

    def test_a_bfloat16_network_with_a_float32_head(self):
        self.compare(parity_networks.float32_head("mixed_bfloat16"))

    def test_a_part_that_is_frozen_later(self):
        """Freezing and unfreezing act on the model of the user."""

        def prepare(network):
            for layer in network.layers:
                if "normalization" in layer.name or "conv" in layer.name:
                    layer.trainable = not layer.trainable

        for name in ("batch_normalization", "frozen_normalization"):
            self.compare(
                parity_networks.LOGITS[name], loss=SPARSE(), prepare=prepare
            )


if __name__ == "__main__":
    tf.test.main()
