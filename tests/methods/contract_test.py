"""The contract of the methods: one table of all of them.

That a method computes the same in all modes does not say that it is right. What
holds each of them to somebody else's numbers, here or recorded:

* `method_reference_test.py`: all of them, as the papers have them, two updates
  of a linear model against NumPy;
* `golden_methods_test.py`: all but `standard`, `trades` and `fastbat`, two
  steps of another program, on a network with BatchNormalization;
* `golden_steps_test.py`: `fastbat`, `fastat`, `pgd` and `gradalign`, two steps
  of the published program, there also in all three modes;
* `method_formulas_test.py`: `trades`, its steps on a network with
  BatchNormalization, against NumPy.
"""

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

# One row per method: how far its perturbations reach, in units of epsilon, and
# the forward passes of an update, in units of the batch, whichever part of the
# network they end at. `docs/methods.md` declares them.
ROWS = {
    "standard": (0, 1),
    "fastat": (1, 2),
    "pgd": (1, 3),
    "gradalign": (1, 3),
    "fastbat": (1, 3),
    "fgsm": (1, 2),
    "nfgsm": (3, 2),
    "zerograd": (1, 2),
    "free": (1, 1),
    "trades": (1, 13),
    "gat": (1, 4),
    "nuat": (1, 4),
    "elle": (2.25, 5),
    "aaer": (3, 2),
    "fgsm_pgi": (1, 2),
    "liet": (1, 2),
    "ssat": (1, 4),
    "fgsm_rs_cs": (2, 3),
    "fgsm_mep_cs": (1, 3),
    "fgsm_uap": (1, 2),
    "fgsm_cuap": (1, 2),
    "fgsm_fuap": (1, 3),
    "fgsm_pco": (1.5, 3),
}
# Options that change the step, beside the defaults of all.
VARIANTS = (
    ("fastbat", {"linearization": "remembered"}, (1, 2)),
    ("fastbat", {"implicit_gradient": "finite_difference"}, (1, 4)),
    ("free", {"start": "zero", "replays": 2}, (1, 1)),
    ("gat", {"form": "benchmark"}, (1, 4)),
    ("aaer", {"base_attack": "fastat", "form": "benchmark"}, (1, 2)),
    ("elle", {"coefficient_schedule": "adaptive"}, (2.25, 5)),
    ("fgsm_cuap", {"form": "benchmark"}, (1, 2)),
)
CASES = (*((name, {}, row) for name, row in ROWS.items()), *VARIANTS)
# Mixtures of images may leave the range of the pixels.
LEAVES_PIXELS = ("fgsm_pco",)
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


class ContractTest(tf.test.TestCase, parameterized.TestCase):
    def test_every_method_has_its_row(self):
        self.assertSameElements(ROWS, methods.METHODS)

    def test_forward_passes_are_those_of_the_docs(self):
        path = pathlib.Path(__file__).parents[2] / "docs/methods.md"
        rows = re.findall(r"(?m)^\| `(\w+)` \| (\d+) \| \d", path.read_text())
        declared = {name: int(forwards) for name, forwards in rows}
        declared["free"] /= methods.options.REPLAYS  # Of all its updates.
        self.assertEqual(
            declared, {name: forwards for name, (_, forwards) in ROWS.items()}
        )

    @parameterized.parameters(*CASES[: len(ROWS)])
    def test_training(self, name, options, row):
        self.check_training(name, options)

    @parameterized.parameters(*VARIANTS)
    @pytest.mark.slow
    def test_training_of_variants(self, name, options, row):
        self.check_training(name, options)

    def check_training(self, name, options):
        """Eagerly, as a graph and by XLA: the same, finite, traced once."""
        runs = {
            "graph": build(name, options, jit_compile=False),
            "eager": build(name, options, run_eagerly=True),
            "xla": build(name, options, jit_compile=True),
        }
        before = [v.numpy() for v in runs["graph"].trainable_variables]
        begin = values_of(runs["graph"])
        logs = {mode: train(robust) for mode, robust in runs.items()}
        for log in logs["graph"]:
            self.assertAllInRange(list(log.values()), -1e3, 1e3)
            self.assertContainsSubset(
                ("gradient_norm", *runs["graph"].method.reports), log
            )
        for old, variable in zip(
            before, runs["graph"].trainable_variables, strict=True
        ):
            self.assertNotAllClose(old, variable, atol=1e-7, rtol=0)

        for mode in ("graph", "xla"):
            self.assertEqual(runs[mode].traces, 1)
        # TensorFlow keeps them out of a GPU, where the compiled step is.
        self.assertNotIn("int32", {v.dtype for v in runs["xla"].variables})
        graph = values_of(runs["graph"])
        for mode in ("eager", "xla"):
            for ours, theirs in zip(graph, values_of(runs[mode]), strict=True):
                self.assertAllClose(ours, theirs, 1e-4, 1e-5, mode)
        # The same again, from the same values: all of them are weights.
        for variable, value in zip(runs["graph"].weights, begin, strict=True):
            variable.assign(value)
        train(runs["graph"])
        self.assertEqual(runs["graph"].traces, 1)
        for ours, theirs in zip(graph, values_of(runs["graph"]), strict=True):
            self.assertAllEqual(ours, theirs)

    @parameterized.parameters(*CASES)
    def test_perturbation(self, name, options, row):
        robust = build(name, options, run_eagerly=True)
        train(robust)
        radius = row[0] * EPSILON
        images, labels = testing.images_and_labels(BATCH)
        index = tf.constant(INDEX[0])

        def compute(step):
            return robust.compute_gradients(
                tf.constant(images),
                labels,
                Draws(0, step),
                index=index,
                step=step,
            )

        # By the first layer, which the features of the network share.
        layer = robust.classifier.get_layer("conv")
        counted, call = [], layer.call

        def counting(images, *args, **kwargs):
            counted.append(images.shape[0] / BATCH)
            return call(images, *args, **kwargs)

        with mock.patch.object(layer, "call", counting):
            first = compute(7)
        self.assertEqual(sum(counted), row[1])
        again, other = compute(7), compute(9)
        delta = first.solution.perturbation.numpy()
        self.assertLessEqual(np.abs(delta).max(), radius + 1e-6)
        if name not in LEAVES_PIXELS:
            self.assertAllInRange(images + delta, -1e-6, 1 + 1e-6)
        if radius:
            self.assertGreater(np.abs(delta).max(), 0.6 * radius)
        for tensor in (*first.gradients, first.loss):
            self.assertAllInRange(tensor, -1e3, 1e3)
        # Moving statistics changed in between; few look at them.
        if name not in ("gat", "nuat", "trades", "ssat", "liet"):
            self.assertAllEqual(delta, again.solution.perturbation)
        starts_at_random = ("fastat", "pgd", "nfgsm", "zerograd", "elle")
        if name in starts_at_random:
            self.assertNotAllEqual(delta, other.solution.perturbation)

    @parameterized.parameters(
        *ROWS, ("fastbat", {"linearization": "remembered"})
    )
    def test_save_and_load(self, name, options=None):
        robust = build(name, options or {}, run_eagerly=True)
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
