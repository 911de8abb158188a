"""What the tests of the methods share: one update, eagerly."""

import keras
import numpy as np
import tensorflow as tf

from fastbat_tf import Plan, RobustClassifier, methods
from fastbat_tf.draws import Draws
from tests.support import testing


def build(name, plan=None, network=None, seed=0, **options):
    network = network or testing.small_network()
    robust = RobustClassifier(network, methods.get(name, **options), seed)
    return robust.compile(
        keras.optimizers.SGD(0.05),
        plan=plan or Plan(10, 2, 4, examples=8),
        run_eagerly=True,
    )


def train(robust, index, seed=0):
    """One update on four images; returns its images and logs."""
    images, labels = testing.images_and_labels(4, seed=seed)
    data = {"images": images, "index": np.array(index, "int32")}
    return images, robust.train_on_batch(data, labels, return_dict=True)


def compute(robust, index, seed=0, step=None):
    images, labels = testing.images_and_labels(4, seed=seed)
    step = int(robust.step) if step is None else step
    return images, robust.compute_gradients(
        tf.constant(images),
        labels,
        Draws(robust.seed, step),
        index=tf.constant(index),
        step=step,
    )
