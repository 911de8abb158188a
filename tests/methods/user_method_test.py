"""A method that is written outside of the library."""

import copy
import inspect
import json
import math
import pathlib
import pickle
import subprocess
import sys
import tempfile
from typing import ClassVar

import keras
import numpy as np
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


class Weighted:
    """A mixin that declares an option, and changes another one."""

    strength = 0.5
    weight: float = option(1.0, "Weight")

    def solve(self, context):
        return Solution(self.weight * context.random_start(self.strength))


class WeightedNoise(Weighted, Noise):
    pass


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

    def test_mixins(self):
        self.assertEqual(
            WeightedNoise(weight=2).get_config(),
            {**Noise(strength=0.5).get_config(), "weight": 2.0},
        )
        self.assertEqual(WeightedNoise().weight, 1.0)
        self.assertEqual(Noise().strength, 16 / 255)

        class Later(Noise, Weighted):
            """Python looks at `Noise` first."""

        self.assertEqual(Later().strength, 16 / 255)
        self.assertEqual(Later(weight=3).weight, 3.0)
        self.assertIn(
            "weight: Weight. Defaults to `1`.", inspect.getdoc(WeightedNoise)
        )

    def test_concrete_bases(self):
        class Long(FastBAT):
            epsilon = 16 / 255
            step_size = 0.5

            def solve(self, context):
                return super().solve(context)

        self.assertEqual(
            Long().get_config(),
            FastBAT(16 / 255, step_size=0.5).get_config(),
        )
        self.assertEqual(FastBAT().epsilon, 8 / 255)

    def test_abstract_classes(self):
        class Abstract(Method):
            epsilon: float = option(0.5)

        with self.assertRaisesRegex(TypeError, "abstract"):
            Abstract()

        class Zero(Abstract):
            def solve(self, context):
                return Solution(tf.zeros_like(context.images))

        class Plain(Method):
            def solve(self, context):
                return Solution(tf.zeros_like(context.images))

        self.assertEqual(repr(Zero(0.25)), "Zero(epsilon=0.25)")
        self.assertEqual(repr(Plain()), "Plain()")

    def test_own_post_init(self):
        class Twice(Noise):
            def __post_init__(self):
                self.twice = 2 * self.strength

        class Thrice(Twice):
            extra: float = option(1)

            def __post_init__(self):
                super().__post_init__()
                self.thrice = 3 * self.strength

        self.assertEqual(Twice(0.5).twice, 2.0)
        self.assertEqual(Twice(0.5).get_config(), Noise(0.5).get_config())
        self.assertEqual((Thrice(0.5).twice, Thrice(0.5).thrice), (2.0, 3.0))
        with self.assertRaisesRegex(InputError, "Received: epsilon=2$"):
            Twice(2)

    def test_own_constructor(self):
        class Own(FastBAT):
            def __init__(self, epsilon=0.25, *, extra=3):
                super().__init__(epsilon)
                self.extra = extra

            def get_config(self):
                return {"epsilon": self.epsilon, "extra": self.extra}

        class Heir(Own):
            pass

        for cls in (Own, Heir):
            self.assertEqual(cls(extra=4).extra, 4)
            self.assertEqual(cls().step_size, 2000 / 255)
            loaded = cls.from_config(cls(0.5, extra=4).get_config())
            self.assertEqual((loaded.epsilon, loaded.extra), (0.5, 4))
            self.assertNotIn("step_size", inspect.getdoc(cls))

        class Forwarding:
            def __init__(self, *args, **kwargs):
                super().__init__(*args, **kwargs)

        with self.assertRaisesRegex(InputError, "Received: __init__$"):
            type("Bad", (Forwarding, Noise), {})

    def test_copies(self):
        noise = WeightedNoise(0.25, kind="round")
        for copied in (
            copy.copy(noise),
            copy.deepcopy(noise),
            pickle.loads(pickle.dumps(noise)),
        ):
            self.assertIs(type(copied), WeightedNoise)
            self.assertEqual(copied.get_config(), noise.get_config())
        robust = RobustClassifier(testing.small_network(), noise)
        cloned = keras.models.clone_model(robust)
        self.assertEqual(cloned.method.get_config(), noise.get_config())

    @parameterized.named_parameters(
        ("bool", True, 1),
        ("numpy", np.float32(2), 2),
        ("array", np.array(2), 2),
        ("tensor", tf.constant(2), 2),
        ("variable", keras.Variable(2.0), 2),
    )
    def test_types_of_values(self, given, expected):
        config = Noise(repeats=given).get_config()
        self.assertEqual(config["repeats"], expected)
        self.assertIs(type(config["repeats"]), int)
        strength = Noise(strength=given).strength
        self.assertEqual(strength, expected)
        self.assertIs(type(strength), float)

    def test_type_of_a_choice(self):
        self.assertIs(type(Noise(kind=np.str_("round")).kind), str)

    @parameterized.parameters(
        ("epsilon", 2, "`epsilon` .* in .0, 1.. Received: epsilon=2$"),
        ("epsilon", "8/255", "Received: epsilon='8/255'$"),
        ("epsilon", "0.5", "Received: epsilon='0.5'$"),
        ("epsilon", b"0.5", "Received: epsilon=b'0.5'$"),
        ("epsilon", math.nan, "Received: epsilon=nan$"),
        ("epsilon", 1j, "Received: epsilon=1j$"),
        ("epsilon", np.zeros(2), "Received: epsilon=.0. 0..$"),
        ("epsilon", [0.5], "Received: epsilon=.0.5.$"),
        ("kind", tf.constant("flat"), "one of flat, round. Received: kind="),
        ("kind", np.array(["flat", "oval"]), "one of flat, round. Received:"),
        ("strength", float("nan"), "`strength` .*inf.*strength=nan$"),
        ("kind", "oval", "one of flat, round. Received: kind=oval$"),
        ("repeats", 1.5, "an integer in .1, inf.. Received: repeats=1.5$"),
        ("extra", 0.01, "in .epsilon, 2.. Received: extra=0.01, epsilon=8/255"),
    )
    def test_wrong_values(self, name, value, message):
        with self.assertRaisesRegex(InputError, message):
            MoreNoise(**{name: value})

    def test_a_formula_that_fails(self):
        class Inverse(Noise):
            inverse: float = option(formula="1 / epsilon")

        self.assertEqual(Inverse(0, inverse=2).inverse, 2.0)
        with self.assertRaisesRegex(
            InputError, "^The default of `inverse`, .*Received: epsilon=0.0"
        ):
            Inverse(0)

    def test_annotations(self):
        class Annotated(Noise):
            text: "float" = option(1.0)
            constant: ClassVar[float] = option(2.0)
            none: float | None = option(formula="epsilon")

        self.assertEqual(Annotated(constant=3).constant, 3.0)
        parameters = inspect.signature(Annotated).parameters
        self.assertEqual(
            [parameters[x].annotation for x in ("text", "constant", "none")],
            ["float", float, float | None],
        )
        self.assertEqual(
            inspect.signature(FastBAT).parameters["implicit_lambda"].annotation,
            float | None,
        )

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
        ({"a": option(3.0, interval="[b, 4]")}, "to float: 'b'"),
        (
            {"a": option(0.0), "b": option(formula="1 / a")},
            r"`b`, 1 / a, .*\(float division by zero\).* Received: a=0.0$",
        ),
        (
            {"a": option("x", choices=("x",)), "b": option(formula="1 + a")},
            "unsupported operand",
        ),
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
