"""The saved weights of the best and of the last epoch."""

import json
import os
import pathlib
import resource
import tempfile
from unittest import mock

import keras
import numpy as np
import tensorflow as tf
from absl.testing import absltest, parameterized

from fastbat_tf.methods.fastat import FastAT
from fastbat_tf.training import callbacks
from fastbat_tf.training.classifier import RobustClassifier
from tests.support.small_training import SmallTraining
from tests.support.testing import images_and_labels, small_network

COLUMNS = "val_clean_accuracy", "val_averaged_clean_accuracy"


class BestWeightsTest(tf.test.TestCase):
    """Each epoch has its own weights, and the file is read after each."""

    def story(self, rows, averaged):
        keras.utils.set_random_seed(0)
        robust = SmallTraining().robust
        robust.compile("sgd", weight_averaging=0.5)
        (average,) = (
            robust.weight_average.averages[i]
            for i, v in enumerate(robust.classifier.weights)
            if v.path.startswith("dense/bias")
        )
        bias = robust.classifier.get_layer("dense").bias
        path = pathlib.Path(self.get_temp_dir(), "best.weights.h5")
        best = callbacks.BestWeights(
            path,
            "val_clean_accuracy",
            robust.averaged_weights if averaged else None,
        )
        best.set_model(robust)
        found = []
        for epoch, row in enumerate(rows):
            bias.assign([float(epoch)] * 4)
            average.assign([epoch + 0.5] * 4)
            best.on_epoch_end(epoch, dict(zip(COLUMNS, row, strict=True)))
            self.assertAllEqual(bias, [epoch] * 4)
            again = RobustClassifier(
                small_network(normalization=None), FastAT()
            )
            again.load_weights(path)
            saved = again.classifier.get_layer("dense").bias.numpy()[0]
            found.append((float(saved), best.column))
        self.best = best
        return found

    def test_the_better_of_both(self):
        raw, averaged = COLUMNS
        self.assertEqual(
            self.story([(3, 2), (1, 4), (4, 4), (5, 6), (7, 7)], True),
            [
                (0.0, raw),
                (1.5, averaged),
                (1.5, averaged),  # A tie keeps the earlier epoch.
                (3.5, averaged),
                (4.0, raw),
            ],
        )

    def test_raw_alone(self):
        raw = "val_clean_accuracy"
        self.assertEqual(
            self.story([(3, 9), (1, 9), (4, 9)], False),
            [(0.0, raw), (0.0, raw), (2.0, raw)],
        )

    def test_the_epoch(self):
        self.story([(3, 9), (5, 9), (5, 9)], False)
        self.assertEqual(self.best.epoch, 2)
        again = callbacks.BestWeights("x.weights.h5", "val_clean_accuracy")
        self.assertIsNone(again.epoch)
        again.state = json.loads(json.dumps(self.best.state))
        self.assertEqual(again.epoch, 2)
        self.assertEqual(again.state, self.best.state)
        # Of a checkpoint of an earlier version.
        again.state = {"best": 0.5, "column": "val_accuracy"}
        self.assertIsNone(again.epoch)
        self.assertEqual(again.column, "val_clean_accuracy")


class LastWeightsTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        directory = self.enterContext(tempfile.TemporaryDirectory())
        self.path = pathlib.Path(directory, "last.weights.h5")

    def trained(self, width=4, optimizer="adam"):
        robust = RobustClassifier(small_network(width=width), FastAT(0.1))
        robust.compile(optimizer, weight_averaging=0.9)
        robust.train_on_batch(*images_and_labels(4))
        return robust

    def test_last_weights(self):
        robust = self.trained()
        last = callbacks.LastWeights(self.path)
        last.set_model(robust)
        for epoch in (0, 1):
            robust.train_on_batch(*images_and_labels(4))
            last.on_epoch_end(epoch)
            again = self.trained()
            again.load_weights(self.path)
            for ours, theirs in zip(again.weights, robust.weights, strict=True):
                np.testing.assert_array_equal(ours, theirs)
            self.assertEqual(again.optimizer.iterations, 2 + epoch)
        self.assertEqual(list(self.path.parent.iterdir()), [self.path])

    def test_whole_or_old(self):
        robust = self.trained()
        callbacks.save_weights(robust, self.path)
        before = self.path.read_bytes()
        for where, name in (
            (os, "fsync"),
            (pathlib.Path, "replace"),
        ):
            error = OSError(28, "No space left on device")
            with mock.patch.object(where, name, side_effect=error):
                with self.assertRaises(OSError):
                    callbacks.save_weights(robust, self.path)
            self.assertEqual(self.path.read_bytes(), before)
            self.assertEqual(list(self.path.parent.iterdir()), [self.path])

    @parameterized.parameters(3_000, 30_000)
    def test_no_room(self, limit):
        """HDF5 itself would end the process if the disk is full."""
        robust = self.trained(16, "adam")
        self.path.write_text("before")
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
        try:
            with self.assertRaisesRegex(OSError, "File too large"):
                callbacks.save_weights(robust, self.path)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        self.assertEqual(self.path.read_text(), "before")
        self.assertEqual(list(self.path.parent.iterdir()), [self.path])
        callbacks.save_weights(robust, self.path)
        self.assertGreater(self.path.stat().st_size, limit)

    def test_the_name_that_keras_expects(self):
        with self.assertRaisesRegex(ValueError, "must end in `.weights.h5`"):
            callbacks.save_weights(self.trained(), self.path.with_suffix(".h4"))
        self.assertEqual(list(self.path.parent.iterdir()), [])


if __name__ == "__main__":
    absltest.main()
