"""Tests the bound of the weights that Keras creates for a file."""

import threading
from unittest import mock

import keras
from absl.testing import absltest

from fastbat_tf.errors import InputError
from fastbat_tf.saving.trust import variables
from fastbat_tf.saving.trust.variables import bounded_variables


class BoundedVariablesTest(absltest.TestCase):
    def setUp(self):
        super().setUp()
        self.enter_context(mock.patch.object(variables, "FREE_BYTES", 7))

    def test_other_threads(self):
        """Their layers are no concern of a file that this one reads."""
        theirs = keras.layers.Dense(8)
        with bounded_variables(0, "model_path=m"):
            thread = threading.Thread(target=theirs.build, args=((None, 8),))
            thread.start()
            thread.join()
            with self.assertRaisesRegex(InputError, r"shape \(8, 8\)"):
                keras.layers.Dense(8).build((None, 8))
        self.assertLen(theirs.weights, 2)

    def test_two_threads(self):
        """Nothing of the bound remains, whichever of them ends first."""
        before = keras.layers.Layer.add_weight
        entered, leave = threading.Event(), threading.Event()

        def read():
            with bounded_variables(0, "model_path=theirs"):
                entered.set()
                leave.wait()

        thread = threading.Thread(target=read)
        with bounded_variables(0, "model_path=ours"):
            thread.start()
            entered.wait(0.2)
        leave.set()
        thread.join()
        self.assertIs(keras.layers.Layer.add_weight, before)


if __name__ == "__main__":
    absltest.main()
