"""Two updates of every method against NumPy.

Both start from the same weights and draws. `tests/support/numpy_methods.py`
implements the methods from their papers. This test fails if a method is wrong
in all modes alike.
"""

import zlib

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from fastbat_tf import Plan, RobustClassifier, methods
from tests.support import (
    golden_network,
    numpy_methods,
    numpy_network,
    testing,
)

SHAPE, PIXELS = (2, 2, 3), 12
BATCH, CLASSES, WIDTH = 6, 4, 5
EXAMPLES = 9
# The second batch has some examples of the first.
INDEX = ((5, 2, 7, 1, 0, 8), (3, 2, 6, 1, 4, 8))
PLAN = Plan(epochs=4, steps_per_epoch=2, batch_size=BATCH, examples=EXAMPLES)
EPOCH = 2  # Both batches of it: the second is guided.
EPSILON = 0.1

# Options beside the defaults of the method, and of its twin in NumPy.
CASES = {
    **{name: ({}, {}) for name in methods.METHODS},
    "fastbat": ({"step_size": 0.2}, {}),
    "trades": ({"steps": 3}, {}),
    "mart": ({"steps": 3}, {}),
    "aaer": ({"epsilon": 0.4}, {}),
    "gradalign": ({"coefficient": 0.2}, {}),
    "liet": ({"epsilon": 8 / 255}, {}),
    "fgsm_fuap": ({"uaps": 3}, {}),
}
VARIANTS = (
    *(
        (
            name,
            {"steps": 2, "step_size": 2 / 255, "attack_mode": "training"},
            {"steps": 2, "training": True},
        )
        for name in ("trades", "mart")
    ),
    (
        "fastbat",
        {"step_size": 0.2, "linearization": "remembered"},
        {"remembered": True},
    ),
)


class Draws:
    """NumPy's random numbers of one update, of 24 bits, by name."""

    def __init__(self, step):
        self.step = step

    def uniform(self, name, shape, minval, maxval, dtype):
        found = self.array(name, tuple(shape), minval, maxval)
        return tf.constant(found, dtype)

    def array(self, name, shape, minval, maxval):
        random = np.random.default_rng([self.step, zlib.crc32(name.encode())])
        bits = random.integers(0, 2**24, int(np.prod(shape, dtype=int)))
        return minval + (bits * 2.0**-24).reshape(shape) * (maxval - minval)


class Recorded(RobustClassifier):
    """Takes those draws, and keeps what each update computed."""

    def draws(self, step):
        return Draws(int(step))

    def compute_gradients(self, *args, **kwargs):
        outcome = super().compute_gradients(*args, **kwargs)
        self.outcomes.append(outcome)
        return outcome


def build(name, options):
    keras.utils.set_random_seed(0)
    inputs = keras.Input(SHAPE)
    x = keras.layers.Flatten()(inputs)
    x = keras.layers.Dense(WIDTH, use_bias=False, name="hidden")(x)
    x = keras.layers.Activation("softplus")(x)
    x = testing.ZOO_NORMALIZATION(name="bn")(x)
    outputs = keras.layers.Dense(CLASSES, name="logits")(x)
    network = keras.Model(inputs, outputs)
    random = np.random.default_rng(1)
    for variable in network.weights:
        new = random.normal(0, 0.8, variable.shape)
        if "moving" in variable.path or "gamma" in variable.path:
            new = 0.5 + random.random(variable.shape)
        variable.assign(new)
    options = {"epsilon": EPSILON, **options}
    if name == "standard":
        options = {}
    robust = Recorded(network, methods.get(name, **options))
    robust.compile(
        keras.optimizers.SGD(numpy_network.RATE), plan=PLAN, run_eagerly=True
    )
    robust.outcomes = []
    return robust


def twin_of(robust):
    """The network and the state in NumPy."""
    values = {
        v.path.split("/")[-1]: v.numpy() for v in robust.classifier.weights
    }
    network = numpy_network.Network(
        [v.numpy() for v in robust.trainable_variables],
        values["moving_mean"],
        values["moving_variance"],
    )
    state = {
        name: flat(value.numpy(), robust.method.name)
        for name, value in robust.method_state.entries.items()
    }
    state["seen"] = np.zeros(EXAMPLES, bool)
    return network, state


def flat(array, name):
    """Images as rows of pixels."""
    if array.shape[-3:] == SHAPE:
        return array.reshape(-1, PIXELS).copy()
    return array.copy()


def batch(number):
    random = np.random.default_rng(number)
    x = random.uniform(-0.1, 1.1, (BATCH, PIXELS)).clip(0, 1)
    return x, random.integers(0, CLASSES, BATCH)


