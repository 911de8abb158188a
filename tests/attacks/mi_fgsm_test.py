"""Tests MI-FGSM against the published algorithm in NumPy."""

import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from fastbat_tf import attacks
from fastbat_tf.errors import InputError
from tests.support.attack_problems import (
    SHAPE,
    SIZE,
    linear_problem,
    predictions,
    smooth_network,
)

EPSILON = 0.02


def gradient(weights, image, label, target=None):
    """The gradient of the loss in float64, and the logits.

    The loss is the cross-entropy of the label, or minus that of the target.
    """
    first, last = (each.astype("float64") for each in weights)
    hidden = np.tanh((image.ravel() - 0.5) @ first)
    logits = hidden @ last
    share = np.exp(logits - logits.max())
    share /= share.sum()
    chosen = label if target is None else target
    of_logits = share - (np.arange(len(share)) == chosen)
    of_logits *= 1 if target is None else -1
    return first @ ((1 - hidden**2) * (last @ of_logits)), logits


def published(weights, image, label, *, norm, momentum, steps, target=None):
    """Algorithm 1 of Dong et al. for one image; returns the last image."""
    x = image.astype("float64").ravel()
    radius = EPSILON if norm == "linf" else 4 * EPSILON
    point, velocity = x.copy(), np.zeros(SIZE)
    for _ in range(steps):
        slope, _ = gradient(weights, point, label, target)
        velocity = momentum * velocity + slope / np.abs(slope).sum()
        step = np.sign(velocity)
        if norm == "l2":
            step = velocity / np.sqrt((velocity**2).sum())
        delta = point + radius / steps * step - x
        if norm == "linf":
            delta = np.clip(delta, -radius, radius)
        else:
            delta *= min(1, radius / np.sqrt((delta**2).sum()))
        point = np.clip(x + delta, 0, 1)
    return point.reshape(image.shape)


def images_of(count, seed=0):
    """Half of the pixels are near a bound."""
    random = np.random.default_rng(seed)
    images = random.uniform(0.3, 0.7, (count, *SHAPE))
    near = random.choice((0.0, 0.004, 0.995, 1.0), images.shape)
    return np.where(random.random(images.shape) < 0.5, near, images).astype(
        "float32"
    )


class MomentumTest(parameterized.TestCase, tf.test.TestCase):
    @parameterized.product(
        norm=("linf", "l2"), momentum=(1.0, 0.5, 0.0), target=(None, 2)
    )
    def test_is_the_published_algorithm(self, norm, momentum, target):
        network = smooth_network(classes=3, width=6)
        images = images_of(12)
        labels = predictions(network, images).astype("int32")
        # On a surrogate all steps are taken: the last point is the result.
        surrogate = attacks.MIFGSM(
            EPSILON if norm == "linf" else 4 * EPSILON,
            steps=7,
            momentum=momentum,
            norm=norm,
            target=target,
        )
        surrogate.stops = False
        found = surrogate(network, images, labels)
        for number, (image, label) in enumerate(
            zip(images, labels, strict=True)
        ):
            if label == target:
                continue
            expected = published(
                network.weights,
                image,
                label,
                norm=norm,
                momentum=momentum,
                steps=7,
                target=target,
            )
            self.assertAllClose(found.images[number], expected, atol=2e-6)

    def test_momentum_matters(self):
        network = smooth_network(classes=3, width=6, scale=4.0)
        images = images_of(12)
        labels = predictions(network, images)
        with_and_without = [
            attacks.MIFGSM(0.2, momentum=momentum)(network, images, labels)
            for momentum in (1.0, 0.0)
        ]
        first, second = (found.images for found in with_and_without)
        self.assertGreater(np.abs(first - second).max(), 0.01)

    @parameterized.parameters("linf", "l2")
    def test_reaches_the_corner_of_a_linear_network(self, norm):
        """Ten steps of a tenth; an example ends when it is misclassified."""
        problem = linear_problem(30)
        radii = problem.radii[norm]
        epsilon = float(np.median(radii[radii > 0]))
        result = attacks.MIFGSM(epsilon, norm=norm)(
            problem.network, problem.images, problem.labels
        )
        apart = np.abs(radii - epsilon) > 1e-3 * epsilon
        self.assertAllEqual(result.robust[apart], (radii > epsilon)[apart])

    def test_on_a_surrogate_by_name(self):
        surrogate = smooth_network(classes=3, width=6)
        victim = smooth_network(classes=3, width=6, seed=1)
        images = images_of(10)
        labels = predictions(victim, images).astype("int32")
        attack = attacks.Transfer(surrogate, "mi-fgsm-7", EPSILON)
        found = attack(victim, images, labels)
        for number, (image, label) in enumerate(
            zip(images, labels, strict=True)
        ):
            expected = published(
                surrogate.weights,
                image,
                label,
                norm="linf",
                momentum=1.0,
                steps=7,
            )
            self.assertAllClose(found.images[number], expected, atol=2e-6)
        self.assertAllEqual(
            found.predictions, predictions(victim, found.images)
        )

    @parameterized.parameters(1e-30, 1e30)
    def test_gradients_of_any_size(self, scale):
        weights = np.random.default_rng(0).normal(size=SIZE).astype("float32")

        def network(batch):
            score = tf.reshape(batch, (-1, SIZE)) @ weights[:, None]
            score -= 0.5 * weights.sum() - 1.0
            return tf.concat([score, -score], -1) * scale

        images = np.full((1, *SHAPE), 0.5, np.float32)
        attack = attacks.MIFGSM(0.01, loss="margin")
        found = attack(network, images, np.zeros(1, int))
        self.assertAllClose(
            (found.images - images).ravel(), -0.01 * np.sign(weights), atol=1e-6
        )

    def test_no_gradient_moves_nothing(self):
        images = np.full((2, *SHAPE), 0.5, np.float32)
        found = attacks.MIFGSM(0.01)(
            lambda batch: 0.0 * batch[:, 0, 0, :], images, np.zeros(2, int)
        )
        self.assertAllEqual(found.images, images)

    @parameterized.parameters(-0.1, np.inf, np.nan, "1")
    def test_refused_momentum(self, momentum):
        with self.assertRaisesRegex(InputError, "`momentum` .* momentum="):
            attacks.MIFGSM(momentum=momentum)


if __name__ == "__main__":
    tf.test.main()
