"""The flags of `--mode=report`."""

import contextlib

from absl.testing import absltest, parameterized

from tests.support import written_runs
from tests.support.command_line import CommandLineTest, main_here


class ReportFlagsTest(CommandLineTest):
    def test_the_command(self):
        command = self.command("--mode=report", "--runs=a,b", "--report_dir=c")
        self.assertEqual(command, ("report", None, None))
        self.assertEqual(self.report, [["a", "b"], "c", "html"])
        self.command("--mode=report", "--runs=a", "--format=latex")
        self.assertEqual(self.report, [["a"], None, "latex"])
        self.command()
        self.assertIsNone(self.report)

    @parameterized.parameters(
        ((), "expects --runs"),
        (("--runs=",), "expects --runs"),
        (("--runs=a", "--format=pdf"), "one of html, latex, markdown.*pdf"),
        (("--runs=a", "--format=onnx"), "one of html, latex, markdown.*onnx"),
        (
            ("--runs=a", "--format=latex", "--report_dir=b"),
            "--report_dir does not apply to --format=latex",
        ),
        (("--runs=a", "--epochs=3"), "does not apply to --mode=report.*epochs"),
        (("--runs=a", "--run_dir=b"), "does not apply.*run_dir"),
        (("--runs=nothing/here",), "no such directory.*runs=nothing/here"),
        (("--runs=tests",), "holds no run.*runs=tests"),
    )
    def test_refused(self, flags, message):
        self.assert_refused(main_here("--mode=report", *flags), message)

    @parameterized.parameters("train", "evaluate", "export")
    def test_other_modes_have_no_such_flags(self, mode):
        for flag in ("--runs=a", "--report_dir=a", "--format=html"):
            if (mode, flag) == ("export", "--format=html"):
                continue  # It has formats of its own.
            process = main_here(f"--mode={mode}", "--run_dir=a", flag)
            name = flag[2:].split("=")[0]
            self.assert_refused(process, f"does not apply.*{name}")

    def test_where_it_is_written(self):
        """Beside the files of one run; elsewhere if asked."""
        written_runs.write_run(self.run_dir)
        for report in (self.run_dir, self.directory / "new" / "one"):
            flags = [f"--runs={self.run_dir}"]
            if report != self.run_dir:
                flags.append(f"--report_dir={report}")
            process = main_here("--mode=report", *flags)
            self.assertEqual(process.returncode, 0, process.stderr)
            self.assertEqual(
                process.stdout,
                f"Report: {report}/report.html\nMarkdown: {report}/report.md\n",
            )
            self.assertTrue((report / "report.html").exists())

    def test_of_several_runs(self):
        """It is written here, in `report/`."""
        for name in ("a", "b"):
            written_runs.write_run(self.directory / name)
        with contextlib.chdir(self.directory):
            process = main_here("--mode=report", "--runs=a,b/")
        self.assertEqual((process.returncode, process.stderr), (0, ""))
        page = (self.directory / "report" / "report.html").read_text()
        self.assertIn("<h1>a, b</h1>", page)

    def test_a_file_that_cannot_be_read(self):
        written_runs.write_run(self.run_dir)
        (self.run_dir / "results.json").write_text("{")
        process = main_here("--mode=report", f"--runs={self.run_dir}")
        self.assert_refused(process, "JSON.*results.json")

    def test_a_directory_that_cannot_be_written(self):
        written_runs.write_run(self.run_dir)
        file = self.directory / "file"
        file.touch()
        process = main_here(
            "--mode=report", f"--runs={self.run_dir}", f"--report_dir={file}"
        )
        self.assert_refused(process, "cannot be written.*report_dir=")


if __name__ == "__main__":
    absltest.main()
