"""`--mode=export` in every format, and `--mode=evaluate` of what it writes."""

import json
import pathlib
import sys
import tempfile
from unittest import mock

import numpy as np
import tensorflow as tf
from absl.testing import absltest, parameterized

from fastbat_tf import models
from fastbat_tf.data import loading
from fastbat_tf.experiment import building
from fastbat_tf.experiment.config import (
    Config,
    DataConfig,
    MethodConfig,
    ModelConfig,
)
from fastbat_tf.experiment.run_directory import RunDirectory
from fastbat_tf.saving import model_files
from tests.support.command_line import CommandLineTest, main, main_here


def make_run(path):
    """Writes a run of random weights: no test needs trained ones."""
    run = RunDirectory(path)
    config = Config(
        data=DataConfig("cifar10_mini"),
        model=ModelConfig("wrn10_1"),
        method=MethodConfig("standard"),
    )
    run.create(config)
    run.unlock()
    tf.keras.utils.set_random_seed(3)
    building.build_robust(config, models.get).save_weights(run.best)
    return path


class ExportTest(CommandLineTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        directory = tempfile.TemporaryDirectory()
        cls.addClassCleanup(directory.cleanup)
        cls.run_dir = make_run(pathlib.Path(directory.name, "run"))
        cls.served = pathlib.Path(directory.name, "served")
        cls.served.joinpath("7").mkdir(parents=True)
        export = ("--mode=export", f"--run_dir={cls.run_dir}")
        cls.exported = {
            "saved_model": main_here(*export, f"--export_dir={cls.served}"),
            "onnx": main_here(*export, "--format=onnx"),
            # What C++ prints in a new process counts, too.
            "tflite_int8": main(*export, "--format=tflite_int8"),
        }
        cls.images = loading.load("cifar10_mini").test.first(8).images / 255

    def setUp(self):
        kept = self.run_dir
        super().setUp()
        self.run_dir = kept

    def path(self, form):
        """What a server loads."""
        if form == "saved_model":
            return self.served / "8"  # The next version.
        name = "model.onnx" if form == "onnx" else "model.tflite"
        return self.run_dir / "exports" / form / name

    def ask(self, path):
        """The logits of a file, for images of the test split."""
        return np.asarray(model_files.load(path)(np.float32(self.images)))

    @parameterized.parameters("onnx", "tflite_int8", "saved_model")
    def test_says_where_the_model_is(self, form):
        process, path = self.exported[form], self.path(form)
        self.assertEqual(process.returncode, 0, process.stderr)
        what = "SavedModel" if form == "saved_model" else "Model"
        folder = path if path.is_dir() else path.parent
        self.assertEqual(
            process.stdout, f"{what}: {path}\nModel card: {folder}/README.md\n"
        )
        self.assertEqual(process.stderr, "")
        self.assertIn("wrn10_1", folder.joinpath("README.md").read_text())
        self.assertEqual(list(self.run_dir.glob("**/*.partial")), [])

    def test_the_answers_are_those_of_the_run(self):
        run = RunDirectory(self.run_dir)
        robust = building.load_best(run, run.load_config(), models.get)
        expected = np.asarray(robust.network(np.float32(self.images)))
        self.assertGreater(np.ptp(expected), 0.1)
        for form, tolerance in (
            ("saved_model", 1e-5),
            ("onnx", 1e-5),
            ("tflite_int8", 0.1 * np.ptp(expected)),
        ):
            with self.subTest(form):
                found = self.ask(self.path(form))
                np.testing.assert_allclose(found, expected, atol=tolerance)

    @parameterized.parameters(
        ("onnx", "square-5"), ("tflite_int8", "transfer-fgsm")
    )
    def test_attacks_without_gradients(self, form, attack):
        results_dir = self.directory / "results"
        flags = [f"--attacks={attack}", "--max_examples=20"]
        if attack.startswith("transfer"):
            flags.append(f"--surrogate={self.path('saved_model')}")
        process = main_here(
            "--mode=evaluate",
            f"--model_path={self.path(form)}",
            "--dataset=cifar10_mini",
            *flags,
            f"--results_dir={results_dir}",
        )
        self.assertEqual(process.returncode, 0, process.stderr)
        results = json.loads((results_dir / "results.json").read_text())
        (row,) = results["attacks"]
        self.assertEqual((row["attack"], row["examples"]), (attack, 20))
        self.assertBetween(row["robust_accuracy"], 0, results["clean_accuracy"])
        self.assertEqual(results["model"], str(self.path(form)))

    @parameterized.product(
        form=("onnx", "tflite_int8"), attack=("pgd-2-1", "autoattack")
    )
    def test_attacks_by_gradient_are_refused(self, form, attack):
        results_dir = self.directory / "results"
        process = main_here(
            "--mode=evaluate",
            f"--model_path={self.path(form)}",
            "--dataset=cifar10_mini",
            f"--attacks={attack}",
            "--max_examples=40",
            f"--results_dir={results_dir}",
            "--verbosity=-1",
        )
        self.assert_refused(process, "gradient.*square.*Received: model")
        self.assertFalse((results_dir / "results.json").exists())

    def test_weights_without_a_run(self):
        process = main_here(
            "--mode=export",
            f"--init_weights={RunDirectory(self.run_dir).best}",
            "--dataset=cifar10_mini",
            "--model=wrn10_1",
            "--format=onnx",
            "--license=apache-2.0",
            f"--export_dir={self.directory}/shared",
        )
        self.assertEqual(process.returncode, 0, process.stderr)
        shared = self.directory / "shared"
        self.assertStartsWith(process.stdout, f"Model: {shared}/model.onnx\n")
        np.testing.assert_allclose(
            self.ask(shared / "model.onnx"),
            self.ask(self.path("onnx")),
            atol=1e-5,
        )
        card = (shared / "README.md").read_text()
        self.assertIn('license: "apache-2.0"', card)

    @parameterized.parameters(
        ("tflite", "ai_edge_litert"),
        ("tflite_int8", "ai_edge_litert"),
        ("onnx", "onnx"),
        ("onnx", "tf2onnx"),
    )
    def test_a_missing_package(self, form, package):
        with mock.patch.dict(sys.modules, {package: None}):
            process = self.export(
                f"--format={form}", f"--export_dir={self.directory}/exported"
            )
        self.assert_refused(process, f"{package}.*export.*format={form}$")
        self.assert_nothing_written()

    @parameterized.parameters(
        ("onnx", "onnxruntime"), ("tflite_int8", "ai_edge_litert")
    )
    def test_a_missing_runtime(self, form, package):
        with mock.patch.dict(sys.modules, {package: None}):
            process = main_here(
                "--mode=evaluate",
                f"--model_path={self.path(form)}",
                "--dataset=cifar10_mini",
                "--attacks=square-2",
                f"--results_dir={self.directory}/results",
                "--verbosity=-1",
            )
        self.assert_refused(process, r"install the extra export.*Received: ")
        self.assert_nothing_written()

    @parameterized.parameters(
        ("--format=tensorrt", r"format.*tflite_int8.*format=tensorrt$"),
        ("--format=html", r"format.*format=html$"),
        ("--export_batch_size=0", "export_batch_size=0$"),
        ("--width=8", "does not apply.* flags=width$"),
        ("--model_path=here", "does not apply.* flags=model_path$"),
    )
    def test_wrong_flags(self, flag, message):
        process = self.export(flag, f"--export_dir={self.directory}/exported")
        self.assert_refused(process, message)
        self.assert_nothing_written()

    def export(self, *flags):
        """Exports the run, in this process."""
        return main_here("--mode=export", f"--run_dir={self.run_dir}", *flags)


if __name__ == "__main__":
    absltest.main()
