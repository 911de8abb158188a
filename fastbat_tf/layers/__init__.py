"""Correct second derivatives for Keras' normalization layers."""

from fastbat_tf.layers.batch_normalization import BatchNormalization

__all__ = ["BatchNormalization"]
