"""What pyright says of a user's program: all that is wrong, and nothing else.

pyright runs once, as in an editor without settings, on a project beside an
installed `fastbat_tf`: tests/typing/misuse.py, tests/typing/right.py, the
documentation's Python, and a wrong line for each option of each method.
"""

import inspect
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import keras
from absl.testing import absltest, parameterized

from fastbat_tf import attacks, methods
from fastbat_tf.attacks.base import Settings
from fastbat_tf.layers.keras_arguments import (
    BatchNormalizationArguments,
    LayerArguments,
)
from fastbat_tf.training.keras_signatures import Signatures
from tests.support.command_line import TOP
from tests.support.documentation import executed_pages, read_blocks
from tests.support.public_names import public_names

HERE = TOP / "tests/typing"
ARGUMENT, CALL = "reportArgumentType", "reportCallIssue"
# What has no argument whose type is known; the others have a line of each rule.
NO_CALL = {
    "Method": "abstract",
    "attacks.Attack": "abstract",
    "attacks.SteppedAttack": "abstract",
    "attacks.TargetableAttack": "abstract",
}
NO_ARGUMENT = {
    **NO_CALL,
    "Solution": "tensors",
    "attacks.AdversarialExamples": "tensors",
    "attacks.NearestExamples": "arrays",
}
# The documentation's lines of which Keras or TensorFlow say too little.
FOREIGN = (
    'parameter "learning_rate" of type "float"',  # A schedule is one, too.
    '"TensorCompatible"',  # `from_tensors` takes a dict, too.
    '"build" overrides class "Layer"',
    # What `load_model` returns.
    '"fit" is not a known attribute of "None"',
    'attribute "fit" for class',
)
# What tests/documentation_test.py gives to the examples.
GIVEN = """\
import keras
import numpy as np
import tensorflow as tf

import fastbat_tf
import fastbat_tf as fb
from fastbat_tf import RobustClassifier

model: keras.Model
classifier: keras.Model
images: np.ndarray
labels: np.ndarray
test_images: np.ndarray
test_labels: np.ndarray
validation: tuple[np.ndarray, np.ndarray]
photos: np.ndarray
photo_labels: np.ndarray
batches: tf.data.Dataset
pixels: np.ndarray
png: bytes
weights: np.ndarray
"""


def wrong_options():
    """Returns a program with wrong uses of each method, marked by the rule."""
    lines = ["import fastbat_tf as fb"]
    wrong = {"integer": 1.5, "norm": [2]}
    for method in methods.METHODS:
        cls = methods.get_class(method)
        lines.append(f"fb.{cls.__name__}(nonsense=3)  # {CALL}")
        for name, option in cls.options.items():
            value = wrong.get(option.kind, '"oops"')
            lines.append(f"fb.{cls.__name__}({name}={value})  # {ARGUMENT}")
    return "\n".join(lines)


def expected(program):
    """Returns the pairs of a line and a rule that the program marks."""
    return {
        (number, rule)
        for number, line in enumerate(program.splitlines(), 1)
        for rule in re.findall(r"# (report\w+)$", line)
    }


