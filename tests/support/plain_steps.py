"""Steps of Fast-BAT and TRADES in float64, from first derivatives alone.

They use nothing of the library but the noise: a Keras model, `tf.GradientTape`
and the formulas of the papers. The mixed derivative of Fast-BAT is a central
difference of weight gradients:

    d <g(z), v> / d theta = (w(z + h v) - w(z - h v)) / (2 h)

where g and w are the gradients of the summed loss to the pixels and weights.
With adversarial weight perturbation, the gradient of the upper level is that at
theta + v, and all else is at theta.
"""

import contextlib
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from fastbat_tf.draws import Draws, as_normal

EPSILON, STEP_SIZE, LAMBDA = 0.06, 0.2, 0.5
COEFFICIENT = 3.0
MOVE = 1e-5  # Of a pixel, in the central difference.


class Problem(NamedTuple):
    """What one step works on, in float64.

    Attributes:
        network: A Keras model in float64.
        images: Array `(batch, height, width, channels)` in [0, 1].
        low, high: The range of the pixels that the network takes.
        loss: Function from what the network returns to losses `(batch,)`.
        attack_loss: Like `loss`.
        logits: Function from what the network returns to logits.
        weights: Array `(batch,)`, the weights of the examples.
        noise: String, the dtype that the noise was drawn in.
    """

    network: Any
    images: Any
    low: float
    high: float
    loss: Any
    attack_loss: Any
    logits: Any
    weights: Any
    noise: str

    def forward(self, delta, training=True):
        """Returns what the network returns at `images + delta`."""
        pixels = self.low + (self.high - self.low) * (self.images + delta)
        return self.network(pixels, training=training)

    def project(self, delta):
        delta = tf.clip_by_value(delta, -EPSILON, EPSILON)
        return tf.clip_by_value(self.images + delta, 0, 1) - self.images

    def draw(self, low, high):
        shape = self.images.shape
        drawn = Draws(0, 0).uniform("start", shape, low, high, self.noise)
        return tf.cast(drawn, "float64")

    def mean(self, values):
        return tf.reduce_mean(self.weights * values)

    @property
    def variables(self):
        return [v.value for v in self.network.trainable_variables]


def _filled(gradients, variables):
    return [
        np.zeros(v.shape) if g is None else tf.convert_to_tensor(g).numpy()
        for g, v in zip(gradients, variables, strict=True)
    ]


def _gradients(problem, delta, loss):
    """Gradients of a loss of the outputs to the weights and to delta."""
    delta = tf.convert_to_tensor(delta)
    with tf.GradientTape() as tape:
        tape.watch(delta)
        value = loss(problem.forward(delta))
    found = tape.gradient(value, [*problem.variables, delta])
    *weights, pixels = _filled(found, [*problem.variables, delta])
    return weights, pixels


def _attacked(problem):
    return lambda outputs: tf.reduce_sum(problem.attack_loss(outputs))


def fastbat_points(problem):
    """Returns the linearization point of Fast-BAT, and delta*."""

    def ascend(delta):
        _, ascent = _gradients(problem, delta, _attacked(problem))
        return problem.project(delta + STEP_SIZE * ascent)

    start = problem.images + problem.draw(-EPSILON, EPSILON)
    z = ascend(tf.clip_by_value(start, 0, 1) - problem.images)
    return z, ascend(z)


@contextlib.contextmanager
def _perturbed(problem, gradients, gamma):
    """Moves the kernels by gamma of their norms along the gradients."""
    before = problem.network.get_weights()
    for variable, gradient in zip(problem.variables, gradients, strict=True):
        if len(variable.shape) > 1:
            share = np.linalg.norm(variable) / np.linalg.norm(gradient)
            variable.assign_add(gamma * share * gradient)
    yield
    problem.network.set_weights(before)


def fastbat(problem, points, gamma=0.0):
    """Returns the gradient of a step, a list of arrays.

    Args:
        problem: The `Problem`.
        points: The linearization point, and delta*.
        gamma: Float, the length of the weight perturbation. Defaults to 0.
    """
    attacked = _attacked(problem)

    def mean(outputs):
        return problem.mean(problem.loss(outputs))

    def upper(outputs):
        extra = [tf.reduce_sum(x) for x in problem.network.losses]
        return mean(outputs) + sum(extra)

    z, delta = points
    direction, _ = _gradients(problem, delta, mean)
    with _perturbed(problem, direction, gamma):
        plain, to_delta = _gradients(problem, delta, upper)
    low = np.maximum(-problem.images, -EPSILON) + 1e-7
    high = np.minimum(1 - problem.images, EPSILON) - 1e-7
    interior = np.array((low < delta) & (delta < high))
    vector = interior * to_delta / LAMBDA
    h = MOVE / np.abs(vector).max()
    ahead, _ = _gradients(problem, z + h * vector, attacked)
    behind, _ = _gradients(problem, z - h * vector, attacked)
    return [
        p + (a - b) / (2 * h)
        for p, a, b in zip(plain, ahead, behind, strict=True)
    ]


def trades(problem, gamma=0.0):
    """Returns the gradient of a step with one step of the attack.

    Args:
        problem: The `Problem`.
        gamma: Float, the length of the weight perturbation. Defaults to 0.
    """

    def apart(first, second):
        p, q = tf.nn.log_softmax(first), tf.nn.log_softmax(second)
        return tf.reduce_sum(tf.exp(p) * (p - q), -1)

    clean = problem.logits(problem.forward(0.0, training=False))
    start = 1e-3 * as_normal(problem.draw(0, 1))
    with tf.GradientTape() as tape:
        tape.watch(start)
        moved = problem.logits(problem.forward(start, training=False))
        value = tf.reduce_sum(apart(clean, moved))
    ascent = EPSILON * tf.sign(tape.gradient(value, start))
    delta = problem.project(start + ascent)

    def upper(regularized):
        with tf.GradientTape() as tape:
            outputs = problem.forward(0.0)
            moved = problem.forward(delta)
            divergence = apart(problem.logits(outputs), problem.logits(moved))
            value = problem.mean(problem.loss(outputs))
            value += COEFFICIENT * problem.mean(divergence)
            for extra in problem.network.losses if regularized else ():
                value += tf.reduce_sum(extra)
        variables = problem.variables
        return _filled(tape.gradient(value, variables), variables)

    with _perturbed(problem, upper(regularized=False), gamma):
        return upper(regularized=True)
