"""Tests what is read from models of every kind."""

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from fastbat_tf.errors import InputError
from fastbat_tf.layers.structure import before_last_dense, input_specs
from tests.support import model_kinds

layers = keras.layers


def spec(*shape, dtype="float32"):
    return tf.TensorSpec(shape, dtype)


class Several(keras.Model):
    """Takes its inputs in one dictionary, and returns two outputs."""

    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(3)

    def call(self, inputs):
        return self.dense(inputs["image"]), inputs["size"]


class StructureTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(*model_kinds.KINDS)
    def test_kinds(self, kind):
        model = model_kinds.KINDS[kind]()
        self.assertEqual(input_specs(model, 6), spec(6, 8, 8, 3))

    def test_open_sizes_and_other_types(self):
        inputs = keras.Input((None, None, 1), dtype="uint8")
        model = keras.Model(inputs, layers.Rescaling(1 / 255)(inputs))
        self.assertEqual(
            input_specs(model), spec(2, None, None, 1, dtype="uint8")
        )

    def test_several_inputs(self):
        image, size = keras.Input((4,)), keras.Input((2,))
        both = {"image": image, "size": size}
        functional = keras.Model(both, layers.Concatenate()([image, size]))
        expected = {"image": spec(2, 4), "size": spec(2, 2)}
        self.assertEqual(input_specs(functional), expected)
        subclassed = Several()
        subclassed({"image": np.zeros((2, 4)), "size": np.zeros((2, 2))})
        self.assertEqual(input_specs(subclassed), expected)

    def test_a_model_that_was_not_built(self):
        with self.assertRaisesRegex(InputError, "Received: model=several"):
            input_specs(Several())

    def test_features_of_a_functional_model_with_its_own_call(self):
        class Halved(keras.Model):
            def call(self, x, training=None):
                return 0.5 * super().call(x, training=training)

        inputs = keras.Input((4,))
        with self.assertRaisesRegex(InputError, r"classifier=\S+ \(Halved\)$"):
            before_last_dense(
                Halved(inputs, layers.Dense(3)(inputs)), lambda outputs: outputs
            )


if __name__ == "__main__":
    tf.test.main()
