"""The flags of `--mode=export`."""

import importlib.util
import os
from unittest import mock

from absl.testing import absltest, parameterized

from fastbat_tf.experiment.export_request import ExportRequest
from fastbat_tf.saving import destination
from tests.support import written_runs
from tests.support.command_line import CommandLineTest, main_here, python

FORMATS = "saved_model, keras, tflite, tflite_int8, onnx, stablehlo"


class ExportFlagsTest(CommandLineTest):
    def setUp(self):
        super().setUp()
        self.weights = self.directory / "robust.weights.h5"
        self.weights.write_bytes(b"weights")
        self.of_weights = (
            f"--init_weights={self.weights}",
            "--dataset=cifar10_mini",
            "--model=wrn10_1",
        )
        self.export_dir = self.directory / "out"

    def refused(self, message, *arguments):
        before = sorted(self.directory.rglob("*"))
        self.assert_refused(main_here("--mode=export", *arguments), message)
        self.assertEqual(sorted(self.directory.rglob("*")), before)

    def test_the_command(self):
        """TensorFlow is not imported; the values are those of the flags."""
        written_runs.write_run(self.run_dir)
        program = (
            "import sys, flags\n"
            "flags.parse(['main.py', '--mode=export', *sys.argv[1:]])\n"
            "command = flags.get_command()\n"
            "assert 'tensorflow' not in sys.modules\n"
            "print(command.run_dir, tuple(command.export), sep='|')\n"
        )
        process = python(
            "-c",
            program,
            f"--run_dir={self.run_dir}",
            "--format=stablehlo",
            f"--export_dir={self.export_dir}",
            "--export_batch_size=8",
            "--license=mit",
        )
        self.assertEqual(process.stderr, "")
        request = ("stablehlo", str(self.export_dir), "mit", 8, None)
        self.assertEqual(process.stdout, f"{self.run_dir}|{request}\n")

    def test_weights_without_a_run(self):
        process = main_here(
            "--mode=export", *self.of_weights, f"--export_dir={self.export_dir}"
        )
        # The file holds no weights; nothing else is wrong.
        self.assertIn("Received: init_weights=", process.stderr)

    @parameterized.parameters(
        (("--format=pdf",), f"Expected one of {FORMATS}. Received: format=pdf"),
        (("--format=html",), f"Expected one of {FORMATS}. .*format=html"),
        (("--epochs=3",), "does not apply to --mode=export.*epochs"),
        (
            ("--data_dir=x",),
            "--data_dir does not apply to --format=saved_model",
        ),
        (("--export_batch_size=2",), "does not apply to --format=saved_model"),
        (
            ("--format=stablehlo", "--export_batch_size=0"),
            "at least 1. Received: export_batch_size=0",
        ),
        (("--dataset=cifar10",), "does not apply.*dataset"),
        (("--runs=a",), "does not apply.*runs"),
    )
    def test_refused_of_a_run(self, arguments, message):
        written_runs.write_run(self.run_dir)
        self.refused(message, f"--run_dir={self.run_dir}", *arguments)

    def test_refused_of_weights(self):
        out = f"--export_dir={self.export_dir}"
        self.refused("expects --export_dir", *self.of_weights)
        self.refused(
            "does not apply.*method", *self.of_weights, out, "--method=pgd"
        )
        self.weights.unlink()
        self.refused("init_weights", *self.of_weights, out)

    def test_no_run(self):
        self.refused("hold a run", f"--run_dir={self.directory}/none")
        written_runs.write_seeds(self.run_dir, seeds=(0, 1))
        self.refused(
            f"runs of several seeds; .*such as {self.run_dir}/seed-0. ",
            f"--run_dir={self.run_dir}",
        )
        path = self.run_dir / "seed-1"
        (path / "checkpoints" / "best.weights.h5").unlink()
        self.refused("has no weights yet", f"--run_dir={path}")

    def test_packages_that_are_missing(self):
        written_runs.write_run(self.run_dir)
        found = importlib.util.find_spec

        def find(name, *rest):
            return None if name == "tf2onnx" else found(name, *rest)

        with mock.patch.object(importlib.util, "find_spec", find):
            self.refused(
                r"onnx needs tf2onnx; .*pip install \"fastbat_tf\[export\]\"",
                f"--run_dir={self.run_dir}",
                "--format=onnx",
            )

    @parameterized.parameters("train", "evaluate", "report")
    def test_other_modes(self, mode):
        for flag in (
            "--export_dir=a",
            "--license=mit",
            "--export_batch_size=1",
        ):
            process = main_here(f"--mode={mode}", "--run_dir=a", flag)
            name = flag[2:].split("=")[0]
            self.assert_refused(process, f"does not apply.*{name}")
        if mode == "train":
            process = main_here("--format=onnx", "--run_dir=a")
            self.assert_refused(process, "does not apply.*format")

    def test_directories_of_others(self):
        written_runs.write_run(self.run_dir)
        run = f"--run_dir={self.run_dir}"
        out = f"--export_dir={self.export_dir}"
        self.export_dir.write_text("a file")
        for form in ("saved_model", "onnx"):
            self.refused("is no directory", run, out, f"--format={form}")
        self.export_dir.unlink()
        self.export_dir.mkdir()
        (self.export_dir / "README.md").write_text("# My project\n")
        self.refused(
            "holds a README.md that no export has written",
            *(run, out, "--format=keras"),
        )
        # A version gets a directory of its own.
        ExportRequest(directory=str(self.export_dir)).check()
        (self.export_dir / "saved_model.pb").write_bytes(b"")
        self.refused("it is a SavedModel", run, out)
        (self.run_dir / "saved_model" / "README.md").write_text("# Mine\n")
        self.refused("holds a README.md that no export has written", run)

    def test_a_directory_that_cannot_be_written(self):
        self.export_dir.mkdir()
        written_runs.write_run(self.run_dir)
        # Root may write everywhere.
        with mock.patch.object(os, "access", lambda path, _: False):
            self.refused(
                f"{self.export_dir} is not writable",
                f"--run_dir={self.run_dir}",
                f"--export_dir={self.export_dir}/new",
            )


