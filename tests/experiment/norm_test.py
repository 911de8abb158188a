"""The norm of a run: of its training, its validation and its measurement."""

import dataclasses

from absl.testing import absltest

from fastbat_tf.errors import InputError
from fastbat_tf.experiment.config import (
    Config,
    EvaluationConfig,
    MethodConfig,
)


class NormTest(absltest.TestCase):
    def test_everything_has_the_norm_of_the_training(self):
        config = Config(method=MethodConfig("pgd", {"norm": "L2"}))
        evaluation = config.evaluation
        self.assertEqual(config.training_norm, "l2")
        self.assertEqual(evaluation.norm, "l2")
        self.assertEqual(evaluation.validation_norm, "l2")
        self.assertEqual(evaluation.epsilons, (128 / 255,))
        self.assertEqual(evaluation.validation_epsilon, 128 / 255)
        with self.assertRaisesRegex(
            InputError, "other than l2, such as 8/255 for linf.*norm=linf"
        ):
            dataclasses.replace(
                config, evaluation=EvaluationConfig(norm="linf")
            )
        wide = Config(method=MethodConfig("pgd", {"norm": "l2", "epsilon": 3}))
        self.assertEqual(wide.evaluation.epsilons, (3.0,))
        self.assertEqual(Config.from_dict(wide.to_dict()), wide)
        measured = dataclasses.replace(
            wide, evaluation=EvaluationConfig(norm="linf", epsilons=(0.1,))
        )
        self.assertEqual(measured.evaluation.validation_norm, "l2")

    def test_without_an_attack_the_norm_is_that_of_the_measurement(self):
        evaluation = Config(
            method=MethodConfig("standard"),
            evaluation=EvaluationConfig(norm="l2"),
        ).evaluation
        self.assertEqual(evaluation.epsilons, (128 / 255,))
        self.assertEqual(evaluation.validation_norm, "l2")

    def test_a_config_without_a_norm_is_of_linf(self):
        groups = Config().to_dict()
        del groups["method"]["options"]["norm"]
        del groups["evaluation"]["validation_norm"]
        self.assertEqual(Config.from_dict(groups), Config())
        # Measured in L2, but validated in L-infinity.
        groups = Config(method=MethodConfig("standard")).to_dict()
        del groups["evaluation"]["validation_norm"]
        groups["evaluation"] |= {"norm": "l2", "epsilons": [0.5]}
        evaluation = Config.from_dict(groups).evaluation
        self.assertEqual(evaluation.validation_norm, "linf")
        self.assertEqual(evaluation.validation_epsilon, 8 / 255)


if __name__ == "__main__":
    absltest.main()
