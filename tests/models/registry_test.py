"""Tests names and options of the model zoo, and properties of all models."""

import functools
import importlib
import inspect
import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf
from absl.testing import parameterized

from fastbat_tf import (
    FastBAT,
    FusedBatchNormalization,
    RobustClassifier,
    models,
)
from fastbat_tf.models import blocks
from tests.support import testing

RESNETS = [name for name, spec in models.MODELS.items() if spec.arguments]
# One model for each kind of block, with a tiny width.
SMALL = (
    ("resnet18", {"width": 2}),
    ("resnet50", {"width": 1}),
    ("preact_resnet18", {"width": 2}),
    ("preact_resnet50", {"width": 1}),
    ("wrn10_1", {}),
    ("wrn10_1", {"dropout": 0.3}),
)
NORMALIZED = {"mean": (0.4, 0.5, 0.6), "std": (0.2, 0.25, 0.3)}


@functools.cache
def get(name, **options):
    """A model that is built once, for tests that do not change its layers."""
    return models.get(name, **options)


class NamesTest(parameterized.TestCase):
    def test_a_module_for_each_row(self):
        folder = pathlib.Path(models.__file__).parent
        for name, spec in models.MODELS.items():
            self.assertTrue((folder / f"{spec.module}.py").exists(), name)
            build = importlib.import_module(
                f"fastbat_tf.models.{spec.module}"
            ).build
            named = [
                parameter.name
                for parameter in inspect.signature(build).parameters.values()
                if parameter.kind is parameter.KEYWORD_ONLY
            ]
            self.assertContainsSubset(
                {*spec.options, *(spec.arguments or {})}, named, name
            )

    @parameterized.parameters(
        ("resnet18", "resnet", {"depth": 18}),
        ("preact_resnet152", "preact_resnet", {"depth": 152}),
        ("wrn10_1", "wide_resnet", {"depth": 10, "widening": 1}),
        ("wrn70_16", "wide_resnet", {"depth": 70, "widening": 16}),
        ("keras:VGG16", "applications", {"application": "VGG16"}),
    )
    def test_parse(self, name, module, arguments):
        self.assertEqual(models.parse(name)[:2], (module, arguments))

    @parameterized.parameters(
        ("resnet20", "preact_resnet152, wrnDEPTH_WIDTH, keras:NAME"),
        ("preact_resnet19", "one of resnet18, .*, preact_resnet18, "),
        # The forms are not names.
        ("wrnDEPTH_WIDTH", "one of resnet18"),
        ("keras:NAME", "MobileNetV3Small, "),
        ("keras:", "MobileNetV3Small, "),
        ("keras:mobilenet", "MobileNetV3Small, "),
        ("tensorflow:VGG16", "one of resnet18"),
        ("wrn17_4", r"6n \+ 4"),
        ("wrn4_1", r"6n \+ 4"),
        ("wrn16_0", "width of at least 1"),
        ("wrn16", "one of resnet18"),
        ("", "one of resnet18"),
    )
    def test_unknown(self, name, expected):
        with self.assertRaisesRegex(
            ValueError, rf"{expected}.*Received: model={name}$"
        ):
            models.get(name)


