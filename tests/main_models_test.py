"""Models from the command line: their weights, and what is refused late."""

import json
import pathlib
import tempfile

import h5py
import numpy as np
import pytest
from absl.testing import absltest

from tests.support.command_line import TINY, CommandLineTest, main, python


def kernels(run_dir):
    """Reads the kernels of a run's best weights."""
    found = {}

    def visit(path, value):
        if isinstance(value, h5py.Dataset) and value.ndim == 4:
            found[path] = value[()]

    with h5py.File(run_dir / "checkpoints" / "best.weights.h5") as file:
        file["classifier"].visititems(visit)
    return found


@pytest.mark.slow
class ModelsTest(CommandLineTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        directory = tempfile.TemporaryDirectory()
        cls.addClassCleanup(directory.cleanup)
        cls.source = pathlib.Path(directory.name) / "source"
        process = main(
            *TINY,
            "--model=wrn10_1",
            "--dropout=0.2",
            "--method=standard",
            f"--run_dir={cls.source}",
        )
        if process.returncode:
            raise AssertionError(process.stderr)

    def test_settings_are_written(self):
        config = json.loads((self.source / "config.json").read_text())
        self.assertEqual(
            config["model"],
            {
                "model": "wrn10_1",
                "width": None,
                "activation": "relu",
                "normalize": True,
                "stem": "cifar",
                "dropout": 0.2,
                "padding": None,
                "shortcut": None,
                "head": None,
                "init_weights": None,
                "mean": None,
                "std": None,
            },
        )

    def test_training_begins_with_the_weights_of_a_run(self):
        process = main(
            *TINY,
            "--model=wrn10_1",
            "--method=standard",
            "--epochs=1",
            "--seed=5",
            "--learning_rate=0",
            f"--init_weights={self.source}",
            f"--run_dir={self.run_dir}",
        )
        self.assertEqual(process.returncode, 0, process.stderr)
        expected, found = kernels(self.source), kernels(self.run_dir)
        self.assertLen(found, 10)
        self.assertEqual(list(found), list(expected))
        for name, kernel in found.items():
            np.testing.assert_array_equal(kernel, expected[name], name)

    def test_weights_that_do_not_fit(self):
        process = main(
            *TINY,
            "--model=wrn10_2",
            f"--init_weights={self.source}",
            f"--run_dir={self.run_dir}",
        )
        self.assert_refused(
            process,
            r"the layer group1\.block1\.\w+ is expected .*"
            f"Received: init_weights={self.source}$",
        )
        self.assert_nothing_written()

    def test_a_network_that_cannot_be_differentiated_twice(self):
        process = main(
            *TINY,
            "--model=keras:ConvNeXtTiny",
            f"--run_dir={self.run_dir}",
        )
        self.assert_refused(
            process, "differentiates twice.*Received: .*=LayerNormalization$"
        )
        self.assert_nothing_written()

    def test_a_file_with_an_activation_of_ours(self):
        path = self.directory / "smooth.keras"
        program = (
            "import fastbat_tf as fb\n"
            "model = fb.models.get('wrn10_1', activation='softplus')\n"
            f"model.save('{path}')\n"
        )
        process = python("-c", program)
        self.assertEqual(process.returncode, 0, process.stderr)
        process = main(
            "--mode=evaluate",
            "--dataset=cifar10_mini",
            f"--model_path={path}",
            f"--results_dir={self.directory / 'results'}",
            "--max_examples=40",
            "--attacks=fgsm",
        )
        self.assertEqual(process.returncode, 0, process.stderr)

    def test_a_network_of_keras(self):
        process = main(
            *TINY,
            "--model=keras:MobileNet",
            "--method=fastat",
            "--epochs=1",
            f"--run_dir={self.run_dir}",
        )
        self.assertEqual(process.returncode, 0, process.stderr)
        self.assertNotIn("Warning", process.stderr)
        before = self.run_dir.joinpath("results.json").read_text()
        process = main("--mode=export", f"--run_dir={self.run_dir}")
        self.assertEqual(process.returncode, 0, process.stderr)
        process = main(
            "--mode=evaluate",
            f"--run_dir={self.run_dir}",
            "--max_examples=40",
            "--attacks=fgsm",
        )
        self.assertEqual(process.returncode, 0, process.stderr)
        after = self.run_dir.joinpath("results.json").read_text()
        self.assertEqual(
            json.loads(before)["clean_accuracy"],
            json.loads(after)["clean_accuracy"],
        )


if __name__ == "__main__":
    absltest.main()
