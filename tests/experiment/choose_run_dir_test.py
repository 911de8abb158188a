"""Which run a command without --run_dir resumes."""

import os
import pathlib
import tempfile
import threading

from absl.testing import absltest

from fastbat_tf import files
from fastbat_tf.experiment.config import (
    Config,
    TrainingConfig,
)
from fastbat_tf.experiment.run_directory import (
    RunDirectory,
    choose_run_dir,
)

NOBODY = 65534

CONFIG = Config(training=TrainingConfig(epochs=3, seed=11))


class ChooseTest(absltest.TestCase):
    """Which run a command without --run_dir resumes."""

    def setUp(self):
        super().setUp()
        self.parent = self.enterContext(tempfile.TemporaryDirectory())

    def begin(self, time, config=CONFIG):
        name = f"fastbat-cifar10-preact_resnet18-{time}"
        directory = RunDirectory(pathlib.Path(self.parent, name))
        directory.create(config)
        directory.unlock()
        return directory

    def choose(self, resume="auto"):
        return choose_run_dir(CONFIG, resume, self.parent)

    def assert_new(self, path):
        self.assertRegex(
            path,
            rf"^{self.parent}/fastbat-cifar10-preact_resnet18-\d{{8}}-\d{{6}}$",
        )
        self.assertFalse(os.path.exists(path))

    def test_the_newest_that_is_unfinished(self):
        self.assert_new(self.choose())
        self.begin("20260101-000000")
        older = self.begin("20260101-000001")
        newer = self.begin("20260101-000002")
        self.begin("20260101-000003", Config())  # A different run.
        self.assertEqual(self.choose(), str(newer.path))
        self.assertEqual(self.choose("must"), str(newer.path))
        self.assert_new(self.choose("never"))
        newer.check(CONFIG)  # This locks the run.
        self.assertEqual(self.choose(), str(older.path))
        newer.unlock()
        # An evaluation and an export write these into a killed run.
        newer.results.write_text("{}")
        newer.saved_model.mkdir()
        self.assertFalse(newer.has_ended)
        self.assertEqual(self.choose(), str(newer.path))
        newer.end()
        self.assertTrue(newer.has_ended)
        self.assertEqual(self.choose(), str(older.path))
        # Without results it is resumed, and has not ended.
        newer.results.unlink()
        self.assertEqual(self.choose(), str(newer.path))
        newer.create(CONFIG)
        newer.unlock()
        newer.results.write_text("{}")
        self.assertFalse(newer.has_ended)

    def test_what_cannot_be_read_is_passed_over(self):
        older = self.begin("20260101-000001")
        self.begin("20260101-000002").config.write_text("{")
        self.begin("20260101-000003").config.unlink()
        self.assertEqual(self.choose(), str(older.path))

    def test_several_seeds(self):
        def choose_seeds(resume="auto"):
            return choose_run_dir(CONFIG, resume, self.parent, seeds=(3, 4))

        new = rf"^{self.parent}/fastbat-cifar10-preact_resnet18-seeds-\d{{8}}-"
        self.begin("20260101-000001")  # A run with one seed.
        self.assertRegex(choose_seeds(), new)
        first = self.begin("seeds-1/seed-3", CONFIG.with_seed(3))
        parent = first.path.parent
        self.assertEqual(choose_seeds(), str(parent))
        self.assertRegex(choose_seeds("never"), new)
        first.check(CONFIG.with_seed(3))  # This locks the run.
        self.assertRegex(choose_seeds(), new)
        first.unlock()
        first.results.write_text("{}")
        first.saved_model.mkdir()
        first.end()
        self.assertEqual(choose_seeds(), str(parent))
        (parent / "seeds.json").write_text("{}")
        self.assertRegex(choose_seeds(), new)
        self.begin("seeds-2/seed-3", CONFIG.with_seed(4))  # A different run.
        self.assertRegex(choose_seeds(), new)
        # A run with several seeds is not one with one seed.
        self.assertNotIn("seeds", self.choose())

    def test_nothing_is_written(self):
        """Not even a lock or a timestamp: the runs may belong to others."""
        parent = pathlib.Path(self.parent)
        unlocked = self.begin("20260101-000000")
        unlocked.path.joinpath(".lock").unlink()  # It may be a copy.
        locked = self.begin("20260101-000001")
        self.begin("20260101-000002", Config())
        self.begin("seeds-1/seed-3", CONFIG.with_seed(3))
        self.begin("seeds-2/seed-3", CONFIG.with_seed(3))
        fourth = self.begin("seeds-2/seed-4", CONFIG.with_seed(4))
        fourth.path.joinpath(".lock").unlink()
        for path in (parent, *parent.rglob("*")):
            os.utime(path, (1, 1))
        before = self.tree()
        self.assertEndsWith(self.choose(), "-20260101-000001")
        locked.check(CONFIG)  # This locks the run.
        self.assertEqual(self.choose(), str(unlocked.path))
        chosen = choose_run_dir(CONFIG, "auto", self.parent, seeds=(3, 4))
        self.assertEqual(chosen, str(fourth.path.parent))
        self.assertEqual(self.tree(), before)

    def tree(self):
        return {
            path: (path.stat().st_mtime_ns, path.stat().st_size)
            for path in pathlib.Path(self.parent).rglob("*")
        }

    def test_who_looks_does_not_disturb(self):
        """A run that starts while another process looks is not refused."""
        run = self.begin("20260101-000001")
        looking = files.lock(run.path / ".lock", 0)
        threading.Timer(0.1, looking.release).start()
        self.assertTrue(run.check(CONFIG))


if __name__ == "__main__":
    absltest.main()