class DestinationTest(CommandLineTest):
    """What `fastbat_tf.export` replaces, and what not."""

    def check(self, form="saved_model"):
        destination.check(self.run_dir, form)

    def test_what_may_be_replaced(self):
        self.check()
        self.run_dir.mkdir()
        self.check()
        for name, text in (
            ("README.md", destination.mark(license="mit")),
            ("saved_model.pb", "serving_default serve_uint8"),
        ):
            (self.run_dir / name).write_text(text)
        (self.run_dir / "variables").mkdir()
        self.check()
        (self.run_dir / "model.onnx").touch()
        self.check("onnx")
        self.assertEqual(
            destination.read_card(self.run_dir), {"license": "mit"}
        )

    def test_what_may_not(self):
        self.run_dir.mkdir()
        (self.run_dir / "thesis.tex").write_text("")
        self.check("onnx")
        with self.assertRaisesRegex(ValueError, "other files.*thesis.tex"):
            self.check()
        model = self.run_dir / "saved_model.pb"
        model.write_text("serving_default serve_uint8")
        with self.assertRaisesRegex(ValueError, r"\(it has thesis.tex\)"):
            self.check()
        (self.run_dir / "thesis.tex").unlink()
        model.write_text("serving_default")
        with self.assertRaisesRegex(ValueError, r"\(it has saved_model.pb\)"):
            self.check()
        card = self.run_dir / "README.md"
        card.write_bytes(b"\xff\xfe")
        with self.assertRaisesRegex(ValueError, "README.md that no export"):
            self.check("onnx")
        card.unlink()
        card.symlink_to("nowhere")
        with self.assertRaisesRegex(ValueError, "README.md that no export"):
            self.check("onnx")

    def test_a_comment_does_not_end_early(self):
        text = destination.mark(license="-->\n<b>", weights_sha256=None)
        self.assertEqual(text.count("-->"), 1)
        self.assertNotIn("<b>", text)
        self.assertNotIn("\n", text)
        self.run_dir.mkdir()
        (self.run_dir / "README.md").write_text(f"# A\n{text}\n")
        found = destination.read_card(self.run_dir)
        self.assertEqual(found, {"license": "-->\n<b>"})


if __name__ == "__main__":
    absltest.main()
