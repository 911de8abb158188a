"""A model of half precision computes in float32 for a while."""

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from fastbat_tf.saving.precision import in_float32


def build(policy):
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((4,)),
            layers.Dense(3, dtype=policy),
            layers.Dense(2, dtype="float32"),
        ]
    )


class PrecisionTest(tf.test.TestCase):
    def test_and_back(self):
        model, twin = build("mixed_bfloat16"), build("float32")
        inputs = np.random.default_rng(0).normal(size=(2, 4)).astype("f")
        before, expected = model(inputs), twin(inputs)
        self.assertGreater(np.abs(before - expected).max(), 1e-5)
        with self.assertRaises(KeyError), in_float32(model):
            self.assertAllClose(model(inputs), expected, 1e-6, 1e-6)
            raise KeyError
        self.assertAllEqual(model(inputs), before)
        policies = [layer.dtype_policy.name for layer in model.layers]
        self.assertEqual(policies, ["mixed_bfloat16", "float32"])


if __name__ == "__main__":
    tf.test.main()
