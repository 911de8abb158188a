"""Every file of a run after a kill, a power failure, or another process.

A tiny training is killed before each of its renamings, one after the other, and
resumed by the same call. After a kill nothing more reaches the disk: clean-up,
which a dead process could not do, fails, too.
"""

import contextlib
import fnmatch
import io
import pathlib
import re
import shutil
import tempfile
from unittest import mock

import keras
from absl.testing import absltest
from tensorboard.backend.event_processing import plugin_event_multiplexer

from fastbat_tf import files
from fastbat_tf.errors import InputError
from fastbat_tf.experiment import evaluate, export, train
from fastbat_tf.experiment.config import (
    Config,
    DataConfig,
    EvaluationConfig,
    MethodConfig,
    OverfittingConfig,
    Target,
    TrainingConfig,
)
from fastbat_tf.experiment.report import blocks, writing
from fastbat_tf.experiment.run_directory import RunDirectory
from tests.support import event_files
from tests.support.disk import Disk, Killed

TOP = pathlib.Path(__file__).absolute().parents[2]
CONFIG = Config(
    data=DataConfig("cifar10_mini", validation_share=0.9, training_examples=20),
    method=MethodConfig("fastat"),
    training=TrainingConfig(epochs=1, batch_size=20),
    overfitting=OverfittingConfig(on_overfitting="rollback"),
    evaluation=EvaluationConfig(
        attacks=("pgd-1-1",),
        epsilons=(4 / 255,),
        max_examples=10,
        validation_examples=40,
        validation_attack="pgd-1-1",
    ),
)
# In the order in which they first appear.
WRITTEN = [
    "config.json",
    "backup/000000",
    "checkpoints/good.npz",
    "checkpoints/best.weights.h5",
    "checkpoints/last.weights.h5",
    "history.csv",
    "timing.csv",
    "backup/000001",
    "evaluations/training/settings.json",
    "evaluations/training/state/clean.npz",
    "evaluations/training/state/pgd-1-1-0.015686275-0.npz",
    "evaluations/training/outcomes.npz",
    "evaluations/training/gallery.npz",
    "evaluations/training/results.json",
    "results.json",
    "saved_model.old",  # There is one already; see `measure_and_export`.
    "saved_model",
    "ended.json",
    "report_files/drawn.svg",
    "report.md",
    "report.html",
]


class Part:
    """A part of the report with one picture; the real ones take seconds."""

    QUESTION = "Why?"

    @staticmethod
    def blocks(records):
        del records
        return [blocks.Picture("drawn", b"<svg></svg>", "svg", "", "")]


def build_model(name, *, num_classes, input_shape, **_):
    inputs = keras.Input(input_shape)
    features = keras.layers.AveragePooling2D(8)(inputs)
    logits = keras.layers.Dense(num_classes)(keras.layers.Flatten()(features))
    return keras.Model(inputs, logits, name="tiny")


def tensorboard_runs(directory):
    multiplexer = plugin_event_multiplexer.EventMultiplexer()
    multiplexer.AddRunsFromDirectory(str(directory))
    return multiplexer


def documented():
    """The patterns in the first column of the documented table of files."""
    text = (TOP / "docs" / "resume.md").read_text()
    _, _, table = text.partition("| file | written |")
    patterns = []
    for line in table.splitlines()[2:]:
        if not line.startswith("|"):
            break
        patterns += re.findall(r"`([^`]+)`", line.split("|")[1])
    return patterns


