"""Profiles hold the steps that are named, in whole calls."""

import pathlib
import tempfile
from unittest import mock

import tensorflow as tf
from absl.testing import parameterized

from fastbat_tf.errors import InputError
from fastbat_tf.runtime import display
from fastbat_tf.training import callbacks


def calls(steps, epochs, size):
    """The epoch, the first and the last step of each call."""
    return [
        (epoch, first, min(first + size, steps) - 1)
        for epoch in range(epochs)
        for first in range(0, steps, size)
    ]


class ProfileTest(parameterized.TestCase, tf.test.TestCase):
    def run_calls(self, first, last, *, size=1, steps=5, epochs=3, begin=0):
        """Returns what the profiler and the display were told."""
        told = []
        profile = callbacks.Profile(first, last, "there", size)
        profile.set_params({"steps": steps, "epochs": epochs})
        profiler = tf.profiler.experimental
        with (
            mock.patch.object(profiler, "start", lambda _: told.append("on")),
            mock.patch.object(profiler, "stop", lambda: told.append("off")),
            mock.patch.object(display, "log", told.append),
        ):
            profile.on_train_begin()
            for epoch, start, end in calls(steps, epochs, size)[begin:]:
                profile.on_epoch_begin(epoch)
                profile.on_train_batch_begin(start)
                profile.on_train_batch_end(end)
            profile.on_train_end()
        return told

    @parameterized.parameters(
        (1, 1, 1, "1 to 1"),
        (4, 7, 1, "4 to 7"),
        (15, 15, 1, "15 to 15"),
        # Calls of 2, 2 and 1 steps an epoch.
        (4, 6, 2, "3 to 7"),
        (2, 2, 2, "1 to 2"),
        (1, 15, 2, "1 to 15"),
    )
    def test_whole_calls(self, first, last, size, expected):
        self.assertEqual(
            self.run_calls(first, last, size=size),
            ["on", "off", f"Profile of the steps {expected}: there/plugins"],
        )

    def test_a_run_that_continues(self):
        told = self.run_calls(2, 6, begin=3)
        self.assertEqual(told[-1], "Profile of the steps 4 to 6: there/plugins")
        self.assertEqual(self.run_calls(2, 6, begin=7), [])

    def test_beyond_the_training(self):
        with self.assertRaisesRegex(
            InputError, "in the 15 steps .* Received: profile=3,16$"
        ):
            self.run_calls(3, 16)

    def test_file(self):
        path = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        profile = callbacks.Profile(1, 1, path)
        profile.set_params({"steps": 1, "epochs": 1})
        profile.on_epoch_begin(0)
        profile.on_train_batch_begin(0)
        tf.reduce_sum(tf.ones(3))
        profile.on_train_batch_end(0)
        (file,) = path.glob("plugins/profile/*/*.xplane.pb")
        # Without the mark of a step, TensorBoard does not know its time.
        self.assertIn(b"step_num", file.read_bytes())


if __name__ == "__main__":
    tf.test.main()
