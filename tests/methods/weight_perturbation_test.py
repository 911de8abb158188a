"""Adversarial weight perturbation with every method, in every mode: one table.

Each training also has a schedule of epsilon, averaged weights, momentum, weight
decay, clipping, and a warm-up of one update.
"""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from absl.testing import parameterized

from fastbat_tf import (
    TRADES,
    AdversarialWeightPerturbation,
    EpsilonSchedule,
    FastBAT,
    methods,
)
from fastbat_tf.training.classifier import RobustClassifier
from tests.methods import replicas_test
from tests.methods.contract_test import PLAN, train, values_of
from tests.support import plain_steps, step_cases, testing
from tests.support.plain_steps import COEFFICIENT, EPSILON, LAMBDA, STEP_SIZE
from tests.training.step_matrix_test import robust_step

MODES = ("graph", "xla", "resumed", "replicas")
# Two that differentiate twice, one whose gradient goes through its attack, one
# with a loop and two passes, one that replays, and one that remembers.
MAIN = ("fastbat", "gradalign", "fgsm_pgi", "trades", "free", "liet")
CASES = tuple(
    {"name": name, "mode": mode}
    for name in methods.METHODS
    for mode in MODES
    # Those look at the examples of one replica alone.
    if not (mode == "replicas" and name in replicas_test.BATCH_WIDE)
)
GAMMA = 0.1


def settings():
    return {
        "weight_perturbation": AdversarialWeightPerturbation(GAMMA, 1),
        "epsilon_schedule": EpsilonSchedule(ramp_steps=2),
        "weight_averaging": 0.9,
        "weight_decay": 5e-3,
        "clip_norm": 2.0,
    }


def build(name, **compiled):
    network = testing.small_network(width=2)
    robust = RobustClassifier(network, methods.get(name))
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
    return robust.compile(optimizer, plan=PLAN, **settings(), **compiled)


@functools.cache
def trained_eagerly(name):
    robust = build(name, run_eagerly=True)
    train(robust)
    return values_of(robust)


class CompositionTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(*CASES)
    @pytest.mark.quick(
        *(f"{name} {mode}" for name in MAIN[:2] for mode in MODES[:2]),
        *(f"{name} graph" for name in MAIN[2:]),
        *(f"{name} replicas" for name in ("fastbat", "fgsm_pgi", "trades")),
        "fastbat resumed",
        "free resumed",
    )
    def test_table(self, name, mode):
        getattr(self, f"check_{mode}")(name)

    def check_graph(self, name):
        robust = build(name, jit_compile=False)
        train(robust)
        self.assert_same(values_of(robust), trained_eagerly(name))

    def check_xla(self, name):
        robust = build(name, jit_compile=True)
        train(robust)
        self.assert_same(values_of(robust), trained_eagerly(name))

    def check_resumed(self, name):
        robust = build(name, run_eagerly=True)
        train(robust, 2)
        path = f"{self.get_temp_dir()}/robust.keras"
        robust.save(path)
        loaded = keras.models.load_model(path)
        # The third batch alone.
        images, labels = testing.images_and_labels(6, seed=2)
        index = np.arange(6, dtype="int32")
        for model in (robust, loaded):
            model.train_on_batch({"images": images, "index": index}, labels)
        for one, two in zip(values_of(loaded), values_of(robust), strict=True):
            self.assertAllEqual(one, two)
        self.assert_same(values_of(loaded), trained_eagerly(name))

    def check_replicas(self, name):
        """In float64; the last batch is smaller."""
        weights = []
        for replicas in (1, 2):
            given = settings()
            # It would have to be made in the scope of the strategy.
            del given["epsilon_schedule"]
            robust, _ = replicas_test.train(name, replicas, **given)
            weights.append(robust.trainable_variables)
        for one, two in zip(*weights, strict=True):
            self.assertAllClose(one, two, rtol=0, atol=1e-10)

    def assert_same(self, found, expected):
        for one, two in zip(found, expected, strict=True):
            self.assertAllClose(one, two, 1e-4, 2e-5)


class ReplicasTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.named_parameters(
        ("synchronized", {"normalization": True}),
        ("an_empty_replica", {"examples": 17}),
    )
    @pytest.mark.quick("synchronized")
    def test_two_replicas_are_one_device(self, normalization=False, **given):
        def build():
            layer = functools.partial(
                keras.layers.BatchNormalization, synchronized=True
            )
            return testing.small_network(
                width=2, normalization=layer if normalization else None
            )

        one, two = (
            replicas_test.train(
                "fastbat",
                replicas,
                build=build,
                weight_perturbation=AdversarialWeightPerturbation(GAMMA, 1),
                **given,
            )[0]
            for replicas in (1, 2)
        )
        for ours, theirs in zip(
            two.classifier.weights, one.classifier.weights, strict=True
        ):
            self.assertAllClose(ours, theirs, rtol=0, atol=1e-10)


class FormulasTest(tf.test.TestCase, parameterized.TestCase):
    """A whole step, computed in float64 without the library."""

    @parameterized.product(
        method=("fastbat", "trades"),
        name=("exact_batch", "body_regularized", "sample_weight", "xla"),
    )
    @pytest.mark.quick(
        "fastbat exact_batch", "fastbat body_regularized", "trades xla"
    )
    def test_step(self, method, name):
        case = step_cases.CASES[name]
        awp = AdversarialWeightPerturbation(GAMMA)
        compiled = {**case.compiled, "weight_perturbation": awp}
        case = case._replace(compiled=compiled)
        problem = step_cases.plain_problem(case)
        if method == "fastbat":
            options = {"step_size": STEP_SIZE, "implicit_lambda": LAMBDA}
            chosen = FastBAT(EPSILON, **options)
            points = plain_steps.fastbat_points(problem)
            expected = plain_steps.fastbat(problem, points, GAMMA)
            plain = plain_steps.fastbat(problem, points)
        else:
            chosen = TRADES(EPSILON, steps=1, coefficient=COEFFICIENT)
            expected = plain_steps.trades(problem, GAMMA)
            plain = plain_steps.trades(problem)
        found, _ = robust_step(case, chosen)
        tolerance = 1e-7 if case.policy == "float64" else 1e-4
        self.assertLess(apart(found, expected), tolerance)
        self.assertGreater(apart(plain, expected), 1e-2)


def apart(found, expected):
    """The norm of the difference, relative to that of the expected."""
    norms = [
        np.sqrt(sum(np.sum(np.square(x)) for x in arrays))
        for arrays in (
            [a - b for a, b in zip(found, expected, strict=True)],
            expected,
        )
    ]
    return norms[0] / norms[1]


if __name__ == "__main__":
    tf.test.main()
