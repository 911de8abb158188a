"""The contract of the methods: what each class declares, counted and run.

That a method computes the same in all modes does not show that it is right.
These tests compare methods with numbers that others computed:

* `reference_test.py`: two updates of a linear model, as in the paper, against
  NumPy;
* `golden_methods_test.py`: two steps of the FastAT Benchmark's program, on a
  network with BatchNormalization;
* `golden_steps_test.py`: `fastbat`, `fastat`, `pgd` and `gradalign`, two steps
  of the published program, in all three modes;
* `formulas_test.py`: `trades`, its steps on a network with BatchNormalization,
  against NumPy.
"""

import functools
import pathlib
import re
from unittest import mock

import keras
import numpy as np
import pytest
import tensorflow as tf
from absl.testing import parameterized

from fastbat_tf import Plan, RobustClassifier, methods
from fastbat_tf.draws import Draws
from tests.support import testing

# What each class declares; it is counted here on a network.
PASSES = {name: spec.passes for name, spec in methods.METHODS.items()}
# Test names first: `pytest -k fastbat` runs those of one method.
DEFAULTS = tuple((name, name, {}, passes) for name, passes in PASSES.items())
VARIANTS = tuple(
    (f"{name}_{key}", name, variant.options, variant.passes or spec.passes)
    for name, spec in methods.METHODS.items()
    for key, variant in spec.variants.items()
)
CASES = (*DEFAULTS, *VARIANTS)
EPSILON = 8 / 255
BATCH = 6
# Two batches an epoch, so that the third begins another.
PLAN = Plan(epochs=4, steps_per_epoch=2, batch_size=BATCH, examples=9)
INDEX = ((5, 2, 7, 1, 0, 8), (3, 2, 6, 1, 4, 8), (0, 1, 2, 3, 4, 5))


class Counting(RobustClassifier):
    """Counts how often its step is traced, or runs eagerly."""

    traces = 0

    def compute_gradients(self, *args, **kwargs):
        self.traces += 1
        return super().compute_gradients(*args, **kwargs)


def build(name, options, **compiled):
    robust = Counting(testing.small_network(), methods.get(name, **options))
    robust.compile(keras.optimizers.SGD(0.1), plan=PLAN, **compiled)
    return robust


def train(robust, batches=3):
    """Trains, and returns the logs of each batch."""
    logs = []
    for number in range(batches):
        images, labels = testing.images_and_labels(BATCH, seed=number)
        data = {"images": images, "index": np.array(INDEX[number], "int32")}
        logs.append(robust.train_on_batch(data, labels, return_dict=True))
    return logs


def values_of(robust):
    return [v.numpy() for v in robust.weights]


@functools.cache
def _train_eagerly(name, options):
    robust = build(name, dict(options), run_eagerly=True)
    train(robust)
    return robust, values_of(robust)


def train_eagerly(name, options):
    """A model after three eager batches: trained once, restored each time."""
    robust, values = _train_eagerly(name, tuple(options.items()))
    for variable, value in zip(robust.weights, values, strict=True):
        variable.assign(value)
    return robust


