"""The training step as StableHLO."""

import importlib.util
import json
import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf

from fastbat_tf import FastAT, Free, RobustClassifier
from fastbat_tf.errors import InputError
from fastbat_tf.saving import stablehlo
from tests.support import testing


def build(method=None):
    """A compiled classifier, and a batch."""
    keras.utils.set_random_seed(0)
    robust = RobustClassifier(testing.small_network(), method or FastAT())
    robust.compile(keras.optimizers.SGD(0.1, momentum=0.9), jit_compile=True)
    images, labels = testing.images_and_labels(4, dtype="float32")
    return robust, (images, labels.astype("int32"))


class StablehloTest(tf.test.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.robust, cls.batch = build()
        cls.path = pathlib.Path(tf.compat.v1.test.get_temp_dir()) / "step"
        cls.description = stablehlo.export_step(cls.robust, cls.batch, cls.path)

    def test_text_takes_the_inputs_and_gives_the_outputs(self):
        text = (self.path / "step.mlir").read_text()
        self.assertIn("stablehlo.convolution", text)
        self.assertNotRegex(text, r"= \"?(mhlo|chlo)\.")
        main = (
            text.partition("func.func public @main(")[2]
            or (text.partition("func.func @main(")[2])
        )
        head, _, body = main.partition("-> (")
        self.assertEqual(head.count("%arg"), len(self.description["inputs"]))
        self.assertEqual(
            body.partition("{\n")[0].count("tensor<"),
            len(self.description["outputs"]),
        )

    def test_every_variable_has_a_value_and_a_new_value(self):
        states = [
            e["state"] for e in self.description["inputs"] if "state" in e
        ]
        after = [
            e["state"] for e in self.description["outputs"] if "state" in e
        ]
        with np.load(self.path / "state.npz") as values:
            self.assertContainsSubset(states, values)
        self.assertContainsSubset(after, states)
        for variable in self.robust.trainable_variables:
            self.assertIn(variable.path, after)
        written = json.loads((self.path / "step.json").read_text())
        self.assertEqual(written, self.description)

    def test_results_are_the_logs(self):
        names = {
            e["result"] for e in self.description["outputs"] if "result" in e
        }
        self.assertContainsSubset(["loss"], names)

    def test_prepared_batch(self):
        robust, (images, labels) = build()
        description = stablehlo.export_step(
            robust,
            {"pixels": np.uint8(255 * images), "labels": labels},
            self.path / "prepared",
            lambda pixels, labels: (tf.cast(pixels, "float32") / 255, labels),
        )
        given = [e for e in description["inputs"] if "argument" in e]
        self.assertEqual(
            [(e["argument"], e["dtype"]) for e in given],
            [("pixels", "uint8"), ("labels", "int32")],
        )

    def test_replays(self):
        robust, batch = build(Free())
        with self.assertRaisesRegex(InputError, "replays=1. Received"):
            stablehlo.export_step(robust, batch, self.path / "other")
        self.assertFalse((self.path / "other").exists())

    @pytest.mark.skipif(
        not importlib.util.find_spec("jax"),
        reason="JAX cannot be imported; it is not among the requirements.",
    )
    def test_as_tensorflow(self):
        import jax

        from benchmarks.portable.run import Computation, read_arrays

        jax.config.update("jax_enable_x64", True)
        device = jax.devices("cpu")[0]
        step = Computation(self.path, device)
        arrays = read_arrays(self.path / "state.npz")
        state = {k: jax.device_put(arrays[k], device) for k in arrays}
        images, labels = self.batch
        for _ in range(3):
            step(state, images=images, labels=labels)
        for _ in range(3):
            self.robust.train_on_batch(images, labels)
        for variable in self.robust.classifier.variables:
            self.assertAllClose(state[variable.path], variable, 0, 1e-5)


if __name__ == "__main__":
    tf.test.main()
