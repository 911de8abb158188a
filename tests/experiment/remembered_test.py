"""Whether a host has the memory that a method needs."""

from unittest import mock

from absl.testing import absltest

import fastbat_tf as fb
from fastbat_tf.errors import InputError
from fastbat_tf.experiment import remembered
from fastbat_tf.runtime import hardware
from tests.support.testing import small_network

# Perturbation and momentum of 8 x 8 x 3 floats, and the epoch, an int64.
BYTES = 2 * 8 * 8 * 3 * 4 + 8


class RememberedTest(absltest.TestCase):
    def told(self, method, examples, memory):
        robust = fb.RobustClassifier(small_network(), method)
        with (
            mock.patch.object(hardware, "memory", return_value=memory),
            mock.patch.object(remembered.display, "note") as note,
        ):
            remembered.expect_memory(robust, examples, 4)
        return [call.args[0] for call in note.call_args_list]

    def test_much(self):
        many = 10**9 // BYTES + 1
        (line,) = self.told(fb.FGSMPGI(), many, many * BYTES)
        self.assertRegex(line, f"fgsm_pgi .* {many} images: 1 GB on each")
        self.assertEqual(self.told(fb.FGSMPGI(), many - 1, None), [])

    def test_too_much(self):
        with self.assertRaisesRegex(InputError, "Received: examples=1000$"):
            self.told(fb.FGSMPGI(), 1000, 1000 * BYTES - 1)

    def test_methods_that_remember_none(self):
        self.assertEqual(self.told(fb.FastAT(), 10**9, 1), [])

    def test_this_host(self):
        self.assertGreater(hardware.memory(), 10**9)


if __name__ == "__main__":
    absltest.main()
