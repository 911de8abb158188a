"""Tests interrupted evaluations, and the directory of an evaluation."""

import json
import os
import pathlib
import tempfile
from unittest import mock

import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from fastbat_tf import files
from fastbat_tf.errors import InputError
from fastbat_tf.evaluation import state
from fastbat_tf.evaluation.robustness import evaluate_robustness
from tests.evaluation.robustness_test import without_seconds
from tests.support.testing import small_network
from tests.support.toy_evaluation import (
    as_floats,
    masked,
    toy_data,
    toy_network,
    watched,
)

ATTACKS = ("pgd-3-4", "apgd-ce-4+square-30")
EPSILONS = (0.01, 0.03)
# Several batches, so that an attack can be interrupted between two.
BATCH_SIZE = 5


class Killed(Exception):
    """Stands for the end of a process."""


class Counter:
    """Counts the calls of a network, and fails at one of them."""

    def __init__(self, last=None):
        self.count = 0
        self.last = last

    def __call__(self):
        self.count += 1
        if self.count == self.last:
            raise Killed


class ContinueTest(parameterized.TestCase, tf.test.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.data = toy_data(24)
        counter = Counter()
        cls.whole = pathlib.Path(cls.create_tempdir_path(), "whole")
        cls.results = cls.evaluate(counter, cls.whole)
        cls.questions = counter.count

    @classmethod
    def create_tempdir_path(cls):
        directory = tempfile.TemporaryDirectory()
        cls.addClassCleanup(directory.cleanup)
        return directory.name

    def setUp(self):
        super().setUp()
        # Write at every opportunity.
        self.enterContext(
            mock.patch.object(state, "SECONDS_BETWEEN_WRITES", -1e9)
        )
        directory = self.enterContext(tempfile.TemporaryDirectory())
        self.directory = pathlib.Path(directory, "results")

    @classmethod
    def evaluate(cls, counter, directory, **kwargs):
        arguments = {
            "attacks": ATTACKS,
            "epsilons": EPSILONS,
            "batch_size": BATCH_SIZE,
            "jit_compile": False,
            **kwargs,
        }
        return evaluate_robustness(
            watched(toy_network(), counter),
            cls.data,
            directory=directory,
            **arguments,
        )

    def outcomes(self, directory):
        with np.load(directory / "outcomes.npz") as file:
            return {name: file[name] for name in file.files}

    def assert_as_whole(self, results, directory):
        self.assertEqual(
            without_seconds(results), without_seconds(self.results)
        )
        expected = self.outcomes(self.whole)
        found = self.outcomes(directory)
        self.assertEqual(set(found), set(expected))
        # The neighbors of a slot may change the last bit.
        name = "adversarial_confidence"
        self.assertAllClose(found.pop(name), expected.pop(name), rtol=1e-6)
        for name, array in expected.items():
            self.assertAllEqual(found[name], array)

    def kill(self, share, **kwargs):
        """Interrupts an evaluation after a share of its calls."""
        counter = Counter(last=int(share * self.questions))
        # Near the end, the gallery is classified, which is refused in one line.
        errors = tf.errors.OpError, InputError
        with self.assertRaisesRegex(errors, "Killed"):
            self.evaluate(counter, self.directory, **kwargs)

    @parameterized.parameters(0.1, 0.3, 0.5, 0.7, 0.95)
    def test_killed(self, share):
        self.kill(share)
        self.assertFalse((self.directory / "results.json").exists())
        counter = Counter()
        results = self.evaluate(counter, self.directory)
        self.assert_as_whole(results, self.directory)
        # Nothing is repeated but what ran at the end, the calls before the
        # first attack, and the twelve of a gallery, which starts again: with
        # them, 35 were counted beyond the share that was left.
        self.assertLess(counter.count, (1 - share) * self.questions + 42)

    def test_killed_twice_and_with_another_batch_size(self):
        self.kill(0.4)
        self.kill(0.3, batch_size=4)
        results = self.evaluate(Counter(), self.directory, batch_size=11)
        self.assert_as_whole(results, self.directory)

    def test_the_examples_of_an_attack_that_are_decided(self):
        """Nothing is repeated within an attack either."""
        self.kill(0.3, attacks=["pgd-3-40"], epsilons=[0.005])
        (path,) = (self.directory / "state").glob("pgd*")
        with np.load(path) as file:
            rounds = file["rounds"]
        self.assertGreater(rounds.max(), 0)
        self.assertLess(rounds.min(), 40)

    def test_ended(self):
        """The same call again returns the results without an attack."""
        before = {
            path: (path.read_bytes(), path.stat().st_mtime_ns)
            for path in (self.whole / "state").iterdir()
        }
        self.assertLen(before, 7)
        counter = Counter()
        results = self.evaluate(counter, self.whole)
        # Only the clean images and the checks.
        self.assertLess(counter.count, 12)
        self.assertEqual(results, self.results)
        written = json.loads((self.whole / "results.json").read_text())
        self.assertEqual(written, self.results)
        for path, (content, time) in before.items():
            self.assertEqual(path.read_bytes(), content)
            self.assertEqual(path.stat().st_mtime_ns, time)

    def test_images_of_an_interrupted_evaluation(self):
        whole = self.directory.with_name("images")
        self.evaluate(Counter(), whole, save_images=True)
        self.kill(0.5, save_images=True)
        self.evaluate(Counter(), self.directory, save_images=True)
        paths = sorted(whole.glob("adversarial_*.npz"))
        self.assertLen(paths, 4)
        for path in paths:
            with (
                np.load(path) as expected,
                np.load(self.directory / path.name) as found,
            ):
                # The neighbors of a slot may change the last bit.
                self.assertAllClose(
                    found["images"], expected["images"], atol=1e-5
                )

    def test_another_model_that_has_no_weights(self):
        """A callable is identified by its logits of the clean images."""
        self.kill(0.5)
        other = toy_network()
        with self.assertRaisesRegex(InputError, "other=model$"):
            evaluate_robustness(
                lambda images: other(images)[:, ::-1],
                self.data,
                ATTACKS,
                EPSILONS,
                batch_size=BATCH_SIZE,
                directory=self.directory,
            )

    def test_a_model_that_draws_goes_on_from_its_first_answers(self):
        network = toy_network()
        # Each evaluation starts its random operations from a different state.
        generator = tf.random.Generator.from_seed(0)

        def noisy(images):
            logits = network(images)
            return logits + generator.normal(tf.shape(logits))

        first, second = (
            evaluate_robustness(
                noisy, self.data, ["fgsm"], [0.01], directory=self.directory
            )
            for _ in range(2)
        )
        self.assertIn("not deterministic", " ".join(first["warnings"]))
        self.assertEqual(first["attacks"], second["attacks"])
        self.assertEqual(first["clean_accuracy"], second["clean_accuracy"])

    def test_nothing_is_left_of_the_writing(self):
        names = {path.name for path in self.whole.rglob("*")}
        self.assertFalse([name for name in names if "partial" in name])

    @parameterized.parameters(
        (b"",),
        (b"no file of numpy",),
        (b"PK\x03\x04 and then nothing",),
        (None,),
    )
    def test_damaged(self, content):
        self.kill(0.5)
        path = sorted((self.directory / "state").iterdir())[0]
        if content is None:  # Half of the file.
            content = path.read_bytes()
            content = content[: len(content) // 2]
        path.write_bytes(content)
        self.check_refused_for(path)

    def test_a_flipped_byte(self):
        self.kill(0.5)
        path = sorted((self.directory / "state").iterdir())[0]
        content = bytearray(path.read_bytes())
        for position in range(40, len(content) - 300, 7):
            content[position] ^= 0xFF
        path.write_bytes(content)
        self.check_refused_for(path)

    def test_arrays_of_another_evaluation(self):
        self.kill(0.5)
        path = sorted((self.directory / "state").iterdir())[0]
        with np.load(path) as file:
            content = {name: file[name][..., :3] for name in FIELDS}
        state.write_npz(path, seconds=1.0, **content)
        self.check_refused_for(path)

    def check_refused_for(self, path):
        with self.assertRaises(InputError) as caught:
            self.evaluate(Counter(), self.directory)
        self.assertEqual(
            str(caught.exception),
            "The state of the evaluation cannot be read; delete the file to "
            "restart its attack. "
            f"Received: path={path}",
        )


FIELDS = ("robust", "rounds", "loss")


class DirectoryTest(parameterized.TestCase, tf.test.TestCase):
    def setUp(self):
        super().setUp()
        directory = self.enterContext(tempfile.TemporaryDirectory())
        self.directory = pathlib.Path(directory, "results")
        self.data = toy_data(10)

    def evaluate(self, model=None, data=None, **kwargs):
        arguments = {"attacks": ["fgsm"], "epsilons": [0.02], **kwargs}
        return evaluate_robustness(
            model or toy_network(),
            data or self.data,
            **{"directory": self.directory, **arguments},
        )

    def assert_refused(self, others, **kwargs):
        before = {
            path: path.read_bytes()
            for path in self.directory.rglob("*")
            if path.is_file()
        }
        with self.assertRaises(InputError) as caught:
            self.evaluate(**kwargs)
        self.assertEqual(
            str(caught.exception),
            "The directory holds another evaluation; expected the same "
            "settings, or a new directory. Received: "
            f"results_dir={self.directory}, other={others}",
        )
        for path, content in before.items():
            self.assertEqual(path.read_bytes(), content)

    @parameterized.parameters(
        ("attacks", {"attacks": ["fgsm", "pgd-1-1"]}),
        ("epsilons", {"epsilons": [0.03]}),
        ("norm", {"norm": "l2"}),
        ("seed", {"seed": 1}),
        ("save_images", {"save_images": True}),
        ("data, max_examples", {"max_examples": 5}),
        ("data", {"data": toy_data(10, seed=1)}),
        ("epsilons, seed", {"epsilons": [0.03], "seed": 1}),
    )
    def test_another_evaluation(self, others, kwargs):
        self.evaluate()
        self.assert_refused(others, **kwargs)

    def test_other_labels(self):
        self.evaluate()
        images, labels = self.data
        labels = np.where(np.arange(10) == 4, (labels + 1) % 4, labels)
        self.assert_refused("data", data=(images, labels))

    def test_what_changes_no_outcome(self):
        first = self.evaluate()
        images, labels = self.data
        again = self.evaluate(
            data=(as_floats(images), labels), batch_size=3, jit_compile=False
        )
        self.assertEqual(first["attacks"], again["attacks"])

    def test_other_weights(self):
        data = self.data[0].repeat(2, 1).repeat(2, 2), self.data[1]
        self.evaluate(small_network(seed=0), data)
        self.evaluate(small_network(seed=0), data)
        self.assert_refused("model", model=small_network(seed=1), data=data)

    def test_weights_of_a_file_and_of_a_surrogate(self):
        data = self.data[0].repeat(2, 1).repeat(2, 2), self.data[1]
        path = f"{self.get_temp_dir()}/model.keras"
        kwargs = {"model": path, "attacks": ["transfer-fgsm"], "data": data}
        small_network(seed=0, normalization=None).save(path)
        surrogate = small_network(seed=1)
        self.evaluate(surrogate=surrogate, **kwargs)
        self.assert_refused(
            "surrogate", surrogate=small_network(seed=2), **kwargs
        )
        small_network(seed=3, normalization=None).save(path)
        self.assert_refused("model", surrogate=surrogate, **kwargs)

    def test_one_process_at_a_time(self):
        self.directory.mkdir()
        other = files.lock(self.directory / ".lock", 0)
        with self.assertRaises(InputError) as caught:
            self.evaluate()
        self.assertEqual(
            str(caught.exception),
            "Another process is running this evaluation; wait for it, or "
            f"choose a new directory. Received: results_dir={self.directory}",
        )
        other.release()
        self.evaluate()
        # The lock is released even after an error.
        with self.assertRaises(InputError):
            self.evaluate(seed=1)
        with mock.patch.object(
            state, "write_json", side_effect=KeyboardInterrupt
        ):
            with self.assertRaises(KeyboardInterrupt):
                self.evaluate()
        self.evaluate()
        self.assertFalse((self.directory / ".lock").exists())

    def test_no_room_at_the_end(self):
        error = OSError(28, "No space left on device")
        for name in ("write_json", "write_npz"):
            with mock.patch.object(state, name, side_effect=error):
                with self.assertRaisesRegex(InputError, "No space left"):
                    self.evaluate()

    def test_a_file_in_the_way(self):
        self.directory.write_text("")
        for directory in (self.directory, self.directory / "below"):
            with self.assertRaisesRegex(
                InputError,
                "^The directory of the results is not writable; check free "
                "space and permissions\\. "
                rf"Received: results_dir={directory} \(",
            ):
                self.evaluate(directory=directory)

    def test_settings_that_cannot_be_read(self):
        for content in ("", "{", "[]", "3"):
            self.directory.mkdir(exist_ok=True)
            (self.directory / "settings.json").write_text(content)
            with self.assertRaisesRegex(
                InputError, rf"Received: results_dir={self.directory}\b"
            ):
                self.evaluate()

    def test_no_directory(self):
        before = os.listdir()
        self.evaluate(model=masked(toy_network()), directory=None)
        self.assertEqual(os.listdir(), before)


if __name__ == "__main__":
    tf.test.main()
