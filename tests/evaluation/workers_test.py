"""Tests evaluations that several workers or devices share."""

import pathlib
import tempfile
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf
from absl.testing import parameterized

from fastbat_tf import attacks
from fastbat_tf.attacks import sharding
from fastbat_tf.errors import InputError
from fastbat_tf.evaluation import state
from fastbat_tf.evaluation.alignment import GradientAlignment
from fastbat_tf.evaluation.robustness import evaluate_robustness
from tests.evaluation.robustness_test import without_seconds
from tests.support import thread_workers
from tests.support.testing import (
    images_and_labels,
    small_network,
    two_cpu_strategy,
)
from tests.support.toy_evaluation import toy_data, toy_network, watched

ATTACKS = ("pgd-3-2", "square-20")
# Each kind of attack, in ensembles and alone.
ALL = ("pgd-3-4-margin", "apgd-ce-4+apgd-t-3+fab-t-4+square-30", "fab-t-3")


def evaluate(network, data, directory=None, **kwargs):
    arguments = {
        "attacks": ATTACKS,
        "epsilons": (0.01, 0.03),
        "batch_size": 4,
        "jit_compile": False,
        **kwargs,
    }
    return evaluate_robustness(network, data, directory=directory, **arguments)


def arrays(directory):
    """The arrays of each example, and of the gallery."""
    found = {}
    for kind in ("outcomes", "gallery"):
        with np.load(directory / f"{kind}.npz") as file:
            found |= {f"{kind} {name}": file[name] for name in file.files}
    return found


class WorkersTest(parameterized.TestCase, tf.test.TestCase):
    def setUp(self):
        super().setUp()
        directory = self.enterContext(tempfile.TemporaryDirectory())
        self.directory = pathlib.Path(directory)
        # Exchange at every opportunity.
        for name in ("SECONDS_BETWEEN_REPORTS", "SECONDS_BETWEEN_EXCHANGES"):
            self.enterContext(mock.patch.object(sharding, name, 0.01))

    def assert_same_files(self, found, expected):
        found, expected = arrays(found), arrays(expected)
        self.assertEqual(set(found), set(expected))
        for name, array in expected.items():
            if name.endswith(("_confidence", " adversarial")):
                # The neighbors of a slot may change the last bit.
                self.assertAllClose(found[name], array, rtol=1e-5, msg=name)
            else:
                self.assertAllEqual(found[name], array, name)

    @parameterized.named_parameters(
        ("uneven", 7, 2, ATTACKS, False),
        ("one_example", 1, 2, ATTACKS, False),
        ("all_attacks", 23, 3, ALL, False),
        ("compiled", 7, 2, ALL, True),
    )
    @pytest.mark.quick("uneven", "one_example")
    def test_results_are_those_of_one(self, examples, count, names, compiles):
        data = toy_data(examples)

        def measure(name):
            return evaluate(
                toy_network(),
                data,
                self.directory / name,
                attacks=names,
                jit_compile=compiles,
            )

        expected = measure("one")
        many = thread_workers.run(
            count, lambda worker: measure(str(worker.index))
        )
        self.assertEqual(many, [many[0]] * count)
        self.assertEqual(without_seconds(many[0]), without_seconds(expected))
        self.assert_same_files(self.directory / "0", self.directory / "one")
        for index in range(1, count):
            self.assertFalse((self.directory / str(index)).exists())

    def test_goes_on_from_the_files_of_the_chief(self):
        data = toy_data(16)
        one = {"attacks": "pgd-3-2", "epsilons": 0.02}
        expected = evaluate(toy_network(), data, self.directory / "one", **one)
        self.enterContext(
            mock.patch.object(state, "SECONDS_BETWEEN_WRITES", -1e9)
        )
        calls = []

        def fail():
            calls.append(None)
            if len(calls) == 12:
                raise ValueError("interrupted")

        networks = [toy_network(), watched(toy_network(), fail)]
        failed = thread_workers.run(
            2,
            lambda worker: evaluate(
                networks[worker.index], data, self.directory / "many", **one
            ),
        )
        self.assertIsInstance(failed[0], InputError)
        self.assertIn("interrupted", str(failed[1]))
        self.assertNotEmpty(list((self.directory / "many/state").iterdir()))
        results = thread_workers.run(
            2,
            lambda worker: evaluate(
                toy_network(),
                data,
                # The other worker has no such file system.
                (self.directory / "many", "/nowhere")[worker.index],
                **one,
            ),
        )
        self.assertEqual(results[0], results[1])
        self.assertEqual(without_seconds(results[0]), without_seconds(expected))
        self.assert_same_files(self.directory / "many", self.directory / "one")

    def test_saves_the_images_of_all(self):
        data = toy_data(9)
        for name in ("one", "many"):
            thread_workers.run(
                1 if name == "one" else 2,
                lambda worker, name=name: evaluate(
                    toy_network(),
                    data,
                    self.directory / name,
                    attacks="pgd-3-2",
                    save_images=True,
                ),
            )
        saved = sorted((self.directory / "one").glob("adversarial_*.npz"))
        self.assertLen(saved, 2)
        for path in saved:
            with np.load(path) as one:
                with np.load(self.directory / "many" / path.name) as many:
                    self.assertAllClose(many["images"], one["images"])
                    self.assertAllEqual(many["robust"], one["robust"])

    def test_what_the_chief_refuses_ends_all(self):
        (self.directory / "file").write_text("")
        found = thread_workers.run(
            2,
            lambda worker: evaluate(
                toy_network(), toy_data(4), self.directory / "file"
            ),
        )
        self.assertIsInstance(found[0], InputError)
        self.assertIn("not writable", str(found[0]))
        self.assertEqual(str(found[1]), str(found[0]))

    def test_other_data_are_refused(self):
        found = thread_workers.run(
            2,
            lambda worker: evaluate(
                toy_network(), toy_data(4, seed=worker.index)
            ),
        )
        for error in found:
            self.assertIsInstance(error, InputError)
            self.assertIn("data", str(error))

    @parameterized.parameters("linf", "l2")
    def test_alignment(self, norm):
        images, labels = toy_data(11)

        def measure(worker):
            score = GradientAlignment(curved, batch_size=4, norm=norm)
            return score(images, labels, 0.1, seed=3)

        def curved(images):
            return toy_network()(images) ** 2

        (expected,) = thread_workers.run(1, measure)
        self.assertBetween(expected, -0.99, 0.99)
        self.assertAllClose(thread_workers.run(2, measure), [expected] * 2)