class OptionsTest(parameterized.TestCase):
    @parameterized.parameters(
        (
            "resnet18",
            {"width": None},
            {"width": 64, "activation": "relu", "stem": "cifar"},
        ),
        (
            "preact_resnet18",
            {"width": 3, "activation": "swish", "stem": "imagenet"},
            {
                "width": 3,
                "activation": "swish",
                "stem": "imagenet",
                "head": "normalized",
                "shortcut": "input",
            },
        ),
        (
            "wrn28_10",
            {"activation": "silu", "padding": "same"},
            {
                "activation": "swish",
                "stem": "cifar",
                "dropout": 0.0,
                "padding": "same",
            },
        ),
        (
            "preact_resnet50",
            {"head": "plain"},
            {
                "width": 64,
                "activation": "relu",
                "stem": "cifar",
                "head": "plain",
            },
        ),
        (
            "wrn16_8",
            {"dropout": 0.3},
            {
                "activation": "relu",
                "stem": "cifar",
                "dropout": 0.3,
                "padding": "symmetric",
            },
        ),
        ("keras:ResNet50", {"width": None}, {}),
    )
    def test_resolved(self, name, given, resolved):
        shape = (32, 32, 3)
        self.assertEqual(models.resolve_options(name, given, shape), resolved)

    @parameterized.parameters(
        ((64, 64, 3), "cifar"),
        ((1, 1, 1), "cifar"),
        ((64, 65, 3), "imagenet"),
        ((224, 224, 3), "imagenet"),
    )
    def test_stem_by_size(self, shape, stem):
        for name in ("resnet50", "preact_resnet18", "wrn16_2"):
            resolved = models.resolve_options(name, {}, shape)
            self.assertEqual(resolved["stem"], stem)

    @parameterized.parameters(
        ("wrn16_8", {"width": 64}, "wrn16_8, which has activation, stem, dr"),
        ("resnet18", {"dropout": 0.1}, "which has width, activation, stem"),
        ("preact_resnet18", {"dropout": 0.0}, "which has width"),
        ("keras:VGG16", {"activation": "relu"}, "which has no options"),
        ("resnet18", {"heads": 2}, "`heads` does not apply"),
        ("resnet18", {"width": 0}, "at least 1"),
        ("resnet18", {"activation": "gelu"}, "one of relu, softplus, swish"),
        ("resnet18", {"stem": "svhn"}, "one of cifar, imagenet"),
        ("wrn16_8", {"padding": "valid"}, "one of symmetric, same"),
        ("resnet18", {"padding": "same"}, "does not apply"),
        ("preact_resnet18", {"shortcut": "output"}, "one of input, activated"),
        ("preact_resnet50", {"shortcut": "input"}, "does not apply"),
        ("preact_resnet18", {"head": "bn"}, "one of normalized, plain"),
        ("wrn16_8", {"head": "plain"}, "does not apply"),
        ("wrn16_8", {"dropout": 1.0}, r"in \[0, 1\)"),
        ("wrn16_8", {"dropout": -0.1}, r"in \[0, 1\)"),
        ("resnet18", {"num_classes": 1}, "at least 2"),
        ("resnet18", {"mean": (0.5,)}, "together"),
        ("resnet18", {"input_shape": (8, 8)}, "be .height, width, channels"),
        (
            "keras:InceptionV3",
            {"input_shape": (74, 80, 3)},
            "keras:InceptionV3 .* at least 75 x 75 pixels",
        ),
    )
    def test_refused(self, name, arguments, expected):
        ((argument, value),) = arguments.items()
        with self.assertRaises(ValueError) as caught:
            models.get(name, **arguments)
        self.assertRegex(str(caught.exception), expected)
        self.assertIn(f"{argument}={value}", str(caught.exception))


class ModelsTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(*RESNETS, "wrn16_1", "wrn40_1", "wrn70_1")
    # Both kinds of block of each family.
    @pytest.mark.quick(
        "resnet34", "resnet50", "preact_resnet18", "preact_resnet101", "wrn16_1"
    )
    def test_forward(self, name):
        options = {} if name.startswith("wrn") else {"width": 1}
        model = models.get(
            name, num_classes=7, input_shape=(8, 12, 3), **NORMALIZED, **options
        )
        self.assertEqual(model.input_shape, (None, 8, 12, 3))
        logits = model(np.random.default_rng(0).random((2, 8, 12, 3)))
        self.assertEqual(logits.shape, (2, 7))
        self.assertAllInRange(logits, -1e3, 1e3)
        self.assertNotAllClose(logits[0], logits[1])
        self.assertEqual(model.name, name)

    @parameterized.parameters(*SMALL)
    def test_normalization_layers(self, name, options):
        model = models.get(
            name, batch_normalization=testing.ZOO_NORMALIZATION, **options
        )
        norms = [
            layer
            for layer in model.layers
            if isinstance(layer, keras.layers.BatchNormalization)
        ]
        self.assertNotEmpty(norms)
        for layer in norms:
            self.assertIsInstance(layer, FusedBatchNormalization)
            self.assertEqual((layer.momentum, layer.epsilon), (0.9, 1e-5))
        for layer in get(name, **options).layers:
            self.assertNotIsInstance(layer, FusedBatchNormalization)

    @parameterized.parameters(*SMALL)
    def test_pixels_are_normalized_inside(self, name, options):
        images, _ = testing.images_and_labels(2, size=32)
        inside = get(name, **NORMALIZED, **options)
        outside = get(name, **options)
        outside.set_weights(inside.get_weights())
        self.assertEqual(inside.layers[1].name, "normalization")
        mean, std = map(np.array, NORMALIZED.values())
        normalized = ((images - mean) / std).astype("float32")
        self.assertAllClose(inside(images), outside(normalized), 1e-4, 1e-5)

    @parameterized.parameters(*models.ACTIVATIONS)
    def test_activations(self, activation):
        """All activations are the chosen one, in each family."""
        function = blocks.ACTIVATIONS[activation]
        for name, options in SMALL:
            model = models.get(name, activation=activation, **options)
            chosen = [
                layer
                for layer in model.layers
                if isinstance(layer, keras.layers.Activation)
            ]
            norms = sum("bn" in x.name.split(".")[-1] for x in model.layers)
            self.assertGreaterEqual(len(chosen), norms // 2)
            for layer in chosen:
                self.assertIs(layer.activation, function)
                self.assertEndsWith(layer.name, f".{activation}")

    @parameterized.parameters(
        *SMALL,
        *((name, {**options, "stem": "imagenet"}) for name, options in SMALL),
        # Activations are equal in each family, see `test_activations`.
        ("wrn10_1", {"activation": "softplus"}),
        ("preact_resnet18", {"width": 2, "activation": "swish"}),
        ("keras:MobileNetV3Small", {}),
    )
    # Each family, stem and further option once.
    @pytest.mark.quick(
        "resnet50 imagenet",
        "preact_resnet18 swish",
        "wrn10_1 dropout",
        "MobileNetV3Small",
    )
    def test_save_and_load(self, name, options):
        network = get(name, **NORMALIZED, **options)
        images, _ = testing.images_and_labels(2, size=32)
        path = f"{self.get_temp_dir()}/model.keras"
        network.save(path)
        loaded = keras.models.load_model(path)
        self.assertAllClose(loaded(images), network(images), 1e-6, 1e-6)

    @parameterized.parameters(*SMALL)
    # Both orders of the layers of a block. Bottlenecks take most of the time.
    @pytest.mark.quick("resnet18", "wrn10_1 dropout")
    def test_one_step(self, name, options):
        keras.utils.set_random_seed(0)
        model = models.get(
            name,
            num_classes=4,
            input_shape=(8, 8, 3),
            activation="swish",  # Its channels cannot be dead.
            batch_normalization=testing.ZOO_NORMALIZATION,
            **NORMALIZED,
            **options,
        )
        robust = RobustClassifier(model, FastBAT())
        robust.compile(keras.optimizers.SGD(0.1), run_eagerly=True)
        images, labels = map(tf.constant, testing.images_and_labels(4))
        before = [v.numpy() for v in model.trainable_variables]
        logs = robust.train_on_batch(images, labels, return_dict=True)
        self.assertTrue(np.isfinite(list(logs.values())).all(), logs)
        for old, new in zip(before, model.trainable_variables, strict=True):
            self.assertAllInRange(new, -100, 100)
            # Every weight changes.
            self.assertNotAllEqual(old, new, new.path)


if __name__ == "__main__":
    tf.test.main()
