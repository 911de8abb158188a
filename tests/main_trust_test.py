"""Models and runs of someone who means harm, on the command line."""

import json
import zipfile

import h5py
import keras
import numpy as np
from absl.testing import absltest

from fastbat_tf import npz
from fastbat_tf.experiment.config import Config, DataConfig, ModelConfig
from fastbat_tf.experiment.run_directory import RunDirectory
from tests.support import written_runs
from tests.support.command_line import CommandLineTest, main_here
from tests.support.testing import small_network

EVALUATE = (
    "--mode=evaluate",
    "--dataset=cifar10_mini",
    "--attacks=square-1",
    "--max_examples=10",
)


class ModelTest(CommandLineTest):
    def setUp(self):
        super().setUp()
        self.path = self.directory / "theirs.keras"
        self.mark = self.directory / "mark"
        self.results = self.directory / "results"

    def save_with_code(self):
        marked = str(self.mark)
        inputs = keras.Input((32, 32, 3))
        layer = keras.layers.Lambda(
            lambda images: (open(marked, "w").close(), images)[1],  # noqa: SIM115
            output_shape=(32, 32, 3),
            name="planted",
        )
        flat = keras.layers.GlobalAveragePooling2D()(layer(inputs))
        keras.Model(inputs, keras.layers.Dense(10)(flat)).save(self.path)
        self.mark.unlink(missing_ok=True)

    def evaluate(self, *flags):
        return main_here(*EVALUATE, f"--results_dir={self.results}", *flags)

    def assert_nothing_done(self):
        self.assertFalse(self.mark.exists())
        self.assertFalse(self.results.exists())

    def test_code(self):
        self.save_with_code()
        for flags in (
            [f"--model_path={self.path}"],
            [
                f"--model_path={self.path}",
                f"--surrogate={self.path}",
                "--attacks=transfer-pgd-1-1",
            ],
        ):
            self.assert_refused(
                self.evaluate(*flags),
                r"The layer planted \(Lambda\) of the model is Python code, .*"
                f"pass --allow_code .* Received: model_path={self.path}$",
            )
            self.assert_nothing_done()
        process = self.evaluate(f"--model_path={self.path}", "--allow_code")
        self.assertEqual(process.returncode, 0, process.stderr)
        self.assertTrue(self.mark.exists())
        results = json.loads((self.results / "results.json").read_text())
        self.assertEqual(results["model"], str(self.path))

    def test_a_bomb(self):
        with zipfile.ZipFile(self.path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("config.json", "{}")
            with archive.open("model.weights.h5", "w") as file:
                for _ in range(npz.FREE_BYTES // 2**20 + 1):
                    file.write(bytes(2**20))
        for flags in (
            [*EVALUATE, f"--model_path={self.path}", "--allow_code"],
            [
                "--mode=export",
                f"--init_weights={self.path}",
                "--dataset=cifar10_mini",
                "--width=2",
                f"--export_dir={self.results}",
            ],
        ):
            process = main_here(*flags)
            self.assert_refused(process, f"decompression bomb.*={self.path}$")
            self.assert_nothing_done()


class RunTest(CommandLineTest):
    def test_a_link_out_of_a_run(self):
        outside = self.directory / "outside"
        outside.mkdir()
        run = RunDirectory(self.run_dir)
        run.create(Config(DataConfig("cifar10_mini"), ModelConfig(width=2)))
        run.unlock()
        with h5py.File(run.best, "w"):
            pass
        run.evaluations.symlink_to(outside)
        for mode in ("evaluate", "export"):
            process = main_here(f"--mode={mode}", f"--run_dir={self.run_dir}")
            self.assert_refused(
                process,
                "a link leads out of it. Received: "
                f"run_dir={self.run_dir}, link={run.evaluations}$",
            )
        self.assertEqual(list(outside.iterdir()), [])

    def test_settings_that_fill_the_memory(self):
        run = RunDirectory(self.run_dir)
        config = Config(DataConfig("cifar10_mini"), ModelConfig(width=20_000))
        run.create(config)
        run.unlock()
        small_network().save_weights(run.best)
        self.assert_refused(
            main_here("--mode=evaluate", f"--run_dir={self.run_dir}"),
            f"Received: run_dir={self.run_dir} .*"
            "The layers of the model have more than .* bytes of weights",
        )

    def test_a_report_of_outcomes_elsewhere(self):
        written_runs.write_run(self.run_dir)
        secret = self.directory / "secret.npz"
        np.savez(secret, planted=np.arange(3))
        path = self.run_dir / "results.json"
        text = path.read_text()
        for told in ("../secret.npz", str(secret)):
            path.write_text(
                text.replace("evaluations/training/outcomes.npz", told)
            )
            process = main_here(
                "--mode=report",
                f"--runs={self.run_dir}",
                f"--report_dir={self.directory / 'report'}",
            )
            self.assertEqual(process.returncode, 0, process.stderr)
            self.assertIn("are outside of its directory", process.stdout)
            page = (self.directory / "report" / "report.md").read_text()
            self.assertIn("outside of its directory", page)


if __name__ == "__main__":
    absltest.main()
