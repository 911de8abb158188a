"""Tiny networks and data for tests of evaluation."""

import numpy as np
import tensorflow as tf

CLASSES = 4
SHAPE = (4, 4, 3)
PIXELS = int(np.prod(SHAPE))


def toy_network(classes=CLASSES, seed=0):
    """A linear function from images to logits."""
    random = np.random.default_rng(seed)
    weights = tf.constant(random.normal(size=(PIXELS, classes)), tf.float32)
    # Subtracted so that every class is predicted.
    gray = tf.fill((1, PIXELS), 0.5) @ weights

    def network(images):
        return tf.reshape(images, (-1, PIXELS)) @ weights - gray

    return network


def toy_images(count, seed=0):
    """uint8 images."""
    random = np.random.default_rng(seed)
    return random.integers(0, 256, (count, *SHAPE), dtype=np.uint8)


def as_floats(images):
    return images.astype(np.float32) / np.float32(255)


def toy_data(count=40, network=None, seed=0):
    """uint8 images, and labels of which every fifth is wrong."""
    network = network or toy_network()
    images = toy_images(count, seed)
    logits = np.asarray(network(tf.constant(as_floats(images))))
    labels = logits.argmax(axis=-1)
    labels[::5] = (labels[::5] + 1) % logits.shape[-1]
    return images, labels


def watched(network, look):
    """A network that calls `look` whenever it is called, even in loops.

    An exception of `look` leaves the evaluation as an error of TensorFlow.
    """

    def count(size):
        look()
        return size

    def ask(images):
        asked = tf.numpy_function(count, [tf.shape(images)[0]], tf.int32)
        with tf.control_dependencies([asked]):
            return network(images)

    return ask


def masked(network):
    """A network with the same logits, but without a gradient."""
    return lambda images: network(tf.stop_gradient(images))
