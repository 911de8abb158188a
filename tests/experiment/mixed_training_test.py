"""Trainings with extra images and CutMix: the same bits after a resume."""

import contextlib
import csv
import dataclasses
import io
import json
import pathlib
import tempfile
from unittest import mock

import h5py
import numpy as np
from absl.testing import absltest

from fastbat_tf.data.options import DataConfig
from fastbat_tf.errors import InputError
from fastbat_tf.experiment import train
from fastbat_tf.experiment.checkpointer import Checkpointer
from fastbat_tf.experiment.config import MethodConfig
from fastbat_tf.experiment.run_directory import RunDirectory
from tests.support.worker_training import CONFIG, build_model, change


class StoppedError(Exception):
    pass


def weights(run_dir):
    found = {}
    with h5py.File(RunDirectory(run_dir).last) as file:
        file.visititems(
            lambda name, item: (
                found.update({name: item[()]})
                if isinstance(item, h5py.Dataset)
                else None
            )
        )
    return found


class MixedTrainingTest(absltest.TestCase):
    """2 epochs of 3 steps of 8 images, of which 6 are extra ones."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        scratch = cls.enterClassContext(tempfile.TemporaryDirectory())
        cls.directory = pathlib.Path(scratch)
        cls.file = cls.write_extra(0)
        cls.config = cls.configure(cutmix=True)
        cls.train(cls.config, "whole")

    @classmethod
    def write_extra(cls, seed):
        generator = np.random.default_rng(seed)
        path = cls.directory / "extra.npz"
        np.savez(
            path,
            image=generator.integers(0, 256, (11, 32, 32, 3), np.uint8),
            label=np.arange(11) % 10,
        )
        return str(path)

    @classmethod
    def configure(cls, method="fgsm_pgi", **data):
        return dataclasses.replace(
            change(
                CONFIG,
                training={"weight_averaging": 0.5},
                # Another test has started TensorFlow's threads; what XLA
                # compiles repeats its bits with any number of them.
                runtime={"deterministic": False, "jit_compile": "true"},
            ),
            data=DataConfig(
                "cifar10_mini",
                training_examples=24,
                extra_data=cls.file,
                **data,
            ),
            method=MethodConfig(method),
        )

    @classmethod
    def train(cls, config, name, stop_at=None):
        saves = iter(range(1000))
        save = Checkpointer.save

        def save_or_stop(self, snapshot):
            if next(saves) == stop_at:
                raise StoppedError
            save(self, snapshot)

        with (
            mock.patch.object(Checkpointer, "save", save_or_stop),
            mock.patch.object(train, "export_best"),
            mock.patch.object(train, "write_at_end"),
            contextlib.redirect_stdout(io.StringIO()) as said,
        ):
            train.train(config, cls.directory / name, build_model)
        return said.getvalue()

    def assert_same_bits(self, name):
        ours, theirs = (weights(self.directory / n) for n in (name, "whole"))
        self.assertEqual(ours.keys(), theirs.keys())
        for key in ours:
            np.testing.assert_array_equal(ours[key], theirs[key], key)

    def test_resumed_in_the_middle_of_an_epoch(self):
        with self.assertRaises(StoppedError):
            self.train(self.config, "stopped", stop_at=3)
        said = self.train(self.config, "stopped")
        self.assertIn("Resuming", said)
        self.assert_same_bits("stopped")
        path = RunDirectory(self.directory / "stopped").history
        with path.open() as file:
            self.assertLen(list(csv.DictReader(file)), 2)

    def test_several_steps_in_a_call(self):
        several = change(self.config, runtime={"steps_per_execution": 3})
        self.train(several, "several")
        self.assert_same_bits("several")

    def test_all_images_are_remembered(self):
        """A row for each of 24 images, and for each extra one."""
        newest = max((self.directory / "whole" / "backup").glob("*"))
        with np.load(newest / "variables.npz") as file:
            shapes = [file[name].shape for name in file.files]
        self.assertIn((1, 24 + 11, 32, 32, 3), shapes)

    def test_another_file_is_refused(self):
        before = pathlib.Path(self.file).read_bytes()
        try:
            self.write_extra(1)
            config = self.configure(cutmix=True)
            with self.assertRaisesRegex(
                InputError, r"different run already \(extra_data with other"
            ):
                self.train(config, "whole")
            with self.assertRaisesRegex(InputError, "fingerprint"):
                self.train(self.config, "another")
        finally:
            pathlib.Path(self.file).write_bytes(before)
        self.assertFalse((self.directory / "another").exists())

    def test_without_the_file_the_config_is_read(self):
        path = RunDirectory(self.directory / "whole").config
        groups = json.loads(path.read_text())
        groups["data"]["extra_data"] = "moved.npz"
        config = type(self.config).from_dict(groups)
        self.assertEqual(
            config.data,
            dataclasses.replace(self.config.data, extra_data="moved.npz"),
        )
        for name in "cutmix", "extra_data", "extra_fraction":
            del groups["data"][name]
        del groups["data"]["extra_fingerprint"]  # Of an earlier version.
        config = type(self.config).from_dict(groups)
        self.assertIsNone(config.data.extra_data)
        self.assertFalse(config.data.cutmix)


if __name__ == "__main__":
    absltest.main()
