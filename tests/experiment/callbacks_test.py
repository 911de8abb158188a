"""Which callbacks a run has, and in which order."""

import pathlib
import tempfile

from absl.testing import absltest, parameterized

from fastbat_tf.data.sources import Examples
from fastbat_tf.experiment import building, callbacks
from fastbat_tf.experiment.config import (
    Config,
    MethodConfig,
    OverfittingConfig,
    TrainingConfig,
)
from fastbat_tf.experiment.run_directory import RunDirectory
from fastbat_tf.methods.fastat import FastAT
from fastbat_tf.training.classifier import RobustClassifier
from tests.support import testing


class BuildTest(parameterized.TestCase):
    def build(self, **settings):
        config = Config(method=MethodConfig("fastat"), **settings)
        robust = RobustClassifier(testing.small_network(), FastAT())
        building.compile_robust(config, robust, steps_per_epoch=1)
        examples = Examples(*testing.images_and_labels(4))
        path = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        return callbacks.build(config, robust, examples, RunDirectory(path))

    def names(self, listed):
        return [type(callback).__name__ for callback in listed]

    def test_order(self):
        """Checkpoints hold no names: another order would not resume them."""
        built = self.build(overfitting=OverfittingConfig("rollback"))
        self.assertEqual(
            self.names(built.checkpointed),
            ["BestWeights", "Timing", "OverfittingGuard", "Curves"],
        )
        self.assertEqual(
            self.names(built.validations),
            ["RobustAccuracy", "OverfittingScores"],
        )
        names = self.names(built.others)
        for first, second in (
            ("LearningRate", "BestWeights"),
            ("BestWeights", "OverfittingGuard"),  # It changes the weights.
            ("OverfittingGuard", "LastWeights"),
            ("History", "Timing"),  # The history does not have the time.
            ("Timing", "Curves"),
            ("BestWeights", "RunSummary"),
        ):
            self.assertLess(names.index(first), names.index(second))

    @parameterized.parameters(0.0, 0.9)
    def test_without_a_guard(self, averaging):
        built = self.build(
            overfitting=OverfittingConfig("off"),
            training=TrainingConfig(weight_averaging=averaging),
        )
        self.assertEqual(
            self.names(built.checkpointed), ["BestWeights", "Timing", "Curves"]
        )
        self.assertEqual(self.names(built.validations), ["RobustAccuracy"])
        self.assertNotIn("OverfittingGuard", self.names(built.others))
        averaged = built.validations[0].averaged_weights
        self.assertEqual(averaged is not None, averaging > 0)


if __name__ == "__main__":
    absltest.main()
