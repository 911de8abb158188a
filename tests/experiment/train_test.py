"""What a training says before it begins."""

from unittest import mock

from absl.testing import absltest

import fastbat_tf as fb
from fastbat_tf.experiment import notes
from fastbat_tf.experiment.config import Config
from tests.support.testing import small_network, two_cpu_strategy


class NotesTest(absltest.TestCase):
    def lines(self, method):
        with two_cpu_strategy().scope():
            robust = fb.RobustClassifier(small_network(), method)
            robust.compile()
        with mock.patch.object(notes.display, "note") as note:
            notes.show(Config(), robust, ["a hint"])
        return [call.args[0] for call in note.call_args_list]

    def test_methods_on_several_replicas(self):
        device, hint, note = self.lines(fb.AAER(epsilon=0.03))
        self.assertIn("replicas: 2", device)
        self.assertEqual(hint, "a hint")
        self.assertRegex(note, "^The method aaer .* each of the 2 replicas ")
        *_, hint = self.lines(fb.Standard())
        self.assertEqual(hint, "a hint")


if __name__ == "__main__":
    absltest.main()
