"""Tests of the public names: in Python, for type checkers, in the wheel."""

import json
import pathlib
import rlcompleter
import shutil
import subprocess
import sys
import tempfile
import zipfile

from absl.testing import absltest, parameterized

import fastbat_tf
from tests.support.command_line import TOP, python

# A user's program, right in every line, and wrong ones to add to it.
PROGRAM = """\
import keras
import numpy as np

import fastbat_tf

model = keras.Sequential([keras.layers.Dense(10)])
images, labels = np.zeros((8, 32, 32, 3), np.uint8), np.zeros(8, np.int32)
method = fastbat_tf.FastBAT(epsilon=8 / 255, step_size=None)
method = fastbat_tf.FastBAT(epsilon=8 / 255, implicit_lambda=10)
robust = fastbat_tf.RobustClassifier(model, method, pixel_range=(0, 255))
robust.compile("sgd", loss="categorical_crossentropy", jit_compile=False)
robust.compile(
    keras.optimizers.SGD(0.1),
    keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    metrics=["accuracy"],
    epsilon_schedule=fastbat_tf.EpsilonSchedule(ramp_steps=100),
    jit_compile=True,
)
robust.fit(images, labels, epochs=2).history["loss"]
results = fastbat_tf.evaluate_robustness(
    robust,
    (images, labels),
    "autoattack",
    [8 / 255],
    max_examples=100,
    jit_compile=True,
)
attack = fastbat_tf.attacks.PGD(8 / 255, steps=20, norm="linf")
print(attack(robust, images, labels, pixel_range=(0, 255)).robust.mean())
print(fastbat_tf.__version__.split("."))


class Mine(fastbat_tf.Method):
    def solve(self, context: fastbat_tf.StepContext):
        return fastbat_tf.Solution(context.images)
"""
WRONG_LINES = {
    "fastbat_tf.FastBAT(epsilonn=8 / 255)": "epsilonn",
    "fastbat_tf.FGSMMEPCS(steps=3)": "steps",
    "fastbat_tf.evaluate_robustness(robust, (images, labels), epsilon=1)": (
        "epsilon"
    ),
    "fastbat_tf.RobustClassifier(model)": "method",
    "fastbat_tf.Fastbat()": "Fastbat",
    'fastbat_tf.attacks.PGD(epsilon="oops")': "epsilon",
    "fastbat_tf.attacks.Square(nonsense=3)": "nonsense",
    "fastbat_tf.RobustAccuracy((images, labels), attack=3)": "attack",
    "from fastbat_tf import Fgsm": "Fgsm",
}


class NamesTest(parameterized.TestCase):
    def test_each_is_found(self):
        self.assertGreater(len(fastbat_tf.__all__), 40)
        self.assertContainsSubset(
            ["FastBAT", "Method", "RobustClassifier", "evaluate_robustness"],
            fastbat_tf.__all__,
        )
        self.assertEqual(fastbat_tf.__all__, sorted(set(fastbat_tf.__all__)))
        for name in fastbat_tf.__all__:
            found = getattr(fastbat_tf, name).__name__
            self.assertEqual(found.removeprefix("fastbat_tf."), name)

    def test_names_are_listed_and_completed(self):
        self.assertContainsSubset(fastbat_tf.__all__, dir(fastbat_tf))
        completer = rlcompleter.Completer({"fastbat_tf": fastbat_tf})
        self.assertCountEqual(
            [
                name.strip("()")
                for name in completer.attr_matches("fastbat_tf.Fa")
            ],
            ["fastbat_tf.FastAT", "fastbat_tf.FastBAT"],
        )

    def test_star(self):
        names = {}
        exec("from fastbat_tf import *", names)
        self.assertContainsSubset(fastbat_tf.__all__, names)

    def test_an_unknown_name(self):
        with self.assertRaisesRegex(AttributeError, "fastbat_tf.*Fastbat"):
            fastbat_tf.Fastbat  # noqa: B018
        with self.assertRaisesRegex(ImportError, "'Fastbat' from 'fastbat_tf'"):
            from fastbat_tf import Fastbat  # noqa: F401
        self.assertFalse(hasattr(fastbat_tf, "_Method"))

    def test_help(self):
        process = python("-c", "import fastbat_tf\nhelp(fastbat_tf)")
        self.assertEqual(process.returncode, 0, process.stderr)
        for name in fastbat_tf.__all__:
            self.assertRegex(
                process.stdout, rf"(class {name}\(| {name}\(|^    {name} = )"
            )
        self.assertIn(f"VERSION\n    {fastbat_tf.__version__}", process.stdout)

    def test_the_import_is_light(self):
        process = python(
            "-c",
            "import sys, fastbat_tf\n"
            "dir(fastbat_tf), fastbat_tf.__version__, fastbat_tf.__all__\n"
            "assert not {'keras', 'numpy', 'tensorflow'} & sys.modules.keys()",
        )
        self.assertEqual(process.returncode, 0, process.stderr)