class KilledTest(absltest.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        scratch = cls.enterClassContext(tempfile.TemporaryDirectory())
        cls.parent = pathlib.Path(scratch)
        cls.enterClassContext(mock.patch.object(writing, "PARTS", (Part,)))
        cls.run_dir = cls.parent / "run"
        cls.disk = Disk(cls.run_dir)
        cls.killed, cls.said, cls.shown, cls.found = [], [], [], set()
        while cls.train():
            cls.look()
            if cls.killed[-1] == "checkpoints/last.weights.h5":
                cls.measure_and_export()
            if cls.killed[-1].endswith("settings.json"):
                cls.lose_power()
        cls.look()
        cls.undisturbed = RunDirectory(cls.parent / "undisturbed")
        with contextlib.redirect_stdout(io.StringIO()):
            train.train(CONFIG, cls.undisturbed.path, build_model)

    @classmethod
    def train(cls):
        """Trains; returns whether it was killed."""
        before = set(cls.disk.survived)
        said = io.StringIO()
        try:
            with cls.disk.watch(), contextlib.redirect_stdout(said):
                train.train(CONFIG, cls.run_dir, build_model)
        except Killed:
            cls.killed += cls.disk.survived - before
        finally:
            cls.said.append(said.getvalue())
        return cls.disk.is_dead

    @classmethod
    def look(cls):
        runs = tensorboard_runs(cls.parent).Runs()
        cls.shown.append((cls.said[-1], sorted(runs)))
        cls.found |= {
            str(path.relative_to(cls.run_dir))
            for path in cls.run_dir.rglob("*")
            if path.is_file()
        }

    @classmethod
    def lose_power(cls):
        """Damages what was not flushed."""
        directory = RunDirectory(cls.run_dir)
        with directory.history.open("ab") as file:
            file.write(b"1,0.")
        directory.timing.write_bytes(bytes(100))
        directory.last.write_bytes(b"")
        for path in directory.tensorboard.rglob("events.*"):
            path.write_bytes(path.read_bytes()[:-20])
        shutil.copytree(
            directory.backup / "000001", directory.backup / "000002.partial"
        )

    @classmethod
    def measure_and_export(cls):
        """What a user may do with a killed run."""
        quiet = contextlib.redirect_stdout(io.StringIO())
        with quiet, cls.disk.watch(kill=False):
            # An evaluation may run beside a training.
            training = RunDirectory(cls.run_dir)
            training.lock()
            evaluate.evaluate(CONFIG, Target(), cls.run_dir, build_model)
            training.unlock()
            export.export_run(cls.run_dir, build_model)
        cls.measured = RunDirectory(cls.run_dir)
        cls.had_ended = cls.measured.has_ended
        cls.had_both = (
            cls.measured.results.exists() and cls.measured.saved_model.exists()
        )

    def test_each_kill_is_survived(self):
        self.assertEqual(self.killed, WRITTEN)
        ended = self.killed.index("ended.json") + 2
        for said in self.said[ended:]:
            self.assertIn("This run is finished", said)
            self.assertNotIn("There is no report", said)
        self.assertIn("Report: ", self.said[-1])
        for said in self.said[:ended]:
            self.assertNotIn("This run is finished", said)
            self.assertNotIn("damaged", said)
        for said in self.said[3:9]:
            self.assertIn("Resuming: 0 epochs and 0 steps are done", said)
        for said in self.said[9:ended]:
            self.assertIn("Resuming: 1 epochs and 0 steps are done", said)
        self.assertTrue(RunDirectory(self.run_dir).has_ended)

    def test_it_becomes_what_it_would_have_been(self):
        directory = RunDirectory(self.run_dir)
        for name in ("history", "timing"):
            ours, theirs = (
                getattr(each, name).read_text().splitlines()
                for each in (directory, self.undisturbed)
            )
            self.assertLen(ours, 2)
            self.assertEqual(ours[0], theirs[0])
            self.assertEqual(len(ours[1].split(",")), len(ours[0].split(",")))
        for name in ("best", "last"):
            ours, theirs = (
                getattr(each, name).stat().st_size
                for each in (directory, self.undisturbed)
            )
            self.assertEqual(ours, theirs)
        self.assertEqual(
            {p.name for p in self.run_dir.iterdir()},
            {p.name for p in self.undisturbed.path.iterdir()},
        )
        left_over = [p for p in self.run_dir.rglob("*") if "partial" in p.name]
        # A partial checkpoint stays until the next one is written.
        self.assertEqual([p.name for p in left_over], ["000002.partial"])

    def test_evaluation_and_export_do_not_end_a_run(self):
        self.assertTrue(self.had_both)
        self.assertFalse(self.had_ended)
        number = self.killed.index("checkpoints/last.weights.h5")
        self.assertIn("Resuming: 0 epochs", self.said[number + 1])

    def test_renamed_after_flushing(self):
        """So a power failure leaves the old or the new, never a half."""
        self.assertEqual(self.disk.wrong, [])
        self.assertContainsSubset(WRITTEN, self.disk.targets)
        data = [t for t in self.disk.targets if not t.startswith("report")]
        self.assertEqual(data[-1], "ended.json")

    def test_all_is_on_the_disk_at_the_end(self):
        unflushed = [
            path
            for path in self.disk.unflushed(self.run_dir)
            if not path.endswith(".lock") and "000002.partial" not in path
        ]
        self.assertEqual(unflushed, [])

    def test_tensorboard_shows_three_runs(self):
        """However often the run was killed, TensorBoard shows three runs.

        The third holds what "HParams" shows. In the run `validation`, that page
        would take each of its curves for a metric.
        """
        expected = [
            f"run/tensorboard/{name}"
            for name in ("results", "train", "validation")
        ]
        for said, shown in self.shown:
            self.assertContainsSubset(shown, expected, said)
        self.assertEqual(self.shown[-1][1], expected)
        self.assertTrue(list(self.run_dir.glob("backup/*/files/tensorboard/*")))
        multiplexer = tensorboard_runs(self.run_dir)
        multiplexer.Reload()
        for name, tag in (
            ("train", "epoch_loss"),
            ("validation", "epoch_robust_accuracy"),
            ("validation", "clean, perturbed, difference"),
            ("results", "validation_best/robust_accuracy"),
            ("results", "test/robust_accuracy"),
        ):
            points = multiplexer.Tensors(f"tensorboard/{name}", tag)
            self.assertEqual([point.step for point in points], [1], tag)
        self.assertLen(event_files.hparams(self.run_dir), 1)

    def test_every_file_is_documented(self):
        patterns = documented()
        self.assertGreater(len(patterns), 15)
        for name in sorted(self.found):
            self.assertTrue(
                any(fnmatch.fnmatch(name, pattern) for pattern in patterns),
                f"docs/resume.md is expected to name it: {name}",
            )
        # Other documented files are optional or temporary.
        others = {
            "seeds.json",
            "evaluations/*/adversarial_*.npz",
            "evaluations/*/surface.npz",
            "evaluations/*/distances.npz",
            "evaluations/*/.lock",
            ".results.json.lock",
            ".report.lock",
            "saved_model.old/*",
            "exports/*/model.*",
            "exports/*/README.md",
            "exports/*/.export.lock",
            "exports/*/.export.partial/*",
            "tensorboard/plugins/*",
        }
        for pattern in set(patterns) - others:
            self.assertNotEmpty(fnmatch.filter(self.found, pattern), pattern)


class OtherProcessesTest(absltest.TestCase):
    def setUp(self):
        super().setUp()
        scratch = self.enterContext(tempfile.TemporaryDirectory())
        self.path = pathlib.Path(scratch)

    def test_export_beside_a_training(self):
        training = RunDirectory(self.path)
        training.create(CONFIG)
        with self.assertRaisesRegex(
            InputError, "^Another process is working on"
        ):
            export.export_run(self.path, build_model)
        training.unlock()
        with self.assertRaisesRegex(InputError, "^The run has no weights yet"):
            export.export_run(self.path, build_model)
        training.lock()  # The lock is free again.

    def test_evaluation_of_weights_that_are_gone(self):
        """A training that ended meanwhile has measured better weights."""
        directory = RunDirectory(self.path)
        directory.create(CONFIG)
        directory.best.write_text("old weights")
        old = {"attacks": [], "weights_sha256": files.sha256(directory.best)}
        directory.best.write_text("new weights")
        directory.results.write_text("{}")
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            evaluate._add(directory, old)
        self.assertStartsWith(
            said.getvalue(), "WARNING: The run's weights have changed"
        )
        self.assertEqual(directory.results.read_text(), "{}")


if __name__ == "__main__":
    absltest.main()
