"""Tests that Keras finds the classes of this package in saved files."""

import importlib
import json
import pkgutil
import tempfile

import keras
import tensorflow as tf
from absl.testing import parameterized

import fastbat_tf
from fastbat_tf import EpsilonSchedule
from fastbat_tf.models.blocks import softplus10
from fastbat_tf.saving import registration
from fastbat_tf.training import losses, schedules
from tests.support import testing
from tests.support.command_line import python

LOAD = """
import json, keras, numpy, sys
plain, robust, config = sys.argv[1:]
loaded = keras.saving.load_model(robust)
schedule = keras.saving.deserialize_keras_object(json.loads(config))
zoo = keras.saving.load_model(plain)
print(type(zoo.layers[2]).__module__, zoo.layers[3].activation.__module__)
results = fastbat_tf.evaluate_robustness(
    plain, (numpy.full((4, 8, 8, 3), 0.5, "float32"), [0, 1, 2, 3]), ["fgsm"]
)
print(results["clean_accuracy"])
print(type(loaded.method), float(loaded.optimizer.learning_rate))
print(type(loaded.loss), type(loaded.epsilon_schedule), type(schedule))
print(type(keras.__loader__).__name__)
"""


class RegistrationTest(parameterized.TestCase, tf.test.TestCase):
    @parameterized.parameters(
        "import keras; import fastbat_tf",
        # TensorFlow looks for Keras without importing it.
        "import fastbat_tf, tensorflow; import keras",
    )
    def test_a_new_process(self, imports):
        directory = self.enterContext(tempfile.TemporaryDirectory())
        network = testing.small_network(softplus10)
        network.save(f"{directory}/plain.keras")
        robust = fastbat_tf.RobustClassifier(network, fastbat_tf.FastBAT())
        robust.compile(
            keras.optimizers.SGD(schedules.get("constant", 0.25, 1, 2)),
            losses.get("dlr"),
            epsilon_schedule=EpsilonSchedule(4),
        )
        robust.save(f"{directory}/robust.keras")
        config = keras.saving.serialize_keras_object(robust.epsilon_schedule)
        process = python(
            "-c",
            f"{imports}\n{LOAD}",
            f"{directory}/plain.keras",
            f"{directory}/robust.keras",
            json.dumps(config),
        )
        self.assertEqual(
            process.stdout.splitlines(),
            [
                "fastbat_tf.layers.batch_normalization "
                "fastbat_tf.models.blocks",
                "0.25",
                "<class 'fastbat_tf.methods.fastbat.FastBAT'> 0.25",
                "<class 'fastbat_tf.training.losses.DLR'> "
                f"{EpsilonSchedule} {EpsilonSchedule}",
                "SourceFileLoader",
            ],
            process.stderr,
        )

    def test_the_import_stays_quick(self):
        process = python(
            "-c",
            "import fastbat_tf, sys\n"
            "heavy = {'importlib.abc', 'keras', 'tensorflow', 'wrapt'}\n"
            "print(heavy & set(sys.modules))",
        )
        self.assertEqual((process.stdout, process.stderr), ("set()\n", ""))

    def test_the_function_of_the_zoo_in_a_file(self):
        """Files name it as they did when the zoo was a package of its own."""
        written = {
            "module": "builtins",
            "class_name": "function",
            "config": "fastbat_tf_models>softplus10",
            "registered_name": "function",
        }
        self.assertEqual(
            keras.saving.serialize_keras_object(softplus10), written
        )
        process = python(
            "-c",
            "import fastbat_tf, json, keras, sys\n"
            "config = json.loads(sys.argv[1])\n"
            "print(keras.saving.deserialize_keras_object(config).__module__)",
            json.dumps(written),
        )
        self.assertEqual(
            process.stdout, "fastbat_tf.models.blocks\n", process.stderr
        )

    def test_all_classes_are_registered(self):
        """A module that registers a class is listed, with that class."""
        for module in pkgutil.walk_packages(fastbat_tf.__path__, "fastbat_tf."):
            importlib.import_module(module.name)
        found = {
            name.removeprefix("fastbat_tf>"): cls.__module__
            for name, cls in keras.saving.get_custom_objects().items()
            if name.startswith("fastbat_tf>")
        }
        listed = {
            name: f"fastbat_tf.{module}"
            for name, module in registration.modules().items()
        }
        self.assertEqual(found, listed)


if __name__ == "__main__":
    tf.test.main()
