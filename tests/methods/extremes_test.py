"""Every method with extreme draws, on networks without gradients.

A draw that comes once in 2**24 comes once an epoch, and a resumed run draws it
again. Here every draw is an end of its range, the network ignores the images or
is as confident as can be, and images are black and white.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf
from absl.testing import parameterized

from fastbat_tf import Plan, RobustClassifier, methods, perturbation
from fastbat_tf.errors import InputError
from fastbat_tf.methods import gradalign
from fastbat_tf.training import losses
from tests.methods.contract_test import CASES, PASSES
from tests.support import testing

EPSILON = 8 / 255
BATCH, CLASSES = 4, 4
LABELS = np.array([0, 1, 2, 3], "int32")
PLAN = Plan(epochs=4, steps_per_epoch=2, batch_size=BATCH, examples=BATCH)
# The first batch, and one that is guided, with what the first left behind.
STEPS = (0, 5)
GRAY = testing.images_and_labels(BATCH)[0]
BLACK, WHITE = np.zeros_like(GRAY), np.ones_like(GRAY)
BOTH = np.concatenate([BLACK[:2], WHITE[:2]])
IN_L2 = ("fastat", "fastbat", "mart", "pgd", "trades")
VARIANTS = (
    *(case for case in CASES if case[0] != "trades"),
    *(
        (f"{name}_{value}", name, {option: value}, PASSES[name])
        for name, option, value in (
            ("trades", "steps", 2),
            ("fastbat", "linearization", "random"),
            ("fastbat", "linearization", "ns-gd"),
            ("gradalign", "form", "benchmark"),
            ("fgsm_uap", "form", "benchmark"),
            ("nuat", "attack_mode", "training"),
        )
    ),
    *(
        (f"{name}_l2", name, {"epsilon": 0.5, "norm": "l2"}, PASSES[name])
        for name in IN_L2
    ),
)


class Recorded(RobustClassifier):
    """Keeps what each update computed."""

    def compute_gradients(self, *args, **kwargs):
        self.outcome = super().compute_gradients(*args, **kwargs)
        return self.outcome


def build(network, name, loss=None, **options):
    robust = Recorded(network, methods.get(name, **options))
    # So slow that weights of 1e4 stay what they are.
    return robust.compile(
        keras.optimizers.SGD(1e-9), loss, plan=PLAN, run_eagerly=True
    )


def silence(network):
    """The same logits for all images: all input gradients are zero."""
    for variable in network.get_layer("dense").trainable_variables:
        variable.assign(tf.zeros_like(variable))


def saturate(network):
    """Logits of 1e4 and more, of either sign."""
    dense = network.get_layer("dense")
    dense.kernel.assign(1e4 * tf.sign(dense.kernel))
    dense.bias.assign([1e4, -1e4, 0.0, 1e4])


def leave(network):
    del network


# Whether the draws are the largest, what becomes of the network, the images.
SITUATIONS = (
    (False, leave, GRAY),
    (False, silence, BLACK),
    (False, saturate, BOTH),
    (True, leave, BOTH),
    (True, saturate, WHITE),
)


class Deaf(keras.layers.Layer):
    """Features that are variables: no path joins them to the images."""

    def build(self, input_shape):
        del input_shape
        self.features = self.add_weight(shape=(3,), name="features")

    def call(self, images):
        return tf.zeros((tf.shape(images)[0], 1)) + self.features


def deaf_network():
    inputs = keras.Input(GRAY.shape[1:])
    dense = keras.layers.Dense(CLASSES, name="dense")
    return keras.Model(inputs, dense(Deaf()(inputs)))


class MethodExtremesTest(tf.test.TestCase, parameterized.TestCase):
    def check(self, robust, images, *, reach, epsilon, message, steps=STEPS):
        """Trains on two batches; nothing is NaN, and no bound is exceeded."""
        for step in steps:
            robust.step.assign(step)
            data = {"images": images, "index": np.arange(BATCH, dtype="int32")}
            logs = robust.train_on_batch(data, LABELS, return_dict=True)
            outcome = robust.outcome
            for tensor in (
                *logs.values(),
                *robust.weights,
                *outcome.gradients,
                outcome.loss,
            ):
                finite = np.isfinite(tensor).all()
                self.assertTrue(finite, message)
            delta = outcome.solution.perturbation.numpy()
            sizes, radius = np.abs(delta), np.float32(reach * epsilon)
            in_l2 = getattr(robust.method, "norm", "linf") == "l2"
            if in_l2:
                sizes = perturbation.l2_size(delta.astype("float64")).numpy()
            if reach > 1 or in_l2:  # A sum, that may round.
                radius *= 1 + 1e-6
            self.assertLessEqual(sizes.max(), radius, message)
            if PASSES[robust.method.name].in_range:
                pixels = images + delta
                self.assertGreaterEqual(pixels.min(), 0.0, message)
                self.assertLessEqual(pixels.max(), 1.0, message)

    @parameterized.named_parameters(*VARIANTS)
    # Each method by default, and the variants that divide or draw otherwise.
    @pytest.mark.quick(
        *(name for name in PASSES if name != "trades"),
        "trades_2",
        "fastbat_random",
        "fastbat_finite_difference",
        "gradalign_benchmark",
        "fastat_l2",
        "fastbat_l2",
    )
    def test_draws_and_networks(self, name, options, passes):
        network = testing.small_network(width=2)
        weights = network.get_weights()
        robust = build(network, name, **options)
        for highest, state, images in SITUATIONS:
            network.set_weights(weights)
            state(network)
            with testing.extreme_draws(highest):
                message = f"highest={highest}, {state.__name__}"
                self.check(
                    robust,
                    images,
                    reach=passes.reach,
                    epsilon=options.get("epsilon", EPSILON),
                    message=message,
                )

    @parameterized.named_parameters(*zip(PASSES, PASSES, strict=True))
    def test_no_path_to_the_images(self, name):
        """An attack finds nothing to perturb along, and is rejected."""
        robust = build(deaf_network(), name)
        if name == "standard":
            self.check(robust, GRAY, reach=0, epsilon=EPSILON, message=name)
            return
        before = robust.get_weights()
        with self.assertRaisesRegex(InputError, r"depend on the images.*Deaf"):
            robust.train_on_batch(
                {"images": GRAY, "index": np.arange(BATCH, dtype="int32")},
                LABELS,
            )
        for old, new in zip(before, robust.get_weights(), strict=True):
            self.assertAllEqual(old, new)

    @parameterized.named_parameters(
        *(
            (f"{name}_{epsilon:g}", name, epsilon)
            for name in PASSES
            for epsilon in (0.0, 1.0)
        )
    )
    def test_ends_of_epsilon(self, name, epsilon):
        options = {} if name == "standard" else {"epsilon": epsilon}
        network = testing.small_network(width=2)
        robust = build(network, name, **options)
        largest = PASSES[name].reach * epsilon
        if PASSES[name].in_range:
            largest = min(largest, 1.0)
        with testing.extreme_draws(True):
            self.check(
                robust,
                BOTH,
                reach=1,
                epsilon=largest,
                message=f"epsilon={epsilon}",
            )

    @parameterized.product(name=IN_L2, epsilon=(0.0, 100.0))
    @pytest.mark.quick("fastbat 100.0", "fastat 0.0")
    def test_ends_of_epsilon_in_l2(self, name, epsilon):
        """A radius of 0, and one that holds the whole pixel range."""
        network = testing.small_network(width=2)
        robust = build(network, name, epsilon=epsilon, norm="l2")
        for highest in (False, True):
            with testing.extreme_draws(highest):
                self.check(
                    robust,
                    BOTH,
                    reach=1,
                    epsilon=epsilon,
                    message=f"highest={highest}",
                )

    @parameterized.parameters(silence, saturate)
    def test_dlr_of_equal_and_of_large_logits(self, state):
        """Its denominator is a difference of logits."""
        network = testing.small_network(width=2)
        state(network)
        robust = build(network, "fastat", losses.get("dlr"))
        self.check(
            robust,
            GRAY,
            reach=1,
            epsilon=EPSILON,
            message=state.__name__,
            steps=STEPS[:1],
        )
        largest = max(np.abs(g).max() for g in robust.outcome.gradients)
        self.assertLess(largest, 1e4)

    @parameterized.product(exponent=(-10, -18, -22, -36), jit_compile=(0, 1))
    def test_cosines_of_tiny_gradients(self, exponent, jit_compile):
        """They have no scale, until float32 cannot hold a derivative."""
        random = np.random.default_rng(0)
        pair = random.normal(size=(2, 4, 8, 8, 3)).astype("float32")

        @tf.function(jit_compile=bool(jit_compile))
        def mean_and_gradient(first, second):
            with tf.GradientTape() as tape:
                tape.watch(second)
                mean = gradalign.mean_cosine(first, second)
            return mean, tape.gradient(mean, second)

        expected, of_large = mean_and_gradient(*pair)
        scale = np.float32(10.0**exponent)
        mean, gradient = mean_and_gradient(*(scale * pair))
        if exponent < -20:
            expected, of_large = 1.0, tf.zeros_like(of_large)
        self.assertAllClose(mean, expected, 1e-4)
        self.assertAllClose(scale * gradient, of_large, 1e-4, 1e-6)

    @parameterized.parameters(1e30, 3e34, 1e38)
    def test_finite_difference_along_a_tiny_vector(self, implicit_lambda):
        """The vector is the smaller, the larger lambda is."""
        options = {
            "implicit_gradient": "finite_difference",
            "implicit_lambda": implicit_lambda,
        }
        network = testing.small_network(width=2)
        robust = build(network, "fastbat", **options)
        self.check(robust, GRAY, reach=1, epsilon=EPSILON, message="")


if __name__ == "__main__":
    tf.test.main()
