"""Keras' own tests of `fit`, with models wrapped in `RobustClassifier`.

Keras' wheel holds `keras/src/trainers/trainer_test.py`. Its tests run as they
are; only the builders of its models are replaced, so that they return a
`RobustClassifier(model, Standard())`.
"""

import ast
import importlib.util
import inspect
import sys
import types
import warnings
from unittest import mock

import keras
from keras.src.utils import traceback_utils

from fastbat_tf import RobustClassifier, Standard

# The tests of Keras pass images of four pixels, except these. Keras' model
# takes the width from the first batch, but a classifier is built.
NARROW = (
    "test_evaluate_return_list_respect_metrics_order",
    "test_recompile",
    "test_stop_loop",
    "test_validation_data_infinite_generator",
)


class Wrapped(RobustClassifier):
    """A `RobustClassifier` without what it adds to the user's model.

    The tests list the logs and the weights. `RobustClassifier` logs more, by
    names with a prefix, and has a counter of steps.
    """

    def __init__(self, classifier, **kwargs):
        super().__init__(classifier, Standard(), **kwargs)

    def get_metrics_result(self):
        results = super().get_metrics_result()
        return {k: v for k, v in results.items() if k[:7] != "robust_"}

    def get_weights(self):
        return self.classifier.get_weights()


class ExampleModel(Wrapped):
    """As in Keras' file: a dense layer of ones."""

    width = 4

    def __init__(self, units):
        dense = keras.layers.Dense(
            units, use_bias=False, kernel_initializer="ones"
        )
        pixels = keras.Input((self.width,))
        super().__init__(keras.Sequential([pixels, dense]))


class CustomTrainTestStepModel(ExampleModel):
    """As in Keras' file."""

    def train_step(self, data):
        return {**super().train_step(data), "my_custom_metric": 10.0}

    def test_step(self, data):
        return {**super().test_step(data), "my_custom_metric": 5.0}


class Built(Wrapped):
    """A model that is given, on the numbers below 100.

    If its outputs are scalars, the classifier returns vectors of one value.
    """

    def __init__(self, model):
        self.scalars = len(model.outputs[0].shape) == 1
        if self.scalars:
            model = keras.Sequential([model, keras.layers.Reshape((1,))])
        super().__init__(model, pixel_range=(0, 99))

    def predict(self, *args, **kwargs):
        outputs = super().predict(*args, **kwargs)
        return outputs[:, 0] if self.scalars else outputs


class Model(Built):
    """Stands for `keras.Model(inputs, outputs)`, and can be subclassed."""

    def __init__(self, inputs, outputs):
        super().__init__(keras.Model(inputs, outputs))


class Sequential(Built):
    """Stands for `keras.Sequential(layers)`."""

    def __init__(self, layers):
        super().__init__(keras.Sequential(layers))


def load():
    """Loads Keras' file of tests, with its models wrapped."""
    spec = importlib.util.find_spec("keras.src.trainers.trainer_test")
    tests = importlib.util.module_from_spec(spec)
    missing = {"jax": types.ModuleType("jax")}  # Imported, and not used.
    with mock.patch.dict(sys.modules, missing), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Its marks are not ours.
        spec.loader.exec_module(tests)
    tests.ExampleModel = ExampleModel
    tests.CustomTrainTestStepModel = CustomTrainTestStepModel
    tests.keras = types.SimpleNamespace(
        **{**vars(keras), "Model": Model, "Sequential": Sequential}
    )
    return tests


def names_of_tests(module):
    """Lists the tests of a file, without their parameters."""
    cases = [
        node
        for node in ast.parse(inspect.getsource(module)).body
        if isinstance(node, ast.ClassDef)
        and any("TestCase" in ast.unparse(base) for base in node.bases)
    ]
    return [
        node.name
        for case in cases
        for node in case.body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    ]


def prepare(test):
    """Call this in `setUp`, after Keras' own `setUp`."""
    narrow = test._testMethodName.startswith(NARROW)
    test.enterContext(
        mock.patch.object(ExampleModel, "width", 2 if narrow else 4)
    )
    # Keras' `setUp` leaves this off for whatever runs next.
    test.addCleanup(traceback_utils.enable_traceback_filtering)
