"""Layers with correct second derivatives on TensorFlow."""

from fastbat_tf.layers.batch_normalization import BatchNormalization

__all__ = ["BatchNormalization"]
