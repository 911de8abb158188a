"""Tests of methods that are written in a script, a notebook or a module."""

import copy
import sys
import types

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from fastbat_tf import FastAT, Method, RobustClassifier, Solution, option
from fastbat_tf.draws import Draws
from fastbat_tf.errors import InputError
from fastbat_tf.methods.state import Slot
from tests.support import testing

SOURCE = """
class {name}(Method):
    epsilon: float = option(0.1, "Radius.")

    def solve(self, context):
        return Solution(context.random_start(self.epsilon))
"""


def define(name, module):
    """Defines a method as a script or a module would."""
    namespace = {
        "__name__": module,
        "Method": Method,
        "Solution": Solution,
        "option": option,
    }
    sys.modules.setdefault(module, types.ModuleType(module))
    exec(SOURCE.format(name=name), namespace)
    return namespace[name]


def saved(cls):
    robust = RobustClassifier(testing.small_network(), cls(0.5))
    return keras.saving.serialize_keras_object(robust)


def load(config, **custom_objects):
    config = copy.deepcopy(config)  # Keras changes it.
    with keras.saving.custom_object_scope(custom_objects):
        return keras.saving.deserialize_keras_object(config).method


class UserMethodTest(tf.test.TestCase):
    def test_the_class_of_the_same_module(self):
        """Even if another module of the package has one of the same name."""
        classes = [define("Same", f"laboratory.{x}") for x in ("one", "two")]
        for cls in classes:
            method = load(saved(cls))
            self.assertIs(type(method), cls)
            self.assertEqual(method.epsilon, 0.5)

    def test_a_cell_that_runs_again(self):
        config = saved(define("Again", "__main__"))
        last = define("Again", "__main__")
        self.assertIs(type(load(config)), last)

    def test_a_script_that_is_imported_now(self):
        moved = define("Moved", "script")
        config = saved(moved)
        config["config"]["method"].update(
            module="__main__", registered_name="Custom>Moved"
        )
        self.assertIs(type(load(config)), moved)

    def test_ambiguous(self):
        config = saved(define("DefinedTwice", "__main__"))
        config["config"]["method"].update(
            module="gone", registered_name="gone>DefinedTwice"
        )
        other = define("DefinedTwice", "elsewhere")
        with self.assertRaisesRegex(
            InputError,
            r'Several methods are named DefinedTwice; .*"gone>DefinedTwice": '
            r"\.\.\..* Received: modules=__main__, elsewhere$",
        ):
            load(config)
        for name in ("gone>DefinedTwice", "DefinedTwice"):
            self.assertIs(type(load(config, **{name: other})), other)

    def test_undefined(self):
        """A method of the library does not stand in for it."""
        config = saved(define("Mine", "__main__"))
        config["config"]["method"].update(
            class_name="TRADES", registered_name="Custom>TRADES"
        )
        with self.assertRaisesRegex(
            InputError, "defined before loading. Received: class=TRADES$"
        ):
            load(config)

    def test_a_name_of_the_library(self):
        ours, mine = saved(FastAT), saved(define("FastAT", "__main__"))
        self.assertIs(type(load(ours)), FastAT)
        self.assertEqual(type(load(mine)).__module__, "__main__")
        with self.assertRaisesRegex(InputError, "package=fastbat_tf$"):

            class FastBAT(Method, package="fastbat_tf"):
                def solve(self, context):
                    return Solution(tf.zeros_like(context.images))

    def test_a_layer_that_is_undefined(self):
        layer = type(
            "Unknown", (keras.layers.Layer,), {"call": lambda self, x: x}
        )
        network = keras.Sequential(
            [keras.Input((8, 8, 3)), layer(), keras.layers.Flatten()]
        )
        robust = RobustClassifier(network, FastAT())
        config = keras.saving.serialize_keras_object(robust)
        with self.assertRaisesRegex(
            InputError,
            "register_keras_serializable or given in custom_objects, before "
            "loading. Received: class=Unknown$",
        ):
            load(config)
        self.assertIsInstance(load(config, Unknown=layer), FastAT)


class Drawn(Method):
    """Keeps what it draws in `solve` and in `update`."""

    def solve(self, context):
        context.note(solved=context.draw("solve", (3,), shared=True))
        return Solution(tf.zeros_like(context.images))

    def initial_state(self, sizes, draws):
        return {name: Slot((3,)) for name in ("solved", "same", "other")}

    def update(self, context):
        return {
            "solved": context.notes["solved"],
            "same": context.draw("solve", (3,), shared=True),
            "other": context.draw("update", (3,), shared=True),
        }


class DrawsTest(parameterized.TestCase, tf.test.TestCase):
    @parameterized.parameters(False, True)
    def test_draws_in_update(self, compiled):
        robust = RobustClassifier(testing.small_network(), Drawn(), seed=7)
        robust.compile("sgd", jit_compile=compiled)
        batch = testing.images_and_labels(4)
        for step in range(2):
            robust.train_on_batch(*batch)
            entries = robust.method_state.entries
            expected = Draws(7, step).uniform(
                "update", (3,), minval=0.0, maxval=1.0, dtype="float32"
            )
            self.assertAllEqual(entries["other"], expected)
            self.assertAllEqual(entries["same"], entries["solved"])
            self.assertTrue(np.all(entries["other"] != entries["same"]))


if __name__ == "__main__":
    tf.test.main()
