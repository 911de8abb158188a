"""A small training for tests of callbacks, and a clock that they set."""

import math
import time
from unittest import mock

import keras
import tensorflow as tf

from fastbat_tf.attacks.pgd import PGD
from fastbat_tf.data.sources import Examples
from fastbat_tf.methods.fastat import FastAT
from fastbat_tf.training import callbacks
from fastbat_tf.training.classifier import RobustClassifier
from tests.support.testing import images_and_labels, small_network

BROKEN = 3  # A label.


class BreaksAtLabel(keras.losses.SparseCategoricalCrossentropy):
    """A loss that is NaN for one label, and so are its derivatives."""

    def __init__(self):
        super().__init__(from_logits=True)

    def call(self, y_true, y_pred):
        factor = tf.where(tf.equal(y_true, BROKEN), math.nan, 1.0)
        return factor * super().call(y_true, y_pred)


class Constant(keras.metrics.Metric):
    """A metric that is 100, whatever is predicted."""

    def update_state(self, y_true, y_pred, sample_weight=None):
        pass

    def result(self):
        return tf.constant(100.0)


class SmallTraining:
    """A training of 2 epochs with 4 steps of 5 images each."""

    def __init__(self, method=None, broken_batch=None):
        # Of the 8 batches of both epochs, one can be broken.
        images, labels = images_and_labels(40)
        loss = None
        if broken_batch is not None:
            images, labels = images_and_labels(40, classes=BROKEN)
            labels[5 * broken_batch + 2] = BROKEN
            loss = BreaksAtLabel()
        self.batches = tf.data.Dataset.from_tensor_slices(
            (images, labels)
        ).batch(5)
        self.robust = RobustClassifier(
            small_network(normalization=None), method or FastAT(epsilon=0.02)
        )
        self.robust.compile(keras.optimizers.SGD(0.05), loss)

    def validation(self, epsilon=0.02, averaged_weights=None):
        examples = Examples(*images_and_labels(12, seed=1))
        validation = callbacks.RobustAccuracy(
            examples,
            PGD(epsilon, steps=2, seed=4),
            averaged_weights=averaged_weights,
        )
        validation.set_model(self.robust)
        return validation

    def fit(self, *watching):
        return self.robust.fit(
            self.batches,
            epochs=2,
            steps_per_epoch=4,
            shuffle=False,
            callbacks=list(watching),
            verbose=0,
        )


class Clock:
    """Replaces `time.perf_counter` by the attribute `now`."""

    def __init__(self, test):
        self.now = 100.0
        clock = test.enterContext(mock.patch.object(time, "perf_counter"))
        clock.side_effect = lambda: self.now
