"""A run in mixed precision: its network, files and resume."""

import pathlib

import keras
import pytest
import tensorflow as tf
from absl.testing import parameterized

from fastbat_tf import models
from fastbat_tf.data.options import DataConfig
from fastbat_tf.experiment import building, loop
from fastbat_tf.experiment.config import Config, MethodConfig, ModelConfig
from fastbat_tf.runtime import half_precision
from fastbat_tf.saving.export import export
from fastbat_tf.training import variables
from fastbat_tf.training.options import PRECISIONS, TrainingConfig
from tests.support import testing

IN_FLOAT32 = ("normalization", "head.pool", "head.dense")


def config_of(precision, init_weights=None):
    return Config(
        data=DataConfig(dataset="cifar10_mini"),
        model=ModelConfig("wrn10_1", init_weights=init_weights),
        method=MethodConfig("fgsm"),
        training=TrainingConfig(precision=precision),
    )


class RunTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(*PRECISIONS)
    def test_the_network(self, precision):
        config = config_of(precision)
        self.assertEqual(Config.from_dict(config.to_dict()), config)
        robust = building.build_robust(config, models.get)
        self.assertEqual(keras.config.dtype_policy().name, "float32")
        half = precision.removeprefix("mixed_")
        for layer in robust.classifier.layers[1:]:
            expected = "float32" if layer.name in IN_FLOAT32 else half
            self.assertEqual(layer.compute_dtype, expected, layer.name)
            for variable in layer.variables:
                self.assertEqual(variable.dtype, "float32")
        images, _ = testing.images_and_labels(2, size=32)
        self.assertEqual(robust(images).dtype, tf.float32)

    def test_earlier_runs_were_in_float32(self):
        groups = config_of("float32").to_dict()
        del groups["training"]["precision"]
        self.assertEqual(Config.from_dict(groups), config_of("float32"))

    @parameterized.parameters("mixed_bfloat16", "mixed_float16")
    @pytest.mark.quick("mixed_float16")
    def test_initial_weights_and_served_model(self, precision):
        directory = pathlib.Path(self.get_temp_dir())
        plain = building.build_robust(config_of("float32"), models.get)
        path = str(directory / "plain.weights.h5")
        plain.save_weights(path)
        mixed = building.build_initial(config_of(precision, path), models.get)
        for a, b in zip(
            plain.classifier.weights, mixed.classifier.weights, strict=True
        ):
            self.assertAllEqual(a, b)
        export(mixed.classifier, directory / "served")
        served = tf.saved_model.load(str(directory / "served"))
        images, _ = testing.images_and_labels(4, size=32)
        logits = served.signatures["serving_default"](
            images=tf.constant(images)
        )["logits"]
        self.assertEqual(logits.dtype, tf.float32)
        self.assertAllClose(logits, mixed(images), 1e-6, 1e-6)
        self.assertAllClose(logits, plain(images), 0.05, 0.05)

    @pytest.mark.slow
    def test_resume_goes_on_from_the_scale(self):
        """And from the steps since it has changed."""
        images, labels = testing.images_and_labels(8, size=32)
        robust, other = (
            building.compile_robust(
                config,
                building.build_robust(config, models.get),
                steps_per_epoch=2,
            )
            for config in 2 * [config_of("mixed_float16")]
        )
        for model in (robust, other):
            loop.make_variables(model)
        robust.optimizer.dynamic_scale.assign(2.0**40)  # To be skipped.
        for _ in range(2):
            robust.train_on_batch(images, labels)
        self.assertEqual(robust.optimizer.dynamic_scale, 2.0**38)
        robust.optimizer.dynamic_scale.assign(2.0**8)
        robust.train_on_batch(images, labels)
        self.assertEqual(robust.optimizer.step_counter, 1)
        for one, two in zip(
            variables.state_variables(robust),
            variables.state_variables(other),
            strict=True,
        ):
            variables.assign(two, variables.values(one))
        for model in (robust, other):
            model.train_on_batch(images, labels)
        self.assertEqual(other.optimizer.step_counter, 2)
        for one, two in zip(
            variables.state_variables(robust),
            variables.state_variables(other),
            strict=True,
        ):
            self.assertAllEqual(one, two, one.path)


class KernelsTest(tf.test.TestCase):
    def test_what_is_missing_is_refused_in_one_line(self):
        for dtype in ("float16", "bfloat16"):
            self.assertIsNone(half_precision.missing_kernel(dtype, False))

        def broken(*_, **__):
            raise tf.errors.UnimplementedError(None, None, "No kernel.\nMore")

        half_precision.missing_kernel.cache_clear()
        self.addCleanup(half_precision.missing_kernel.cache_clear)
        original = tf.nn.conv2d
        tf.nn.conv2d = broken
        self.addCleanup(setattr, tf.nn, "conv2d", original)
        layer = keras.layers.Dense(2, dtype="mixed_float16", name="half")
        with self.assertRaisesRegex(
            ValueError, r"^.*float16 on this machine \(No kernel\.\).*=half in"
        ):
            half_precision.require_kernels([layer], False)

    def test_a_cpu_is_told(self):
        self.assertEqual(half_precision.notes("float32", False), [])
        for compiled, words in (
            (False, "--jit_compile=true"),
            (True, "slower"),
        ):
            (line,) = half_precision.notes("mixed_float16", compiled)
            self.assertIn(words, line)


if __name__ == "__main__":
    tf.test.main()
