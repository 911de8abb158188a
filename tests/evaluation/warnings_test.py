"""Tests the warnings of an evaluation, and a surrogate that does not fit."""

from unittest import mock

import numpy as np
import tensorflow as tf

from fastbat_tf.errors import InputError
from fastbat_tf.evaluation import robustness, runner
from fastbat_tf.evaluation.robustness import evaluate_robustness
from tests.support.toy_evaluation import toy_data, toy_network


class WarningsTest(tf.test.TestCase):
    def test_without_lines_they_come_as_python_warnings(self):
        network = toy_network()
        with self.assertWarnsRegex(UserWarning, "look like probabilities"):
            results = evaluate_robustness(
                lambda images: tf.nn.softmax(network(images)),
                toy_data(20, network),
                ["fgsm"],
                [0.01],
            )
        self.assertLen(results["warnings"], 1)

    def test_a_larger_ball_in_which_less_falls(self):
        robust = np.arange(40) < 10
        found = iter([robust, ~robust])

        def run(name, *_, **__):
            return runner.AttackOutcome(name, True, next(found), 1.0)

        with (
            mock.patch.object(robustness, "run_attack", run),
            self.assertWarnsRegex(UserWarning, "^fgsm breaks fewer images at"),
        ):
            evaluate_robustness(
                toy_network(), toy_data(40), ["fgsm"], [0.1, 0.2]
            )

    def test_a_surrogate_of_other_classes(self):
        with self.assertRaisesRegex(InputError, "classes. Received: classes=2"):
            evaluate_robustness(
                toy_network(),
                toy_data(10),
                ["transfer-fgsm"],
                [0.01],
                surrogate=toy_network(classes=2),
            )


if __name__ == "__main__":
    tf.test.main()