class DevicesTest(tf.test.TestCase):
    """Two devices of one process, each with its copies of the variables."""

    def test_outcomes_are_those_of_one(self):
        images, labels = images_and_labels(7)
        with two_cpu_strategy().scope():
            model = small_network()
        one = small_network()
        one.set_weights(model.get_weights())
        labels = one.predict(images, verbose=0).argmax(-1)
        found, expected = (
            evaluate_robustness(
                network,
                (images, labels),
                ["pgd-3-2", "square-20"],
                0.05,
                batch_size=2,
                jit_compile=False,
            )
            for network in (model, one)
        )
        self.assertEqual(without_seconds(found), without_seconds(expected))
        self.assertBetween(found["attacks"][0]["robust_accuracy"], 0.1, 0.9)

    def test_each_device_reads_its_own_variables(self):
        images, _ = images_and_labels(5)
        with two_cpu_strategy().scope():
            model = small_network()
        labels = model.predict(images, verbose=0).argmax(-1)
        # The second copy always predicts a class that no image has.
        other = next(each for each in range(4) if each not in labels)
        bias = model.layers[-1].bias.value
        bias.values[1].assign(100 * tf.one_hot(other, 4))
        bound = attacks.get("pgd-2-1", lambda x: model(x, training=False))
        bound.over(sharding.Sharding(sharding.strategy_of(model)))
        found = bound(images, labels, 1e-6)
        self.assertAllEqual(found.robust, [True, False, True, False, True])

    def test_an_error_ends_all_devices(self):
        network = toy_network()

        def fail():
            raise ValueError("broken")

        bound = attacks.get("square-5", watched(network, fail))
        bound.over(sharding.Sharding(two_cpu_strategy()))
        images, labels = toy_data(4)
        clean = attacks.get("square-5", network).classify(images, labels)
        with self.assertRaisesRegex(tf.errors.OpError, "broken"):
            bound.attack_clean(clean, 0.1)


if __name__ == "__main__":
    tf.test.main()
