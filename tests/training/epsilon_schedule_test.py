"""The share of epsilon: its formula, and what each method does with it."""

import pathlib
import tempfile
from unittest import mock

import keras
import numpy as np
import pytest
import tensorflow as tf
from absl.testing import absltest, parameterized

from fastbat_tf import EpsilonSchedule, methods
from fastbat_tf.errors import InputError
from fastbat_tf.methods import liet
from fastbat_tf.methods.state import Plan
from tests.support import method_steps, testing

# The epsilon above which LIET computes its radius differently.
CASES = (
    *((name, {}) for name in methods.METHODS if name != "standard"),
    ("fastbat", {"linearization": "remembered"}),
    ("liet", {"epsilon": 30 / 255}),
    ("liet", {"epsilon": 12 / 255}),
    ("free", {"start": "zero"}),
    ("aaer", {"base_attack": "fastat"}),
)
PLAN = Plan(10, 2, 4, examples=8)


def with_schedule(robust, schedule, **compiled):
    compiled = compiled or {"run_eagerly": True}
    return robust.compile(
        keras.optimizers.SGD(0.05),
        plan=PLAN,
        epsilon_schedule=schedule,
        **compiled,
    )


class ShareTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(
        (0, 0, [1, 1, 1]),
        (2, 0, [0, 0, 1, 1]),
        (0, 4, [0.25, 0.5, 0.75, 1, 1]),
        (2, 4, [0, 0, 0.25, 0.5, 0.75, 1, 1]),
        (1, 1, [0, 1, 1]),
    )
    def test_line(self, clean_steps, ramp_steps, expected):
        schedule = EpsilonSchedule(clean_steps, ramp_steps)
        shares = [schedule.share(step) for step in range(len(expected))]
        self.assertAllClose(shares, expected)
        schedule.lower(0.5)
        schedule.lower(0.5)
        shares = [schedule.share(step) for step in range(len(expected))]
        self.assertAllClose(shares, np.divide(expected, 4))


class MethodsTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(*CASES)
    def test_half(self, name, options):
        """A step at half the radius is that of a method with this radius."""
        whole = methods.get(name, **options)
        # Defaults that depend on epsilon stay those of the full radius.
        halves = {
            key: value / 2 if key in whole.radii else value
            for key, value in whole.get_config().items()
        }
        outcomes = []
        for given, schedule, boundary in (
            # LIET treats radii above 8 / 255 differently, by the full epsilon.
            (halves, None, 4 / 255),
            (whole.get_config(), EpsilonSchedule(ramp_steps=8), 8 / 255),
        ):
            self.enterContext(
                mock.patch.object(liet, "LARGEST_PROJECTED_EPSILON", boundary)
            )
            robust = method_steps.build(name, **given)
            with_schedule(robust, schedule)
            entries = robust.method_state.entries
            if schedule is not None and "uap" in entries:
                # The initial values are those of the full radius.
                entries["uap"].assign(entries["uap"] / 2)
            if name == "free":  # It starts at 0.
                kept = entries["perturbation"]
                kept.assign(0.02 * tf.ones_like(kept.value))
            _, outcome = method_steps.compute(robust, [1, 0, 5, 3], step=3)
            outcomes.append(outcome)
        expected, found = outcomes
        self.assertAllClose(
            found.solution.perturbation,
            expected.solution.perturbation,
            rtol=0,
            atol=1e-6,
        )
        self.assertGreater(np.abs(found.solution.perturbation).max(), 1 / 255)
        self.assertAllClose(found.loss, expected.loss, 1e-5)
        for one, two in zip(found.gradients, expected.gradients, strict=True):
            self.assertAllClose(one, two, rtol=1e-3, atol=1e-5)

    @parameterized.parameters(*CASES)
    def test_nothing(self, name, options):
        """Clean steps change no pixel, whatever state the method has."""
        robust = method_steps.build(name, **options)
        method_steps.train(robust, [1, 0, 5, 3])
        with_schedule(robust, EpsilonSchedule(clean_steps=100))
        for entry in robust.method_state.entries.values():
            if entry.dtype == "float32":
                entry.assign(tf.ones_like(entry.value) * 0.02)
        _, outcome = method_steps.compute(robust, [1, 0, 5, 3])
        self.assertAllEqual(
            outcome.solution.perturbation,
            np.zeros_like(outcome.solution.perturbation),
        )
        for tensor in (outcome.loss, *outcome.gradients):
            self.assertAllInRange(tensor, -1e3, 1e3)

    @parameterized.parameters("fgsm_pgi", "fgsm_pco", "fgsm_uap", "free")
    def test_what_is_remembered(self, name):
        """It is that of the share of the step, too."""
        robust = method_steps.build(name)
        with_schedule(robust, EpsilonSchedule(ramp_steps=8))
        if "uap" in robust.method_state.entries:
            # Its initial values are those of the full radius.
            uap = robust.method_state.entries["uap"]
            uap.assign(tf.zeros_like(uap.value))
        method_steps.train(robust, [1, 0, 5, 3])
        updates = int(robust.step)
        radius = getattr(robust.method, "uap_epsilon", robust.method.epsilon)
        kept = next(
            robust.method_state.entries[key].numpy()
            for key in ("uap", "delta", "perturbation")
            if key in robust.method_state.entries
        )
        self.assertAllClose(np.abs(kept).max(), updates / 8 * radius, rtol=1e-5)

    def test_clean_steps_are_those_of_standard_training(self):
        weights = []
        for name in ("standard", "fastat", "fastbat"):
            robust = method_steps.build(name)
            if name != "standard":
                with_schedule(robust, EpsilonSchedule(clean_steps=2))
            for seed in range(2):
                method_steps.train(robust, [0, 1, 2, 3], seed)
            weights.append([v.numpy() for v in robust.trainable_variables])
        for one, *others in zip(*weights, strict=True):
            for other in others:
                self.assertAllClose(one, other, rtol=1e-4, atol=1e-5)

    @parameterized.parameters("fgsm_uap", "liet", "gradalign", "free")
    # One with two attacks in a step, and one that replays.
    @pytest.mark.quick("liet", "free")
    def test_modes(self, name):
        """Eager mode, graphs, XLA and two replicas make the same steps."""
        weights = {}
        modes = {
            "eager": {"run_eagerly": True},
            "graph": {"jit_compile": False},
            "xla": {"jit_compile": True},
        }
        # The other methods draw different numbers on each replica.
        if name == "fgsm_uap":
            modes["replicas"] = {"jit_compile": False}
        for mode, compiled in modes.items():
            strategy = tf.distribute.get_strategy()
            if mode == "replicas":
                strategy = testing.two_cpu_strategy()
            with strategy.scope():
                network = testing.small_network(normalization=None)
                options = {}
                if name == "free":
                    options = {"start": "zero", "replays": 1}
                robust = method_steps.build(name, network=network, **options)
                with_schedule(robust, EpsilonSchedule(1, 4), **compiled)
                robust.epsilon_schedule.lower(0.9)
            for seed in range(3):
                _, logs = method_steps.train(robust, [0, 1, 2, 3], seed)
            self.assertAlmostEqual(logs["robust_epsilon_share"], 0.45)
            weights[mode] = [v.numpy() for v in robust.trainable_variables]
        for other in weights.values():
            for one, two in zip(weights["eager"], other, strict=True):
                self.assertAllClose(one, two, rtol=1e-4, atol=1e-5)


class SavingTest(tf.test.TestCase):
    def test_save_and_load(self):
        robust = method_steps.build("fastat")
        with_schedule(robust, EpsilonSchedule(2, 3))
        robust.epsilon_schedule.lower(0.3)
        method_steps.train(robust, [0, 1, 2, 3])
        directory = self.enterContext(tempfile.TemporaryDirectory())
        path = pathlib.Path(directory, "robust.keras")
        robust.save(path)
        again = keras.models.load_model(path)
        for step in range(6):
            self.assertAllClose(
                again.epsilon_schedule.share(step),
                robust.epsilon_schedule.share(step),
            )
        self.assertAllClose(again.epsilon_schedule.share(9), 0.3)

    def test_negative(self):
        with self.assertRaisesRegex(
            InputError, "Received: clean_steps=2, ramp_steps=-1$"
        ):
            EpsilonSchedule(2, -1)

    def test_evaluate_has_no_share(self):
        robust = method_steps.build("fastat")
        with_schedule(robust, EpsilonSchedule(2, 3))
        results = robust.evaluate(
            *testing.images_and_labels(4), verbose=0, return_dict=True
        )
        self.assertNotIn("robust_epsilon_share", results)


if __name__ == "__main__":
    absltest.main()
