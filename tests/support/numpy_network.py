"""The network of the NumPy references, and one update of its weights.

A layer of softplus, BatchNormalization, and a layer of logits; images are rows
of pixels. The gradients to the images are written out. Those to the weights
are central differences of the loss in float64: nothing here is derived by
TensorFlow.
"""

import numpy as np

RATE = 0.05  # Of plain SGD.
MOMENTUM, STABILITY = 0.9, 1e-5  # Of BatchNormalization.
DIFFERENCE = 1e-5


def softmax(z):
    powers = np.exp(z - z.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def divergence(p, q):
    """KL(p || q), per example."""
    return (p * (np.log(p) - np.log(q))).sum(-1)


def through_softmax(q, gradient):
    """A gradient to probabilities q, as one to their logits."""
    return q * (gradient - (q * gradient).sum(-1, keepdims=True))


class Network:
    """Weights, moving statistics, and both directions.

    Attributes:
        weights: List: kernel, scale, offset, kernel, bias.
        mean: Moving mean, `(width,)`.
        variance: Moving variance, `(width,)`.
    """

    def __init__(self, weights, mean, variance):
        self.weights, self.mean, self.variance = weights, mean, variance

    def forward(self, x, training=True, record=False, weights=None):
        """Logits, features, and a function from their gradient to that of x."""
        kernel, scale, offset, last, bias = weights or self.weights
        hidden = x @ kernel
        bent = np.logaddexp(0, hidden)
        mean, variance = self.mean, self.variance
        if training:
            mean, variance = bent.mean(0), bent.var(0)
        if training and record:
            unbiased = bent.var(0, ddof=1)
            self.mean = MOMENTUM * self.mean + (1 - MOMENTUM) * mean
            self.variance = MOMENTUM * self.variance + (1 - MOMENTUM) * unbiased
        deviation = np.sqrt(variance + STABILITY)
        normal = (bent - mean) / deviation
        features = scale * normal + offset

        def back(dz):
            d = scale * (dz @ last.T)
            if training:
                d = d - d.mean(0) - normal * (d * normal).mean(0)
            return d / deviation / (1 + np.exp(-hidden)) @ kernel.T

        return features @ last + bias, features, back


class Update:
    """What a method sees of one update.

    Attributes:
        network: The `Network`.
        x: `(batch, pixels)`.
        labels: Integers `(batch,)`.
        index: Integers `(batch,)`, the indices in the data set.
        epoch, batch, epochs: Integers, the progress of the training.
        state: Dict of arrays; a method writes here what it remembers.
        epsilon: Float.
        draw: Function that draws random numbers by name.
    """

    def __init__(
        self, network, x, labels, *, index, progress, state, epsilon, draw
    ):
        self.network, self.x, self.labels = network, x, labels
        self.index, self.state, self.epsilon = index, state, epsilon
        self.epoch, self.batch, self.epochs = progress
        self.draw = draw
        self.classes = len(network.weights[-1])
        self.targets = np.eye(self.classes)[labels]

    # The ball and the pixels.
    def clip(self, delta):
        return np.clip(self.x + delta, 0, 1) - self.x

    def project(self, delta):
        return self.clip(np.clip(delta, -self.epsilon, self.epsilon))

    def uniform(self, name, radius):
        return self.draw(name, self.x.shape, -radius, radius)

    def signs(self, name, radius):
        return np.where(self.uniform(name, radius) < 0, -radius, radius)

    # The network.
    def relaxed(self, factor=0.6):
        others = (1 - factor) / (self.classes - 1)
        return factor * self.targets + others * (1 - self.targets)

    def attack(self, delta, targets=None, training=True):
        """The gradient of the summed cross-entropy, and the logits."""
        z, _, back = self.network.forward(
            self.x + delta, training, record=training
        )
        targets = self.targets if targets is None else targets
        return back(softmax(z) - targets), z

    def ce(self, z, targets=None):
        targets = self.targets if targets is None else targets
        return -(targets * np.log(softmax(z))).sum(-1)

    def mean_ce(self, delta, targets=None):
        return lambda logits: self.ce(logits(self.x + delta), targets).mean()


def frozen(function):
    """Constant from its first call on: that of the weights of now."""
    found = []

    def first(*args):
        if not found:
            found.append(function(*args))
        return found[0]

    return first


class Logits:
    """Logits of the network with given weights, for a loss."""

    def __init__(self, network, weights=None):
        self.network, self.weights = network, weights
        self.back = None  # Of the last forward pass.

    def __call__(self, x, record=True):
        record = record and self.weights is None
        z, _, self.back = self.network.forward(
            x, record=record, weights=self.weights
        )
        return z


def differences(network, scalar):
    """Central differences of a function of the logits, by the weights."""
    gradients = []
    for number, array in enumerate(network.weights):
        gradient = np.zeros_like(array)
        for entry in np.ndindex(array.shape):
            found = []
            for move in (DIFFERENCE, -DIFFERENCE):
                weights = [each.copy() for each in network.weights]
                weights[number][entry] += move
                found.append(scalar(Logits(network, weights)))
            gradient[entry] = (found[0] - found[1]) / (2 * DIFFERENCE)
        gradients.append(gradient)
    return gradients


def update(u, method, **options):
    """Makes one update.

    Returns:
        The loss, the perturbation and the gradients.
    """
    delta, *scalars = method(u, **options)
    loss = scalars[0](Logits(u.network))
    parts = [differences(u.network, scalar) for scalar in scalars]
    gradients = [sum(part) for part in zip(*parts, strict=True)]
    u.network.weights = [
        old - RATE * gradient
        for old, gradient in zip(u.network.weights, gradients, strict=True)
    ]
    return loss, delta, gradients