class ContractTest(tf.test.TestCase, parameterized.TestCase):
    def test_forward_passes_are_those_of_the_docs(self):
        path = pathlib.Path(__file__).parents[2] / "docs/methods.md"
        rows = re.findall(r"(?m)^\| `(\w+)` \| (\d+) \| \d", path.read_text())
        self.assertEqual(
            {name: int(forwards) for name, forwards in rows},
            {name: passes.forwards for name, passes in PASSES.items()},
        )

    @parameterized.named_parameters(*CASES)
    # A variant computes other numbers by the same operations.
    @pytest.mark.quick(*PASSES)
    def test_training(self, name, options, passes):
        self.check_training(name, options)

    def check_training(self, name, options):
        """Eagerly and as a graph: the same, finite, traced once."""
        robust = build(name, options, jit_compile=False)
        before = [v.numpy() for v in robust.trainable_variables]
        begin = values_of(robust)
        for log in train(robust):
            self.assertAllInRange(list(log.values()), -1e3, 1e3)
            reports = "gradient_norm", *robust.method.reports
            reports = set(reports) - set(robust.method.unused_reports)
            self.assertContainsSubset([f"robust_{r}" for r in reports], log)
        for old, variable in zip(
            before, robust.trainable_variables, strict=True
        ):
            self.assertNotAllClose(old, variable, atol=1e-7, rtol=0)

        # TensorFlow keeps them out of a GPU, where the compiled step is.
        self.assertNotIn("int32", {v.dtype for v in robust.variables})
        self.assertEqual(robust.traces, 1)
        graph = values_of(robust)
        eager = values_of(train_eagerly(name, options))
        for ours, theirs in zip(graph, eager, strict=True):
            self.assertAllClose(ours, theirs, 1e-4, 1e-5)
        # The same again, from the same values: all of them are weights.
        for variable, value in zip(robust.weights, begin, strict=True):
            variable.assign(value)
        train(robust)
        self.assertEqual(robust.traces, 1)
        for ours, theirs in zip(graph, values_of(robust), strict=True):
            self.assertAllEqual(ours, theirs)

    @parameterized.named_parameters(*CASES)
    # Both methods that differentiate twice, replays, a loop of steps, rows of
    # examples, and memory of a batch.
    @pytest.mark.quick(
        "fastbat", "gradalign", "free", "trades", "fgsm_mep_cs", "fgsm_pco"
    )
    def test_training_by_xla(self, name, options, passes):
        """As eagerly, compiled once."""
        robust = build(name, options, jit_compile=True)
        train(robust)
        self.assertEqual(robust.traces, 1)
        eager = values_of(train_eagerly(name, options))
        for ours, theirs in zip(values_of(robust), eager, strict=True):
            self.assertAllClose(ours, theirs, 1e-4, 1e-5)

    @parameterized.named_parameters(*CASES)
    def test_perturbation(self, name, options, passes):
        robust = train_eagerly(name, options)
        radius = passes.reach * EPSILON
        images, labels = testing.images_and_labels(BATCH)
        index = tf.constant(INDEX[0])
        begin = values_of(robust)

        def compute(step):
            # The moving statistics too, which some attacks look at.
            for variable, value in zip(robust.weights, begin, strict=True):
                variable.assign(value)
            return robust.compute_gradients(
                tf.constant(images),
                labels,
                Draws(0, step),
                index=index,
                step=step,
            )

        first, again, other = compute(7), compute(7), compute(9)
        delta = first.solution.perturbation.numpy()
        self.assertLessEqual(np.abs(delta).max(), radius + 1e-6)
        if passes.in_range:
            self.assertAllInRange(images + delta, -1e-6, 1 + 1e-6)
        if radius:
            self.assertGreater(np.abs(delta).max(), 0.6 * radius)
        for tensor in (*first.gradients, first.loss):
            self.assertAllInRange(tensor, -1e3, 1e3)
        self.assertAllEqual(delta, again.solution.perturbation)
        starts_at_random = ("fastat", "pgd", "nfgsm", "zerograd", "elle")
        if name in starts_at_random:
            self.assertNotAllEqual(delta, other.solution.perturbation)

    @parameterized.named_parameters(*CASES)
    def test_forward_passes(self, name, options, passes):
        """All updates on a batch, by the first layer.

        The features of the network share this layer.
        """
        robust = train_eagerly(name, options)
        layer = robust.classifier.get_layer("conv")
        counted, call = [], layer.call

        def counting(images, *args, **kwargs):
            counted.append(images.shape[0] / BATCH)
            return call(images, *args, **kwargs)

        with mock.patch.object(layer, "call", counting):
            train(robust, 1)
        self.assertEqual(sum(counted), passes.forwards)

    @parameterized.named_parameters(*zip(PASSES, PASSES, strict=True))
    def test_save_and_load(self, name):
        self.check_save_and_load(name, {})

    def test_save_and_load_remembered_examples(self):
        self.check_save_and_load("fastbat", {"linearization": "remembered"})

    def test_save_and_load_in_l2(self):
        options = {"linearization": "remembered", "norm": "l2"}
        self.check_save_and_load("fastbat", options)

    @parameterized.parameters("fastbat", "fastat")
    def test_training_in_l2(self, name):
        self.check_training(name, {"norm": "l2"})

    @parameterized.parameters("pgd", "trades")
    @pytest.mark.slow
    def test_training_in_l2_with_more_steps(self, name):
        self.check_training(name, {"norm": "l2"})

    def check_save_and_load(self, name, options):
        robust = build(name, options, run_eagerly=True)
        path = f"{self.get_temp_dir()}/{name}.keras"
        train(robust, 2)
        robust.save(path)
        loaded = keras.models.load_model(path, {"Counting": Counting})
        self.assertEqual(loaded.plan, PLAN)
        for ours, theirs in zip(
            values_of(robust), values_of(loaded), strict=True
        ):
            self.assertAllEqual(ours, theirs)
        # It goes on as the other does.
        for model in (robust, loaded):
            train(model, 1)
        for ours, theirs in zip(
            values_of(robust), values_of(loaded), strict=True
        ):
            self.assertAllClose(ours, theirs, 1e-5, 1e-6)

        path = f"{self.get_temp_dir()}/{name}.weights.h5"
        robust.save_weights(path)
        # The best weights of a run are read without its plan.
        plain = RobustClassifier(testing.small_network(), robust.method)
        plain.load_weights(path)
        images, _ = testing.images_and_labels(2)
        self.assertAllClose(plain(images), robust(images))


if __name__ == "__main__":
    tf.test.main()