class MethodReferenceTest(tf.test.TestCase, parameterized.TestCase):
    def test_all_methods_are_there(self):
        missing = [n for n in methods.METHODS if not hasattr(numpy_methods, n)]
        there = methods.METHODS.keys() - missing
        for name in there:
            self.assertTrue(callable(getattr(numpy_methods, name)))
        self.assertGreaterEqual(len(there), 24)
        if missing:
            self.skipTest(f"Without a reference: {', '.join(missing)}")

    @parameterized.named_parameters(
        *((name, name, *case) for name, case in CASES.items()),
        *((f"{case[0]}_variant", *case) for case in VARIANTS),
    )
    def test_two_updates(self, name, options, twin_options):
        with golden_network.precision("float64"):
            self.check(name, options, twin_options)

    @parameterized.parameters(
        ("trades", "coefficient", 5.99),
        ("mart", "coefficient", 4.99),
        ("fastbat", "implicit_lambda", 10.1),
        ("gradalign", "coefficient", 0.21),
        ("fgsm_uap", "form", "benchmark"),
        ("free", "start", "zero"),
        ("aaer", "logit_coefficient", 0.14),
    )
    def test_another_step_is_noticed(self, name, option, value):
        options, twin_options = CASES[name]
        options = {**options, option: value}
        with golden_network.precision("float64"):
            with self.assertRaisesRegex(AssertionError, "Not equal"):
                self.check(name, options, twin_options)

    def check(self, name, options, twin_options):
        if not hasattr(numpy_methods, name):
            self.skipTest(f"{name} is not in tests/support/numpy_methods.py")
        robust = build(name, options)
        replays = robust.method.replays
        first = EPOCH * PLAN.steps_per_epoch * replays
        robust.step.assign(first)
        entries = robust.method_state.entries
        if "previous" in entries:  # The mean loss of the epoch before: 9.
            entries["sum"].assign(36.0)
            entries["count"].assign(4.0)
        network, state = twin_of(robust)
        epsilon = getattr(robust.method, "epsilon", 0.0)
        method = getattr(numpy_methods, name)
        expected = []
        for number in (0, 1):
            x, labels = batch(number)
            images = tf.constant(x.reshape(BATCH, *SHAPE))
            index = np.array(INDEX[number])
            data = {"images": images, "index": tf.constant(index, tf.int32)}
            robust.train_step((data, tf.constant(labels, tf.int32)))
            for replay in range(replays):
                step = first + number * replays + replay
                u = numpy_network.Update(
                    network,
                    x,
                    labels,
                    index=index,
                    progress=(EPOCH, number, PLAN.epochs),
                    state=state,
                    epsilon=epsilon,
                    draw=Draws(step).array,
                )
                expected.append(numpy_network.update(u, method, **twin_options))
        for outcome, (loss, delta, gradients) in zip(
            robust.outcomes, expected, strict=True
        ):
            found = outcome.solution.perturbation.numpy().reshape(delta.shape)
            # 2**-24 of a quantile of TRADES and MART.
            self.assertAllClose(found, delta, 0, 1e-7)
            self.assertAllClose(outcome.loss, loss, 1e-6)
            for ours, theirs in zip(outcome.gradients, gradients, strict=True):
                self.assertAllClose(ours, theirs, 1e-5, 1e-6)
        for ours, theirs in zip(
            robust.trainable_variables, network.weights, strict=True
        ):
            self.assertAllClose(ours, theirs, 1e-6, 1e-7)
        for key in entries.keys() - {"written"}:
            ours = flat(entries[key].numpy(), name)
            self.assertAllClose(ours, state[key], 1e-6, 1e-8, key)
        values = {v.path.split("/")[-1]: v for v in robust.classifier.weights}
        self.assertAllClose(values["moving_mean"], network.mean)
        self.assertAllClose(values["moving_variance"], network.variance)
        self.check_that_it_says_something(name, robust, u)

    def check_that_it_says_something(self, name, robust, u):
        """No part of the method is idle in both updates."""
        if name == "fastbat":
            self.assertBetween(u.interior, 0.1, 0.9)
        if name == "aaer":
            shares = [
                float(o.reports["abnormal_share"]) for o in robust.outcomes
            ]
            self.assertTrue(any(0 < share < 1 for share in shares), shares)
        if name == "ssat":
            shares = [
                float(o.reports["step_fraction"]) for o in robust.outcomes
            ]
            self.assertTrue(any(0 < share < 1 for share in shares), shares)
        if name in ("fgsm_rs_cs", "fgsm_mep_cs"):
            signs = [
                float(o.reports["convergence_sign"]) for o in robust.outcomes
            ]
            self.assertIn(-1.0, signs)


if __name__ == "__main__":
    tf.test.main()
