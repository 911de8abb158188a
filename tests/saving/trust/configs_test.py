"""Tests configs that would have Keras run what their author wants."""

import json
import sys
from unittest import mock

import h5py
import keras
import tensorflow as tf
from absl.testing import parameterized

from fastbat_tf.errors import InputError
from fastbat_tf.saving import model_files
from fastbat_tf.saving.trust import configs
from tests.support.planted_models import PlantedTestCase
from tests.support.testing import small_network


def function(module, name, **more):
    named = {"module": module, "class_name": "function", "config": name}
    return {**named, "registered_name": name, **more}


def layer(kind, module="keras.layers", **config):
    return {
        "module": module,
        "class_name": kind,
        "config": {"name": "planted", **config},
        "registered_name": None,
    }


PYTHON = {"class_name": "__lambda__", "config": {"code": "x", "defaults": None}}

# Kinds of layers, and what is said of them.
REFUSED = {
    "lambda": (layer("Lambda", function=PYTHON), "is Python code"),
    "lambda_of_keras_2": (
        layer("Lambda", function=["4wEAAAA=", None, None]),
        "is Python code",
    ),
    "output_shape": (
        layer("Lambda", function="relu", output_shape=PYTHON),
        "is Python code",
    ),
    "activation": (layer("Dense", units=2, activation=PYTHON), "is Python cod"),
    "initializer": (
        layer("Dense", units=2, kernel_initializer=PYTHON),
        "is Python code",
    ),
    "wrapped": (
        layer("TimeDistributed", layer=layer("Lambda", function=PYTHON)),
        "is Python code",
    ),
    "saved_model": (layer("TFSMLayer", filepath="m"), "is a program"),
    "pickle": (layer("TorchModuleWrapper", module="x"), "is a program"),
    "vocabulary": (
        layer("StringLookup", vocabulary="/etc/passwd"),
        "reads the file '/etc/passwd'",
    ),
    "address": (
        layer("TextVectorization", vocabulary="https://example.org/words"),
        "reads the file 'https://example.org/words'",
    ),
    "get_file": (
        layer("Lambda", function=function("keras.utils", "get_file")),
        r"calls keras\.utils\.get_file, which does not compute",
    ),
    "plot_model": (
        layer("Lambda", function=function("keras.utils", "plot_model")),
        r"calls keras\.utils\.plot_model",
    ),
    "as_a_class": (
        layer("plot_model", "keras.utils"),
        r"calls keras\.utils\.plot_model",
    ),
    "hidden_behind_a_registered_name": (
        layer(
            "Lambda",
            function=function(
                "keras.utils",
                "plot_model",
                registered_name="fastbat_tf>RobustClassifier",
            ),
        ),
        r"calls keras\.utils\.plot_model",
    ),
    "unsafe": (
        layer("enable_unsafe_deserialization", "keras.config"),
        "which does not compute",
    ),
    "imported": (layer("Layer", "keras_hub.layers"), "which would be imported"),
}


class CheckTest(parameterized.TestCase):
    @parameterized.named_parameters((n, *case) for n, case in REFUSED.items())
    def test_refused(self, planted, fault):
        inner = {"name": "whole", "layers": [layer("Flatten"), planted]}
        config = {"class_name": "Functional", "config": inner}
        with self.assertRaisesRegex(
            InputError,
            rf"^The layer planted \(\w+\) of the model .*{fault}.*--allow_code"
            ".* Received: model_path=m$",
        ):
            configs.check_code(config, "model_path=m")

    @parameterized.parameters("compile_config", "build_config")
    def test_beside_the_layers(self, key):
        config = {
            "class_name": "Functional",
            "config": {"name": "whole"},
            key: {"metrics": [PYTHON]},
        }
        with self.assertRaisesRegex(InputError, "whole .*is Python code"):
            configs.check_code(config, "model_path=m")


class LoadTest(PlantedTestCase):
    """What Keras does with a config that passes."""

    @parameterized.product(
        module=["os", "builtins", "subprocess", "planted_module", "keras_hub"],
        place=["activation", "kernel_initializer", "kernel_regularizer"],
    )
    def test_no_module_is_imported(self, module, place):
        """A module in the working directory is not, either."""
        mark = self.directory / "mark"
        code = f"open({str(mark)!r}, 'w').close()\n\ndef system(x): pass\n"
        for name in ("planted_module", "keras_hub"):
            (self.directory / f"{name}.py").write_text(code)
        self.enterContext(
            mock.patch.object(sys, "path", [str(self.directory), *sys.path])
        )
        for planted in (
            function(module, "system"),
            function(module, "eval"),
            {"module": module, "class_name": "Popen", "config": {"args": "x"}},
        ):
            path = self.planted.with_layer(**{place: planted})
            with self.assertRaises(InputError) as caught:
                model_files.load(path)
            self.assertIn(f"model_path={path}", str(caught.exception))
            self.assertNotIn("\n", str(caught.exception))
        self.assertFalse(mark.exists())

    def test_h5(self):
        path = self.directory / "model.h5"
        small_network().save(path)
        with h5py.File(path, "r+") as file:
            config = json.loads(file.attrs["model_config"])
            config["config"]["layers"][1]["config"]["activation"] = PYTHON
            file.attrs["model_config"] = json.dumps(config)
        with self.assertRaisesRegex(
            InputError, r"The layer conv \(Conv2D\) of the model is Python code"
        ):
            model_files.load(path)

    def test_models_of_keras(self):
        """Ordinary models pass."""
        path = self.directory / "keras.keras"
        inputs = keras.Input((8, 8, 3))
        outputs = keras.layers.Rescaling(2.0)(inputs)
        outputs = keras.ops.relu(keras.layers.RandomFlip()(outputs) - 0.5)
        outputs = keras.layers.Conv2D(
            2,
            3,
            activation="swish",
            kernel_regularizer=keras.regularizers.L2(0.1),
            kernel_constraint="max_norm",
        )(outputs)
        outputs = keras.layers.Dense(4, activation=keras.ops.tanh)(
            keras.layers.GlobalAveragePooling2D()(outputs)
        )
        model = keras.Model(inputs, outputs)
        model.compile("adam", "mse", metrics=["accuracy"])
        model.save(path)
        images = tf.random.uniform((2, 8, 8, 3))
        expected = model(images, training=False)
        self.assertAllClose(model_files.load(path)(images), expected)


if __name__ == "__main__":
    tf.test.main()
