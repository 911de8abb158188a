"""Layers with exact second derivatives on TensorFlow."""

from fastbat_tf.layers.batch_normalization import FusedBatchNormalization
from fastbat_tf.layers.moments import exact_moments

__all__ = ["FusedBatchNormalization", "exact_moments"]