class WheelTest(absltest.TestCase):
    """The installed package: its files, and the types that pyright sees."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        directory = pathlib.Path(
            cls.enterClassContext(tempfile.TemporaryDirectory())
        )
        cls.site = directory / "site"
        cls.program = directory / "user" / "program.py"
        cls.program.parent.mkdir()
        source = directory / "source"
        source.mkdir()
        for name in ("pyproject.toml", "README.md", "LICENSE"):
            shutil.copy(TOP / name, source)
        shutil.copytree(
            TOP / "fastbat_tf",
            source / "fastbat_tf",
            ignore=shutil.ignore_patterns("__pycache__"),
        )
        subprocess.run(
            [
                sys.executable,
                "-c",
                "from setuptools import build_meta\n"
                "build_meta.build_wheel('../wheel')\n",
            ],
            cwd=source,
            check=True,
            capture_output=True,
        )
        (wheel,) = directory.glob("wheel/*.whl")
        zipfile.ZipFile(wheel).extractall(cls.site)

    def test_its_files(self):
        """All that are in the repository, and no others."""

        def files(top):
            return {
                path.relative_to(top).as_posix()
                for path in top.rglob("fastbat_tf/**/*")
                if path.is_file() and path.suffix != ".pyc"
            }

        self.assertEqual(files(self.site), files(TOP))
        self.assertContainsSubset(
            {
                "fastbat_tf/__init__.pyi",
                "fastbat_tf/py.typed",
                "fastbat_tf/data/cifar10_mini/train.png",
                "fastbat_tf/training/callbacks/validation.py",
            },
            files(self.site),
        )

    def check_types(self, program):
        """The lines and messages of pyright's errors, in a user's project."""
        self.program.write_text(program)
        settings = {
            "extraPaths": [str(self.site)],
            "reportUnusedExpression": False,
        }
        self.program.with_name("pyrightconfig.json").write_text(
            json.dumps(settings)
        )
        process = subprocess.run(
            [
                pathlib.Path(sys.executable).with_name("pyright"),
                f"--pythonpath={sys.executable}",
                "--outputjson",
            ],
            cwd=self.program.parent,
            capture_output=True,
            text=True,
            timeout=300,
        )
        self.assertIn(process.returncode, (0, 1), process.stderr)
        answer = json.loads(process.stdout)
        self.assertEqual(answer["summary"]["filesAnalyzed"], 1)
        return {
            error["range"]["start"]["line"]: error["message"]
            for error in answer["generalDiagnostics"]
        }

    def test_types(self):
        """Only the wrong lines are reported, each by the name that is wrong."""
        right = len(PROGRAM.splitlines())
        errors = self.check_types("\n".join([PROGRAM[:-1], *WRONG_LINES]))
        self.assertEqual(
            list(errors), list(range(right, right + len(WRONG_LINES))), errors
        )
        for message, name in zip(
            errors.values(), WRONG_LINES.values(), strict=True
        ):
            self.assertIn(f'"{name}"', message)


if __name__ == "__main__":
    absltest.main()
