"""Curves of an earlier version, which counted epochs from 0."""

import pathlib
import tempfile

import numpy as np
import tensorflow as tf
from absl.testing import absltest

from fastbat_tf.experiment import earlier_curves
from fastbat_tf.training.callbacks.panel import TAG
from tests.support import event_files


class UpdateTest(absltest.TestCase):
    def setUp(self):
        super().setUp()
        scratch = self.enterContext(tempfile.TemporaryDirectory())
        self.path = pathlib.Path(scratch)

    def write(self, run, tag, *steps):
        """Writes points as a process does, to a file of its own."""
        writer = tf.summary.create_file_writer(str(self.path / run))
        with writer.as_default():
            for step in steps:
                tf.summary.scalar(tag, step / 8, step)
        writer.close()

    def points(self, run):
        return event_files.scalars(self.path / run)

    def test_epochs_and_names(self):
        """Also of a run that has continued, and was cut off meanwhile."""
        for steps in (0, 1), (2,):
            self.write("train", "epoch_loss", *steps)
            self.write("train", "epoch_gradient_norm", *steps)
            self.write("train", "epoch_perturbed_accuracy", *steps)
            self.write("validation", "epoch_accuracy", *steps)
        self.write("train", "batch_loss", 4, 8)
        writer = tf.summary.create_file_writer(str(self.path / "validation"))
        with writer.as_default():
            tf.summary.image(TAG, np.zeros((1, 4, 4, 3)), 0)
        writer.close()
        last = max((self.path / "validation").glob("events.*"))
        last.write_bytes(last.read_bytes() + b"half a record")
        earlier_curves.update(self.path, has_attack=False)
        expected = {1: 0.0, 2: 0.125, 3: 0.25}
        self.assertEqual(
            self.points("train"),
            {
                "epoch_loss": expected,
                "epoch_robust_gradient_norm": expected,
                "epoch_accuracy": expected,
                "batch_loss": {4: 0.5, 8: 1.0},
            },
        )
        self.assertEqual(
            self.points("validation"), {"epoch_clean_accuracy": expected}
        )
        panels = event_files.read(self.path / "validation")[TAG]
        self.assertEqual(panels.steps, [1])

    def test_curves_of_today(self):
        self.write("train", "epoch_loss", 1, 2)
        (path,) = (self.path / "train").iterdir()
        before = path.stat().st_mtime_ns, path.stat().st_ino
        earlier_curves.update(self.path)
        after = path.stat().st_mtime_ns, path.stat().st_ino
        self.assertEqual(after, before)
        earlier_curves.update(self.path / "none")


if __name__ == "__main__":
    absltest.main()
