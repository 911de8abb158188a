"""Keras' own tests of BatchNormalization, run on FusedBatchNormalization.

They come in Keras' wheel. Only the class under test is exchanged.
"""

from unittest import mock

import tensorflow as tf
from keras.src.layers.normalization import batch_normalization_test

from fastbat_tf.layers import FusedBatchNormalization


class KerasBatchNormalizationTest(
    batch_normalization_test.BatchNormalizationTest
):
    def setUp(self):
        super().setUp()
        self.enterContext(
            mock.patch.object(
                batch_normalization_test.layers,
                "BatchNormalization",
                FusedBatchNormalization,
            )
        )

    def test_is_run_on_this_layer(self):
        layer = batch_normalization_test.layers.BatchNormalization()
        self.assertIs(type(layer), FusedBatchNormalization)


if __name__ == "__main__":
    tf.test.main()