class TypesTest(absltest.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        directory = pathlib.Path(
            cls.enterClassContext(tempfile.TemporaryDirectory())
        )
        for path in (TOP / "fastbat_tf").rglob("*"):
            if path.suffix in (".py", ".pyi", ".typed"):
                copy = directory / "site" / path.relative_to(TOP)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, copy)
        cls.project = directory / "project"
        shutil.copytree(HERE, cls.project)
        (cls.project / "options.py").write_text(wrong_options())
        (cls.project / "given.py").write_text(GIVEN)
        for page in executed_pages():
            blocks = read_blocks(page, "python")
            (cls.project / page.replace("/", "_")).with_suffix(
                ".py"
            ).write_text(
                "from given import *\n"
                + "\n".join(block.text for block in blocks if block.executed)
            )
        cls.errors = cls.check_types(directory / "site")

    @classmethod
    def check_types(cls, site):
        """Returns pyright's errors as (line, rule, message), by file."""
        process = subprocess.run(
            [
                pathlib.Path(sys.executable).with_name("pyright"),
                f"--pythonpath={sys.executable}",
                "--outputjson",
            ],
            cwd=cls.project,
            env={**os.environ, "PYTHONPATH": str(site)},
            capture_output=True,
            text=True,
            timeout=300,
        )
        answer = json.loads(process.stdout)
        files = {path.name: [] for path in cls.project.glob("*.py")}
        assert answer["summary"]["filesAnalyzed"] == len(files), process.stderr
        for error in answer["generalDiagnostics"]:
            files[pathlib.Path(error["file"]).name].append(
                (
                    error["range"]["start"]["line"] + 1,
                    error.get("rule"),
                    error["message"],
                )
            )
        return files

    def assert_found(self, file):
        program = (self.project / file).read_text()
        found = {error[:2] for error in self.errors[file]}
        self.assertEqual(found, expected(program), self.errors[file])

    def test_each_misuse_is_found(self):
        self.assert_found("misuse.py")

    def test_each_wrong_option_is_found(self):
        self.assertLen(
            re.findall("nonsense", (self.project / "options.py").read_text()),
            len(methods.METHODS),
        )
        self.assert_found("options.py")

    def test_what_is_right_is_not_reported(self):
        self.assertEqual(self.errors["right.py"], [])

    def test_the_documentation_is_not_reported(self):
        others = {"misuse.py", "options.py", "right.py"}
        found = [
            (file, *error)
            for file, errors in self.errors.items()
            if file not in others
            for error in errors
            if not any(text in error[-1] for text in FOREIGN)
        ]
        self.assertEqual(found, [])

    def test_each_public_name_is_misused(self):
        """misuse.py has a line of both rules for each that is called."""
        lines = (HERE / "misuse.py").read_text().splitlines()
        known = {methods.get_class(method) for method in methods.METHODS}
        for name, value in public_names().items():
            if not callable(value) or value in known:
                continue
            for rule, exempt in ((ARGUMENT, NO_ARGUMENT), (CALL, NO_CALL)):
                use = rf"\bfb\.{re.escape(name)}\(.*# {rule}$"
                self.assertEqual(
                    not any(re.search(use, line) for line in lines),
                    name in exempt,
                    f"tests/typing/misuse.py needs a line fb.{name}(...)  "
                    f"# {rule}",
                )

    def test_each_public_function_is_annotated(self):
        """Without annotations pyright would find nothing in it."""
        for name, value in public_names().items():
            if inspect.isfunction(value):
                for parameter in inspect.signature(value).parameters.values():
                    self.assertIsNot(
                        parameter.annotation,
                        parameter.empty,
                        f"fb.{name}: annotate {parameter.name}",
                    )


class SignaturesTest(parameterized.TestCase):
    @parameterized.parameters(
        (Settings, attacks.Attack),
        (LayerArguments, keras.layers.Layer),
        (BatchNormalizationArguments, keras.layers.BatchNormalization),
    )
    def test_arguments_that_are_handed_on(self, types, to):
        """The types have the names of all arguments, and no others."""
        expected = set(inspect.signature(to.__init__).parameters)
        if issubclass(to, keras.layers.Layer):
            expected |= set(
                inspect.signature(keras.layers.Layer.__init__).parameters
            )
        expected -= {"self", "kwargs"}
        if types is Settings:  # Each attack states its radius itself.
            expected.remove("epsilon")
        self.assertEqual(set(types.__annotations__), expected)

    @parameterized.parameters("fit", "evaluate", "predict", "train_on_batch")
    def test_those_of_keras(self, name):
        """Our types are on Keras' arguments: the same names and defaults."""

        def arguments(function):
            parameters = inspect.signature(function).parameters
            return [
                (parameter.name, parameter.default)
                for parameter in parameters.values()
                if parameter.name != "kwargs"
            ]

        self.assertEqual(
            arguments(getattr(Signatures, name)),
            arguments(getattr(keras.Model, name)),
        )


if __name__ == "__main__":
    absltest.main()
