"""The curves that TensorBoard shows, over epochs and within them."""

import json
import pathlib
import shutil
import tempfile

import keras
import numpy as np
from absl.testing import absltest, parameterized

from fastbat_tf.training import callbacks
from tests.support import event_files
from tests.support.small_training import SmallTraining

EPOCHS, STEPS = 2, 50
BETWEEN = 3  # 50 steps have at most 20 points.
LOSSES = np.random.default_rng(0).random((EPOCHS, STEPS)).astype(np.float32)
MODEL = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
MODEL.compile("sgd")


def make_curves(path, steps=STEPS, state=None):
    curves = callbacks.Curves(path)
    if state is not None:
        curves.state = state
    curves.set_params({"steps": steps, "epochs": EPOCHS})
    curves.set_model(MODEL)
    curves.on_train_begin()
    return curves


def train(curves, begin=(0, 0), end=(EPOCHS, 0), size=1):
    """Calls the callback as a training does, with means of the epoch."""
    epoch, batch = begin
    while (epoch, batch) < end:
        curves.on_epoch_begin(epoch)
        while batch < STEPS and (epoch, batch) < end:
            batch = min(batch + size, STEPS)
            loss = LOSSES[epoch, :batch].mean()
            logs = {"loss": loss, "accuracy": 0.5, "other": 1.0}
            curves.on_train_batch_end(batch - 1, logs)
        if batch == STEPS:
            curves.on_epoch_end(epoch, {**logs, "val_loss": 2.0})
            epoch, batch = epoch + 1, 0


def read(path):
    return event_files.scalars(path / "train")


class CurvesTest(parameterized.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        scratch = cls.enterClassContext(tempfile.TemporaryDirectory())
        cls.undisturbed = pathlib.Path(scratch)
        train(make_curves(cls.undisturbed))

    def setUp(self):
        super().setUp()
        scratch = self.enterContext(tempfile.TemporaryDirectory())
        self.path = pathlib.Path(scratch) / "run"

    def test_within_an_epoch(self):
        found = read(self.undisturbed)
        ends = list(range(BETWEEN, STEPS, BETWEEN))
        self.assertEqual(
            list(found["batch_loss"]), ends + [STEPS + end for end in ends]
        )
        for step, value in found["batch_loss"].items():
            epoch, last = divmod(step, STEPS)
            expected = LOSSES[epoch, last - BETWEEN : last].mean()
            self.assertAlmostEqual(value, expected, 4)
        self.assertEqual(set(found["batch_accuracy"].values()), {0.5})
        self.assertNotIn("batch_other", found)
        # Epochs are counted from 1.
        self.assertEqual(list(found["epoch_loss"]), [1, 2])
        self.assertEqual(list(found["epoch_other"]), [1, 2])
        validation = event_files.scalars(self.undisturbed / "validation")
        self.assertEqual(validation, {"epoch_loss": {1: 2.0, 2: 2.0}})

    @parameterized.parameters((0, 4), (1, 0))
    def test_a_run_that_is_killed(self, *saved):
        """The points after the checkpoint are made again, with equal bits."""
        first = make_curves(self.path)
        train(first, end=saved)
        state = json.loads(json.dumps(first.state))
        # What a checkpoint copies.
        copy = self.path.with_name("copy")
        shutil.copytree(self.path, copy)
        train(first, saved, end=(1, 8))  # Points that will be lost.
        shutil.rmtree(self.path)
        shutil.copytree(copy, self.path)
        train(make_curves(self.path, state=state), saved)
        self.assertEqual(read(self.path), read(self.undisturbed))

    @parameterized.parameters(7, 50)
    def test_calls_of_several_steps(self, size):
        """Points are where calls end, and leave only an epoch's end out."""
        train(make_curves(self.path), size=size)
        begin = 0
        for step, value in read(self.path)["batch_loss"].items():
            begin = max(begin, (step - 1) // STEPS * STEPS)
            expected = LOSSES.ravel()[begin:step].mean()
            self.assertAlmostEqual(value, expected, 4, step)
            begin = step
        self.assertGreater(begin, EPOCHS * STEPS - BETWEEN)

    def test_an_epoch_of_unknown_length(self):
        train(make_curves(self.path, steps=None), size=25)
        self.assertEqual(list(read(self.path)["batch_loss"]), [50, 100])

    def test_learning_rate(self):
        """That of the logs, if they have one, and not that of the next step."""
        curves = make_curves(self.path)
        curves.on_epoch_begin(0)
        curves.on_epoch_end(0, {"learning_rate": 0.75})
        curves.on_epoch_end(1, {"loss": 0.5})
        found = read(self.path)["epoch_learning_rate"]
        self.assertEqual(found[1], 0.75)
        self.assertAlmostEqual(found[2], 0.01)

    def test_in_fit_of_keras(self):
        training = SmallTraining()
        history = training.fit(callbacks.Curves(self.path)).history
        found = read(self.path)
        self.assertEqual(list(found["batch_loss"]), list(range(1, 9)))
        self.assertEqual(list(found["epoch_loss"]), [1, 2])
        for epoch, loss in enumerate(history["loss"]):
            means = [found["batch_loss"][4 * epoch + k] for k in range(1, 5)]
            self.assertAlmostEqual(np.mean(means), loss, 4)


if __name__ == "__main__":
    absltest.main()
