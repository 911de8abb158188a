"""Tests `evaluate` and `predict` if some replicas have no examples."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from absl.testing import parameterized

import fastbat_tf as fb
from tests.support.testing import (
    images_and_labels,
    small_network,
    two_cpu_strategy,
)


def build(strategy, **settings):
    with strategy.scope():
        robust = fb.RobustClassifier(
            small_network(normalization=keras.layers.BatchNormalization),
            fb.Standard(),
        )
        robust.compile(
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
            weighted_metrics=[keras.metrics.SparseCategoricalAccuracy("w")],
            **settings,
        )
    return robust


class EmptyBatchesTest(parameterized.TestCase, tf.test.TestCase):
    """The convolution of an empty batch fails, and its mean loss is NaN."""

    @parameterized.named_parameters(
        ("graph", {}),
        ("eager", {"run_eagerly": True}),
        ("steps", {"steps_per_execution": 2}),
    )
    @pytest.mark.quick("graph")
    def test_as_on_one_device(self, settings):
        many = build(two_cpu_strategy(), **settings)
        one = build(tf.distribute.get_strategy())
        one.set_weights(many.get_weights())
        images, labels = images_and_labels(3)
        weights = np.linspace(0.1, 2, 3)
        for count, batch_size in ((3, 2), (1, 4)):
            x, y, w = images[:count], labels[:count], weights[:count]
            found, expected = (
                robust.evaluate(
                    x,
                    y,
                    sample_weight=w,
                    batch_size=batch_size,
                    verbose=0,
                    return_dict=True,
                )
                for robust in (many, one)
            )
            self.assertAllClose(found, expected)
            found, expected = (
                robust.predict(x, batch_size=batch_size, verbose=0)
                for robust in (many, one)
            )
            self.assertAllClose(found, expected)
            self.assertShapeEqual(found, expected)


if __name__ == "__main__":
    tf.test.main()
