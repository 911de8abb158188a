"""Two whole steps of adversarial weight perturbation, in NumPy and float64.

The network has two layers with a BatchNormalization between them, and the
method is FGSM. Nothing here uses the library, TensorFlow or Keras but the
model that is compared.
"""

from typing import Any, NamedTuple

import keras
import numpy as np
import pytest
import tensorflow as tf
from absl.testing import parameterized

from fastbat_tf import FGSM, AdversarialWeightPerturbation, RobustClassifier
from tests.support import golden_network

RATE, MOMENTUM, DECAY = 0.3, 0.9, 0.02
EPSILON, GAMMA = 0.05, 0.1
BATCH_MOMENTUM, BATCH_EPSILON = 0.8, 1e-3
REGULARIZER = 0.05  # Of the second kernel.
COUNT, CLASSES = 6, 3


class Weights(NamedTuple):
    """In the order of Keras: of the two layers, and of the normalization."""

    kernel: Any
    scale: Any
    offset: Any
    second_kernel: Any
    second_bias: Any


def softmax(logits):
    shares = np.exp(logits - logits.max(1, keepdims=True))
    return shares / shares.sum(1, keepdims=True)


def differentiate(weights, x, one_hot):
    """Gradients of the mean cross-entropy, and the statistics of the batch.

    Returns:
        `Weights` of gradients, the gradient to `x`, and mean and variance.
    """
    before = x @ weights.kernel
    mean, variance = before.mean(0), before.var(0)
    root = np.sqrt(variance + BATCH_EPSILON)
    normal = (before - mean) / root
    hidden = np.tanh(normal * weights.scale + weights.offset)
    logits = hidden @ weights.second_kernel + weights.second_bias

    to_logits = (softmax(logits) - one_hot) / len(x)
    to_sum = (to_logits @ weights.second_kernel.T) * (1 - hidden**2)
    to_normal = to_sum * weights.scale
    to_before = (
        to_normal - to_normal.mean(0) - normal * (to_normal * normal).mean(0)
    ) / root
    gradients = Weights(
        kernel=x.T @ to_before,
        scale=(to_sum * normal).sum(0),
        offset=to_sum.sum(0),
        second_kernel=hidden.T @ to_logits,
        second_bias=to_logits.sum(0),
    )
    return gradients, to_before @ weights.kernel.T, (mean, variance)


def perturbed(weights, gradients):
    """Moves the two kernels, each by a share of its own norm."""
    moves = {
        name: GAMMA
        * np.linalg.norm(getattr(weights, name))
        * getattr(gradients, name)
        / np.linalg.norm(getattr(gradients, name))
        for name in ("kernel", "second_kernel")
    }
    return weights._replace(
        **{name: getattr(weights, name) + v for name, v in moves.items()}
    )


def step(weights, velocity, moving, x, one_hot):
    """One step of SGD with momentum and L2 decay, at perturbed weights."""
    _, to_x, seen_by_attack = differentiate(weights, x, one_hot)
    x = np.clip(x + EPSILON * np.sign(to_x), 0, 1)
    direction, _, _ = differentiate(weights, x, one_hot)
    moved = perturbed(weights, direction)
    gradients, _, seen_by_update = differentiate(moved, x, one_hot)
    # The regularizer is part of the loss of the update alone.
    gradients = gradients._replace(
        second_kernel=gradients.second_kernel
        + 2 * REGULARIZER * moved.second_kernel
    )
    velocity = [
        MOMENTUM * v - RATE * (g + DECAY * w)
        for v, g, w in zip(velocity, gradients, weights, strict=True)
    ]
    weights = Weights(*(w + v for w, v in zip(weights, velocity, strict=True)))
    for seen in (seen_by_attack, seen_by_update):
        moving = [
            BATCH_MOMENTUM * old + (1 - BATCH_MOMENTUM) * new
            for old, new in zip(moving, seen, strict=True)
        ]
    return weights, velocity, moving


def batches():
    random = np.random.default_rng(4)
    for _ in range(2):
        images = random.uniform(size=(COUNT, 2, 2, 1))
        yield images, random.integers(0, CLASSES, COUNT)


def build():
    keras.utils.set_random_seed(2)
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((2, 2, 1)),
            layers.Flatten(),
            layers.Dense(4, use_bias=False),
            layers.BatchNormalization(
                momentum=BATCH_MOMENTUM,
                epsilon=BATCH_EPSILON,
                gamma_initializer="random_uniform",
            ),
            layers.Activation("tanh"),
            layers.Dense(
                CLASSES, kernel_regularizer=keras.regularizers.L2(REGULARIZER)
            ),
        ]
    )


class StepsTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.named_parameters(
        ("eager", {"run_eagerly": True}),
        ("graph", {"jit_compile": False}),
        ("xla", {"jit_compile": True}),
    )
    @pytest.mark.quick("eager", "xla")
    def test_two_steps(self, compiled):
        with golden_network.policy("float64"):
            network = build()
            weights = Weights(*(v.numpy() for v in network.trainable_variables))
            robust = RobustClassifier(network, FGSM(EPSILON))
            robust.compile(
                keras.optimizers.SGD(RATE, momentum=MOMENTUM),
                weight_decay=DECAY,
                weight_perturbation=AdversarialWeightPerturbation(GAMMA),
                **compiled,
            )
        velocity = [np.zeros_like(w) for w in weights]
        moving = [np.zeros(4), np.ones(4)]
        for images, labels in batches():
            robust.train_on_batch(images, labels)
            weights, velocity, moving = step(
                weights,
                velocity,
                moving,
                images.reshape(COUNT, -1),
                np.eye(CLASSES)[labels],
            )
        statistics = network.non_trainable_variables
        self.assertLen(statistics, 2)
        for found, expected in zip(
            (*network.trainable_variables, *statistics),
            (*weights, *moving),
            strict=True,
        ):
            # Of a rate in float32.
            self.assertAllClose(found, expected, rtol=1e-6, atol=1e-7)


if __name__ == "__main__":
    tf.test.main()
