"""How the program is started: its names, its recipes, Ctrl-C."""

import contextlib
import pathlib
import signal
import sys
import tempfile
from unittest import mock

from absl.testing import absltest, parameterized

from flags import program, recipes, start
from tests.support.command_line import TOP, python

# As the script that pip installs, which is no file of the package.
COMMAND = """
import sys
from flags.start import run
sys.argv = sys.argv[1:]
sys.exit(run())
"""


class NamesTest(parameterized.TestCase):
    @parameterized.parameters(
        ("main.py", "main.py", "python main.py"),
        ("../clone/main.py", "../clone/main.py", "python ../clone/main.py"),
        ("/usr/local/bin/fastbat-tf", "fastbat-tf", "fastbat-tf"),
        ("fastbat-tf.exe", "fastbat-tf", "fastbat-tf"),
    )
    def test_the_help_shows_what_was_typed(self, path, name, typed):
        main = mock.Mock(__doc__=None)
        with (
            mock.patch.object(sys, "argv", [path]),
            mock.patch.dict(sys.modules, {"__main__": main}),
            mock.patch.object(program.preemption, "ended_at_once"),
            mock.patch.object(program.app, "run"),
        ):
            program.run()
            self.assertEqual(sys.argv, [name])
        self.assertIn(
            f"\n{typed} --method=fastbat --dataset=cifar10\n", main.__doc__
        )
        self.assertEqual(main.__doc__.count(f"\n{typed} --"), 5)

    def test_the_command_prints_what_main_prints(self):
        ours = python("main.py", "--help")
        theirs = python("-c", COMMAND, "/some/bin/fastbat-tf", "--help")
        expected = ours.stdout.replace("python main.py", "fastbat-tf")
        expected = expected.replace("\nmain.py:\n", "\nfastbat-tf:\n")
        self.assertIn("\nfastbat-tf:\n", expected)
        self.assertEqual(theirs.stdout, expected)
        self.assertEqual(theirs.returncode, ours.returncode)
        self.assertEqual((ours.stderr, theirs.stderr), ("", ""))


class RecipesTest(absltest.TestCase):
    def setUp(self):
        super().setUp()
        self.directory = pathlib.Path(
            self.enterContext(tempfile.TemporaryDirectory())
        )
        self.enterContext(contextlib.chdir(self.directory))

    def test_those_of_the_program_are_found_anywhere(self):
        demo = str(TOP / "recipes/demo.cfg")
        for given in (
            ["--flagfile=recipes/demo.cfg"],
            ["-flagfile=recipes/demo.cfg"],
            ["--flagfile", "recipes/demo.cfg"],
        ):
            found = recipes.find(["main.py", *given, "--seed=1"])
            self.assertEqual(
                found,
                [
                    "main.py",
                    *(word.replace("recipes/demo.cfg", demo) for word in given),
                    "--seed=1",
                ],
            )

    def test_a_file_of_the_user_comes_first(self):
        given = ["main.py", "--flagfile=recipes/demo.cfg"]
        file = self.directory / "recipes/demo.cfg"
        file.parent.mkdir()
        file.touch()
        self.assertEqual(recipes.find(given), given)

    def test_others_stay(self):
        given = [
            "main.py",
            "--flagfile=recipes/none.cfg",
            "--flagfile=main.py",  # A file beside the recipes.
            "--flagfile=",
            "--run_dir=recipes/demo.cfg",
            "recipes/demo.cfg",
            "--flagfile",
        ]
        self.assertEqual(recipes.find(given), given)


class StartTest(absltest.TestCase):
    def test_control_c_prints_no_traceback(self):
        """Not even while the program is imported; `nohup` stays deaf."""
        seen = []
        kept = signal.getsignal(signal.SIGINT)
        self.addCleanup(signal.signal, signal.SIGINT, kept)
        with mock.patch.object(
            program, "run", lambda: seen.append(signal.getsignal(signal.SIGINT))
        ):
            for before in (signal.default_int_handler, signal.SIG_IGN):
                signal.signal(signal.SIGINT, before)
                start.run()
        self.assertEqual(seen, [signal.SIG_DFL, signal.SIG_IGN])

    def test_it_comes_before_the_program(self):
        process = python(
            "-c",
            "import sys, flags.start\n"
            "names = {'absl', 'flags.command', 'flags.program'}\n"
            "print(names & sys.modules.keys())",
        )
        self.assertEqual(process.stdout, "set()\n", process.stderr)


if __name__ == "__main__":
    absltest.main()
