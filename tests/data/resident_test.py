"""Batches of data that lie on the devices are those of the pipeline."""

import numpy as np
import pytest
import tensorflow as tf
from absl.testing import parameterized

from fastbat_tf.data import Augmentation, pipeline
from fastbat_tf.data.resident import PIXELS, ResidentBatches
from fastbat_tf.data.sources import Examples
from tests.support import testing

BATCH, SEED, EPOCH = 6, 5, 1
IMAGES, LABELS = testing.images_and_labels(20)
EXAMPLES = Examples((255 * IMAGES).astype(np.uint8), LABELS)
AUGMENTATION = Augmentation(padding=2, degrees=20)


class ResidentBatchesTest(parameterized.TestCase, tf.test.TestCase):
    @parameterized.product(
        jit_compile=(False, True),
        augmentation=(None, AUGMENTATION),
        replicas=(1, 2),
    )
    @pytest.mark.quick("True degrees 1", "False degrees 2")
    def test_equal_to_the_bit(self, jit_compile, augmentation, replicas):
        settings = {"augmentation": augmentation, "with_index": True}
        strategy = tf.distribute.get_strategy()
        if replicas == 2:
            strategy = testing.two_cpu_strategy()
        batches = ResidentBatches(EXAMPLES, BATCH, SEED, **settings)
        placed = batches.place(strategy)
        order = batches.order(EPOCH)

        def read(placed, batch):
            return batches.read(placed, order, epoch=EPOCH, batch=batch)

        if replicas == 1:
            read = tf.function(read, jit_compile=jit_compile)
        elif jit_compile:
            self.skipTest("Replicas read outside of what XLA compiles.")

        @tf.function
        def run(placed, batch):
            found = strategy.run(read, args=(placed, batch))
            return tf.nest.map_structure(
                lambda part: tf.concat(
                    strategy.experimental_local_results(part), 0
                ),
                found,
            )

        steps = len(LABELS) // BATCH
        expected = pipeline.training_batches(
            EXAMPLES, BATCH, SEED, first_batch=EPOCH * steps, **settings
        )
        for batch, theirs in enumerate(expected.take(steps)):
            ours = run(placed, tf.constant(batch, tf.int64))
            tf.nest.map_structure(self.assertAllEqual, ours, theirs)
            self.assertEqual(
                [part.dtype for part in tf.nest.flatten(ours)],
                [part.dtype for part in tf.nest.flatten(theirs)],
            )

    def test_pixels_are_quotients(self):
        """A graph would multiply by the rounded 1 / 255 instead."""
        values = tf.range(256)
        self.assertAllEqual(PIXELS, tf.cast(values, tf.float32) / 255.0)

        @tf.function
        def divided(values):
            return tf.cast(values, tf.float32) / 255.0

        self.assertNotAllEqual(PIXELS, divided(values))


if __name__ == "__main__":
    tf.test.main()
