"""One step of each kind of model, label, loss, data and policy is right.

`tests/support/plain_steps.py` computes the same step in float64, without
`RobustClassifier`. With SGD at a rate of 1, the change of the weights is the
gradient. Errors are norms, relative to the norm of the gradient. The largest
that were measured are 5e-9 in float64, 7e-6 in float32 and 0.05 in bfloat16.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf
from absl.testing import parameterized

from fastbat_tf import TRADES, FastBAT, RobustClassifier
from tests.support import golden_network, plain_steps, step_cases
from tests.support.plain_steps import COEFFICIENT, EPSILON, LAMBDA, STEP_SIZE
from tests.support.step_cases import CASES

TOLERANCES = {"float64": 1e-7, "float32": 1e-4, "mixed_bfloat16": 0.15}


def robust_step(case, method):
    """Returns the gradient of the step, and the pixels that were seen."""
    seen = []
    network = step_cases.build(case, case.policy, seen)
    before = [v.numpy() for v in network.trainable_variables]
    with golden_network.policy(case.policy):
        robust = RobustClassifier(network, method, pixel_range=case.range)
        robust.compile(
            keras.optimizers.SGD(1.0),
            case.loss,
            attack_loss=case.attack and case.attack[0],
            **case.compiled,
        )
        seen.clear()
        robust.train_on_batch(
            step_cases.pixels(case)[0], case.labels, case.weights
        )
    after = [v.numpy() for v in network.trainable_variables]
    return [a - b for a, b in zip(before, after, strict=True)], seen


class StepMatrixTest(tf.test.TestCase, parameterized.TestCase):
    def assert_near(self, case, ours, expected):
        self.assertLen(ours, len(expected))
        norm = np.sqrt(sum((b**2).sum() for b in expected))
        error = sum(
            ((a - b) ** 2).sum() for a, b in zip(ours, expected, strict=True)
        )
        self.assertGreater(norm, 1e-3)
        self.assertLess(np.sqrt(error) / norm, TOLERANCES[case.policy])

    @parameterized.parameters(*CASES)
    # Each head, kind of label, weight, range, dtype, policy and way of running.
    # The others differ in what Keras computes.
    @pytest.mark.quick(
        "body_batch",
        "body_layer",
        "body_regularized",
        "body_frozen",
        "subclassed",
        "softmax",
        "softmax_float64",
        "logit",
        "sigmoid_float64",
        "uint8_one_hot",
        "default_smoothed",
        "default_sigmoid",
        "squared",
        "squared_softmax",
        "divergence",
        "attack_loss_of_logits",
        "sample_weight_softmax",
        "uint8",
        "uneven",
        "bfloat16",
        "mixed_batch",
        "graph",
        "xla_sigmoid",
    )
    def test_fastbat(self, name):
        case = CASES[name]
        method = FastBAT(EPSILON, step_size=STEP_SIZE, implicit_lambda=LAMBDA)
        ours, seen = robust_step(case, method)
        problem = step_cases.plain_problem(case)
        points = plain_steps.fastbat_points(problem)
        if case.policy == "mixed_bfloat16":
            # Rounding moves coordinates of delta* to a bound and off it, where
            # the implicit term jumps: it is compared at the same points.
            low, high = case.range
            found = [(x - low) / (high - low) - problem.images for x in seen]
            apart = np.mean(np.abs(np.subtract(found[-2:], points)))
            self.assertLess(apart, 0.05 * EPSILON)
            points = found[-2:]
        self.assert_near(case, ours, plain_steps.fastbat(problem, points))
        if case.compiled.get("run_eagerly"):
            self.assert_in_ball(case, seen, passes=3)

    def assert_in_ball(self, case, seen, passes):
        """All pixels that the network has seen are in the stated range."""
        low, high = case.range
        given = step_cases.pixels(case)[0].astype("float64")
        self.assertLen(seen, passes)
        room = 3e-7 * (high - low) + 1e-6 * max(abs(low), abs(high))
        for image in seen:
            moved = np.abs(image - given).max()
            self.assertLessEqual(moved, EPSILON * (high - low) + room)
            self.assertGreater(moved, 0.9 * EPSILON * (high - low))
            self.assertBetween(image.min(), low - room, high)
            self.assertBetween(image.max(), low, high + room)

    @parameterized.parameters(
        "body_batch",
        "softmax",
        "softmax_layer",
        "softmax_float64",
        "subclassed_softmax",
        "logit",
        "sigmoid",
        "sigmoid_float64",
        "sample_weight_softmax",
        "uneven",
        "xla_sigmoid",
    )
    def test_trades(self, name):
        case = CASES[name]
        method = TRADES(EPSILON, steps=1, coefficient=COEFFICIENT)
        ours, _ = robust_step(case, method)
        self.assert_near(
            case, ours, plain_steps.trades(step_cases.plain_problem(case))
        )

    def test_trades_on_probabilities_in_bfloat16(self):
        """It equals TRADES on logits.

        Neither is near the step in float64: bfloat16 rounds away most of the
        start, whose deviation is 0.001, and the first step follows its sign.
        """
        method = TRADES(EPSILON, steps=1, coefficient=COEFFICIENT)
        logits, _ = robust_step(CASES["mixed"], method)
        softmax, _ = robust_step(CASES["mixed_softmax"], method)
        self.assertAllClose(logits, softmax)
        self.assertNotAllClose(logits[0], np.zeros_like(logits[0]))


if __name__ == "__main__":
    tf.test.main()
