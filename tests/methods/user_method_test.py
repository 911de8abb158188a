"""A method that is written outside of the library."""

import inspect
import json
import pathlib
import subprocess
import sys
import tempfile

import keras
import pytest
import tensorflow as tf
from absl.testing import parameterized

import fastbat_tf
from fastbat_tf import (
    FastBAT,
    Method,
    RobustClassifier,
    Solution,
    StepContext,
    option,
)
from fastbat_tf.errors import InputError
from tests.support import testing

TOP = pathlib.Path(__file__).parents[2]


class Noise(Method):
    """Trains on images with uniform noise."""

    epsilon: float = option(8 / 255, "Radius of the noise.", interval="[0, 1]")
    strength: float = option(formula="2 * epsilon", help="What is drawn.")
    kind: str = option("flat", "Shape.", choices=("flat", "round"))
    repeats: int = option(3, interval="[1, inf)")

    def solve(self, context: StepContext):
        return Solution(context.random_start(self.strength))


class MoreNoise(Noise):
    repeats = 5
    extra: float = option(1.0, interval="[epsilon, 2]")


name_in_keras = keras.saving.get_registered_name


class UserMethodTest(tf.test.TestCase, parameterized.TestCase):
    def test_constructor(self):
        self.assertEqual(
            Noise(0.5).get_config(),
            {"epsilon": 0.5, "strength": 1.0, "kind": "flat", "repeats": 3},
        )
        self.assertEqual(Noise(strength=None).strength, 16 / 255)
        self.assertEqual(
            list(inspect.signature(Noise).parameters),
            ["epsilon", "strength", "kind", "repeats"],
        )
        self.assertIn(
            "strength: float = 2 * epsilon", str(inspect.signature(Noise))
        )
        self.assertIn(
            "strength: What is drawn. Defaults to `2 * epsilon`.",
            inspect.getdoc(Noise),
        )
        json.dumps(Noise().get_config())
        self.assertEqual(
            repr(Noise(0.25)),
            "Noise(epsilon=0.25, strength=0.5, kind='flat', repeats=3)",
        )

    def test_inheritance(self):
        self.assertEqual(MoreNoise().repeats, 5)
        self.assertEqual(Noise().repeats, 3)
        self.assertEqual(
            list(MoreNoise.options),
            ["epsilon", "strength", "kind", "repeats", "extra"],
        )

    @parameterized.parameters(
        ("epsilon", 2, "`epsilon` .* in .0, 1.. Received: epsilon=2$"),
        ("epsilon", "8/255", "Received: epsilon=8/255$"),
        ("strength", float("nan"), "`strength` .*inf.*strength=nan$"),
        ("kind", "oval", "one of flat, round. Received: kind=oval$"),
        ("repeats", 1.5, "an integer in .1, inf.. Received: repeats=1.5$"),
        ("extra", 0.01, "in .epsilon, 2.. Received: extra=0.01, epsilon=0.03"),
    )
    def test_wrong_values(self, name, value, message):
        with self.assertRaisesRegex(InputError, message):
            MoreNoise(**{name: value})

    def test_unknown_option(self):
        with self.assertRaisesRegex(TypeError, "unexpected keyword.*'steps'"):
            Noise(steps=3)

    @parameterized.parameters("name", "radii", "solve", "options", "scaled")
    def test_names_of_the_base_are_rejected(self, name):
        with self.assertRaisesRegex(
            InputError, f"^An option of Bad .* Received: option={name}$"
        ):
            type("Bad", (Method,), {name: option(1.0)})

    @parameterized.parameters(
        (
            {"a": option(formula="2 * b"), "b": option(1.0)},
            "declared before: name 'b' is not defined",
        ),
        ({"a": option(3.0, interval="[0, 1]")}, r"`a` .*Received: a=3.0"),
        ({"a": option(formula="2 *")}, "invalid syntax"),
        ({"__init__": lambda self: None}, "`get_config` beside .*__init__"),
        (
            {"a": 1.0, "__annotations__": {"a": float}},
            "`a` of Bad has an annotation, but is no option.*Received: a=1.0",
        ),
    )
    def test_wrong_declarations(self, namespace, message):
        with self.assertRaisesRegex(InputError, message):
            type("Bad", (Method,), namespace)

    @parameterized.parameters(
        ({"interval": "0 to 1"}, "interval=0 to 1$"),
        ({"kind": "number"}, "kind=number"),
        ({"kind": "choice"}, r"kind=choice, choices=\(\)$"),
    )
    def test_wrong_options(self, arguments, message):
        with self.assertRaisesRegex(InputError, message):
            option(1.0, **arguments)

    def test_packages(self):
        self.assertEqual(name_in_keras(FastBAT), "fastbat_tf>FastBAT")
        self.assertEqual(name_in_keras(Noise), "tests>Noise")

        class Mine(Method, package="mine"):
            def solve(self, context):
                return Solution(tf.zeros_like(context.images))

        self.assertEqual(name_in_keras(Mine), "mine>Mine")
        decorated = keras.saving.register_keras_serializable("other")(Mine)
        self.assertEqual(name_in_keras(decorated), "other>Mine")
        self.assertIs(keras.saving.get_registered_object("other>Mine"), Mine)

    def test_a_class_of_the_same_name(self):
        mine = type("FastBAT", (Noise,), {"__module__": "__main__"})
        self.assertEqual(name_in_keras(mine), "Custom>FastBAT")
        for method, cls in ((FastBAT(0.5), FastBAT), (mine(0.5), mine)):
            saved = keras.saving.serialize_keras_object(method)
            loaded = keras.saving.deserialize_keras_object(saved)
            self.assertIs(type(loaded), cls)
            self.assertEqual(loaded.get_config(), method.get_config())

    def test_training(self):
        robust = RobustClassifier(testing.small_network(), MoreNoise(0.25))
        robust.compile()
        images, labels = testing.images_and_labels(4)
        robust.fit(images, labels, verbose=0)
        path = f"{self.get_temp_dir()}/model.keras"
        robust.save(path)
        loaded = keras.models.load_model(path)
        self.assertIsInstance(loaded.method, MoreNoise)
        self.assertEqual(loaded.method.get_config(), robust.method.get_config())
        self.assertAllClose(loaded(images), robust(images))

    @pytest.mark.slow
    def test_a_new_process(self):
        """A script defines a method, trains and saves; another one loads."""
        directory = self.enterContext(tempfile.TemporaryDirectory())
        definition = inspect.getsource(Noise).replace("Noise", "FastBAT")
        imports = (
            "import keras\n"
            "from fastbat_tf import Method, RobustClassifier, Solution\n"
            "from fastbat_tf import StepContext, option\n"
            "from tests.support import testing\n"
        )
        train = (
            "network = testing.small_network()\n"
            "robust = RobustClassifier(network, FastBAT(0.25))\n"
            "robust.compile().fit(*testing.images_and_labels(4), verbose=0)\n"
            "robust.save('model.keras')\n"
        )
        load = (
            "loaded = keras.models.load_model('model.keras')\n"
            "assert type(loaded.method) is FastBAT\n"
            "print(loaded.method)\n"
        )
        for name, program in (("train", train), ("load", load)):
            path = pathlib.Path(directory) / f"{name}.py"
            path.write_text(f"{imports}\n\n{definition}\n\n{program}")
            process = subprocess.run(
                [sys.executable, str(path)],
                cwd=directory,
                env={"PYTHONPATH": str(TOP)},
                capture_output=True,
                text=True,
            )
            self.assertEqual(process.returncode, 0, process.stderr)
        self.assertEqual(
            process.stdout.strip(),
            "FastBAT(epsilon=0.25, strength=0.5, kind='flat', repeats=3)",
        )

    def test_public_names(self):
        for name in ("Method", "Solution", "StepContext", "option"):
            self.assertIn(name, fastbat_tf.__all__)


if __name__ == "__main__":
    tf.test.main()
