"""Runs the examples in the docstrings of the library.

They are lines that begin with `>>>`, or blocks of Python. A comment
`# doctest: +SKIP`, or `<!-- not executed: why -->` above a block, skips one.
"""

import ast
import contextlib
import doctest
import functools
import importlib
import inspect
import pathlib
import tempfile

import keras
import numpy as np
import tensorflow as tf
from absl.testing import absltest, parameterized
from safetensors.numpy import save_file

import fastbat_tf
from fastbat_tf.saving.export import export
from tests.support.docstrings import read_docstrings, without_equal
from tests.support.public_names import public_names
from tests.support.torch_cases import recorded
from tests.support.written_evaluations import write_evaluation

DOCSTRINGS = read_docstrings()
# The docstrings with a part that does not run, and why.
SKIPPED = {}


def build_model():
    """Returns a tiny classifier of 8 x 8 images."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, strides=2, use_bias=False)(inputs)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.Activation("softplus")(x)
    x = keras.layers.Flatten()(x)
    return keras.Model(inputs, keras.layers.Dense(10)(x))


@functools.cache
def given_names():
    """Returns the names that the examples assume."""
    draws = np.random.default_rng(0)
    images = draws.random((8, 8, 8, 3), np.float32)
    labels = np.arange(8)
    model = build_model()
    attack = fastbat_tf.attacks.FGSM()
    return {
        "keras": keras,
        "np": np,
        "tf": tf,
        "functools": functools,
        "pathlib": pathlib,
        "fastbat_tf": fastbat_tf,
        "fb": fastbat_tf,
        **{name: getattr(fastbat_tf, name) for name in fastbat_tf.__all__},
        "model": model,
        "standard_model": build_model(),
        "robust": fastbat_tf.RobustClassifier(model, fastbat_tf.Standard()),
        "images": images,
        "labels": labels,
        "data": tf.data.Dataset.from_tensor_slices((images, labels)).batch(8),
        "validation": (images, labels),
        "validation_images": images,
        "validation_labels": labels,
        "robust_accuracy": fastbat_tf.RobustAccuracy((images, labels), attack),
        "scores": fastbat_tf.OverfittingScores(
            (images, labels), attack, lambda *_, **__: 1.0
        ),
    }


class DocstringsTest(parameterized.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.directory = pathlib.Path(
            cls.enterClassContext(tempfile.TemporaryDirectory())
        )
        cls.addClassCleanup(keras.config.set_max_epochs, None)
        keras.config.set_max_epochs(2)  # Two show as much as twenty.
        export(build_model(), cls.directory / "runs/demo/saved_model")
        arrays, _ = recorded("deepmind_swish_wrn10_2")
        save_file(arrays, cls.directory / "robust.safetensors")
        corrupted = cls.directory / "CIFAR-10-C"
        corrupted.mkdir()
        np.save(corrupted / "fog.npy", np.zeros((5000, 8, 8, 3), np.uint8))
        np.save(corrupted / "labels.npy", np.arange(5000) % 10)
        for name in ("fastbat", "standard"):
            write_evaluation(cls.directory / "runs" / name, examples=20)

    @parameterized.named_parameters(
        (docstring.title, docstring) for docstring in without_equal(DOCSTRINGS)
    )
    def test_runs(self, docstring):
        module = importlib.import_module(docstring.module)
        # Where a user runs it, so that its classes are no classes of ours.
        names = {**given_names(), **vars(module), "__name__": "__main__"}
        names["optimizer"] = keras.optimizers.SGD()
        # Another example may have compiled them, too.
        names["model"].compile("sgd", "sparse_categorical_crossentropy")
        names["robust"].compile("sgd", weight_averaging=0.9)
        with contextlib.chdir(self.directory):
            for block in docstring.blocks:
                if block.executed:
                    code = compile(block.text, docstring.title, "exec")
                    exec(code, names)
            self.run_sessions(docstring, names)

    def run_sessions(self, docstring, names):
        title = docstring.title
        test = doctest.DocTest(
            docstring.sessions, names, title, title, 0, docstring=""
        )
        printed = []
        flags = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
        runner = doctest.DocTestRunner(verbose=False, optionflags=flags)
        result = runner.run(test, out=printed.append)
        self.assertEqual(result.failed, 0, "".join(printed))

    def test_public_names_are_those_of_fb(self):
        """A reader pastes an example after `import fastbat_tf as fb`."""
        for docstring in DOCSTRINGS:
            if not docstring.name:
                continue  # That of a module, for those who change it.
            code = [example.source for example in docstring.sessions]
            code += [block.text for block in docstring.blocks]
            nodes = list(ast.walk(ast.parse("\n".join(code))))
            used = {node.id for node in nodes if isinstance(node, ast.Name)}
            self.assertEmpty(used & set(fastbat_tf.__all__), docstring.title)

    def test_few_are_skipped(self):
        self.assertEqual(
            {d.title for d in DOCSTRINGS if d.is_skipped},
            SKIPPED.keys(),
        )

    def test_each_public_name_has_an_example(self):
        executed = {d.title for d in DOCSTRINGS if d.is_executed}
        lacking = []
        for value in public_names().values():
            if not callable(value):
                continue
            full = f"{value.__module__}.{value.__qualname__}"
            inner = any(other.startswith(f"{full}.") for other in executed)
            if full not in executed and not (inner and inspect.isclass(value)):
                lacking.append(full)
        self.assertEqual(
            lacking, [], "These need an example in their docstring."
        )


if __name__ == "__main__":
    absltest.main()
