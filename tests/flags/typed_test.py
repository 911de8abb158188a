"""The command that a run records."""

import json
import pathlib
import shlex
import tempfile

from absl.testing import absltest, parameterized

from flags import typed
from tests.support.command_line import python

PROGRAM = ["python", "main.py"]
PARSE = """
import sys
from flags import command
command.parse(sys.argv)
found = command.get_command()
print(found.seeds, found.config.training.seed, found.run_dir)
"""


class CommandTest(parameterized.TestCase):
    @parameterized.parameters(
        (PROGRAM, [], "python main.py"),
        (
            ["fastbat-tf"],
            ["--flagfile=recipes/demo.cfg", "--seed=3"],
            "fastbat-tf --flagfile=recipes/demo.cfg --seed=3",
        ),
        (PROGRAM, ["--run_dir=my runs"], "python main.py '--run_dir=my runs'"),
    )
    def test_as_typed(self, program, arguments, expected):
        found = typed.command(program, arguments)
        self.assertEqual(found, expected)
        self.assertEqual(shlex.split(found), [*program, *arguments])

    @parameterized.parameters(
        ("--seeds=0,1 --epochs=2", "--epochs=2"),
        ("--epochs=2 --seeds 0,1", "--epochs=2"),
        ("-seeds 0,1 --epochs=2", "--epochs=2"),
        # A flagfile has the seeds.
        ("--flagfile=a.cfg", "--flagfile=a.cfg --seeds="),
    )
    def test_of_one_of_several_seeds(self, arguments, expected):
        found = typed.command(PROGRAM, arguments.split(), seed=1)
        self.assertEqual(found, f"python main.py {expected} --seed=1")

    @parameterized.parameters("--run_dir=runs/a", "--run_dir runs/a")
    def test_the_run_of_a_seed(self, given):
        found = typed.command(
            PROGRAM,
            [*given.split(), "--seeds=0,1"],
            seed=1,
            run_dir="runs/a/seed-1",
        )
        self.assertEqual(
            found, "python main.py --run_dir=runs/a/seed-1 --seed=1"
        )

    def test_of_a_flagfile_with_seeds(self):
        """The recorded command is one of a single seed."""
        directory = self.enterContext(tempfile.TemporaryDirectory())
        file = pathlib.Path(directory, "seeds.cfg")
        file.write_text("--seeds=0,1\n--run_dir=a\n--dataset=cifar10_mini\n")
        found = typed.command(
            PROGRAM,
            [f"--flagfile={file}"],
            seed=1,
            run_dir="a/seed-1",
        )
        process = python("-c", PARSE, *shlex.split(found)[2:])
        self.assertEqual(process.stdout, "() 1 a/seed-1\n", process.stderr)

    def test_names_that_are_no_text(self):
        found = typed.command(PROGRAM, ["--run_dir=\udcff"])
        json.dumps(found).encode()
        self.assertEqual(found, "python main.py '--run_dir=?'")


if __name__ == "__main__":
    absltest.main()
