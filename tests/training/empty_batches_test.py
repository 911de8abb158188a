"""Tests `evaluate` and `predict` if some replicas have no examples."""

from unittest import mock

import keras
import numpy as np
import pytest
import tensorflow as tf
from absl.testing import parameterized

import fastbat_tf as fb
from fastbat_tf import distribution
from fastbat_tf.errors import InputError
from fastbat_tf.runtime import onednn
from fastbat_tf.training import empty_batches
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

    def test_statistics_of_all_replicas_need_images_on_each(self):
        """Or oneDNN would complain of the depth of a filter."""

        def check(count, dtype="float32"):
            images = tf.zeros((count, 2, 2, 3), dtype)
            two_cpu_strategy().run(lambda: empty_batches.refuse(images))

        has_none = mock.patch.object(
            distribution, "has_accelerator", return_value=False
        )
        with has_none, mock.patch.object(onednn, "is_on") as is_on:
            is_on.return_value = True
            with self.assertRaisesRegex(InputError, "each replica.*=0$"):
                check(0)
            check(1)
            check(0, "float64")
            is_on.return_value = False
            check(0)


if __name__ == "__main__":
    tf.test.main()
