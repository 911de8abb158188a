"""Layers with exact second derivatives on TensorFlow."""

from fastbat_tf.layers.batch_normalization import FusedBatchNormalization

__all__ = ["FusedBatchNormalization"]
