"""Tests exports to a directory of versions, which TensorFlow Serving polls."""

import contextlib
import io
import pathlib
import tempfile
import types
from unittest import mock

import tensorflow as tf

from fastbat_tf.errors import InputError
from fastbat_tf.experiment import building, export
from fastbat_tf.experiment.config import Config, DataConfig, ModelConfig
from fastbat_tf.experiment.export_request import ExportRequest
from fastbat_tf.saving.serving_warm_up import FILE
from tests.support import testing


class VersionsTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        top = self.enterContext(tempfile.TemporaryDirectory())
        self.base = pathlib.Path(top, "served/digits")
        network = testing.small_network(size=32, classes=10)
        robust = types.SimpleNamespace(classifier=network)
        build = mock.patch.object(building, "build_initial")
        self.enterContext(build).return_value = robust
        self.config = Config(
            data=DataConfig("cifar10_mini"),
            model=ModelConfig(init_weights="weights.h5"),
        )

    def export(self, *arguments, **options):
        request = ExportRequest(*arguments, **options)
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            export.export_weights(self.config, None, request)
        return printed.getvalue()

    def test_next_version(self):
        for number in ("1", "2"):
            printed = self.export(directory=str(self.base))
            path = self.base / number
            self.assertIn(f"SavedModel: {path}\n", printed)
            for name in ("saved_model.pb", "README.md", FILE):
                self.assertTrue((path / name).exists(), name)
        names = sorted(path.name for path in self.base.iterdir())
        self.assertEqual(names, ["1", "2"])
        info = tf.saved_model.load(self.base / "2").signatures["info"]()
        self.assertLen(info["class_names"], 10)
        self.assertEqual(info["robust_accuracy"], -1)

    def test_other_formats_have_none(self):
        self.export("keras", str(self.base))
        names = sorted(path.name for path in self.base.iterdir())
        self.assertEqual(names, ["README.md", "model.keras"])

    def test_refused_before_any_work(self):
        self.base.mkdir(parents=True)
        (self.base / "saved_model.pb").touch()
        with self.assertRaisesRegex(InputError, r"\(it is a SavedModel\)"):
            self.export(directory=str(self.base))
        with self.assertRaisesRegex(InputError, "Received: directory="):
            self.export(directory=str(self.base / "saved_model.pb"))
        building.build_initial.assert_not_called()


if __name__ == "__main__":
    tf.test.main()
