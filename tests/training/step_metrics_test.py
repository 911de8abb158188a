"""Metrics of the user beside those of the training step."""

import keras
import numpy as np
import tensorflow as tf
from absl.testing import absltest, parameterized

from fastbat_tf import RobustClassifier, Standard
from fastbat_tf.errors import InputError
from fastbat_tf.methods.base import Method, Solution
from tests.support.small_training import Constant, SmallTraining
from tests.support.testing import (
    images_and_labels,
    small_network,
    two_cpu_strategy,
)


def loss(y_true, y_pred):
    """A function with the name of what is logged."""
    return 0 * y_pred[:, 0]


class NamesTest(parameterized.TestCase, tf.test.TestCase):
    def test_no_metric_is_given_the_value_of_another(self):
        training = SmallTraining()
        names = "gradient_norm", "epsilon_share", "perturbed_accuracy"
        training.robust.compile(
            "sgd", metrics=[Constant(name=name) for name in names]
        )
        history = training.fit().history
        for name in names:
            self.assertAllEqual(history[name], [100.0, 100.0])
        self.assertAllInRange(history["robust_gradient_norm"], 1e-6, 99)
        self.assertIn("robust_gradient_norm", training.robust.metrics_names)
        found = training.robust.evaluate(
            *images_and_labels(4), verbose=0, return_dict=True
        )
        self.assertSameElements(found, ("loss", *names))

    @parameterized.parameters(
        ("robust_gradient_norm", Constant(name="robust_gradient_norm")),
        ("robust_epsilon_share", [[Constant(name="robust_epsilon_share")]]),
        ("loss", loss),
        ("loss", {"output": ["accuracy", keras.metrics.Mean(name="loss")]}),
    )
    def test_a_name_of_ours(self, name, metric):
        robust = SmallTraining().robust
        for argument in ("metrics", "weighted_metrics"):
            with self.assertRaisesRegex(
                InputError,
                f"^The training itself logs `{name}`; expected a metric with "
                f"another name. Received: name={name}$",
            ):
                robust.compile("sgd", **{argument: [metric]})

    @parameterized.parameters(
        (
            ("gradient_norm",),
            "^The training itself reports `gradient_norm`; expected another "
            r"name. Received: Reporting.reports=\('gradient_norm',\)$",
        ),
        (
            ("length",),
            "The method reports `size`; expected its name in the `reports` of "
            r"its class. Received: reports=\('gradient_norm', 'length'\)",
        ),
    )
    def test_reports_of_a_method(self, names, message):
        class Reporting(Method):
            reports = names

            def solve(self, context):
                context.report(size=1.0)
                return Solution(tf.zeros_like(context.images))

        with self.assertRaisesRegex(InputError, message):
            SmallTraining(Reporting()).fit()

    def test_evaluate_on_replicas_of_other_weights(self):
        """The value of all examples, not the mean of the replicas' values."""
        images, _ = images_and_labels(4)
        weights = np.float32([1, 2, 4, 9])
        found = []
        for strategy in (tf.distribute.get_strategy(), two_cpu_strategy()):
            with strategy.scope():
                robust = RobustClassifier(small_network(), Standard())
                robust.compile("sgd", weighted_metrics=["accuracy"])
            predicted = robust.predict(images, verbose=0).argmax(-1)
            # The two examples of the first replica are right.
            labels = (predicted + [0, 0, 1, 1]) % 4
            found.append(
                robust.evaluate(
                    images, labels, sample_weight=weights, verbose=0
                )[1]
            )
        self.assertAllClose(found, [3 / 16, 3 / 16])


if __name__ == "__main__":
    absltest.main()
