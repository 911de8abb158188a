"""Tests the functions of the zoo, and its other name in a clone."""

import importlib
import inspect
import pydoc
from unittest import mock

from absl.testing import absltest, parameterized

import fastbat_tf as fb
import models
from fastbat_tf.models import members, registry
from tests.support.command_line import python

MEMBERS = [name for name, spec in registry.MODELS.items() if spec.arguments]


class MembersTest(parameterized.TestCase):
    def test_each_network_has_a_function(self):
        named = {
            name
            for name in fb.models.__all__
            if inspect.getmodule(getattr(fb.models, name)) is members
        }
        self.assertEqual(named, {*MEMBERS, "wrn"})
        self.assertContainsSubset(fb.models.__all__, dir(fb.models))

    @parameterized.parameters(*MEMBERS)
    def test_a_function(self, name):
        build = getattr(fb.models, name)
        options = registry.MODELS[name].options
        parameters = inspect.signature(build).parameters
        self.assertContainsSubset(options, parameters)
        self.assertEqual(
            {option: parameters[option].default for option in options}, options
        )
        self.assertEqual((build.__name__, build.__qualname__), (name, name))
        depth = name.rpartition("resnet")[-1]
        network = "PreActResNet" if "preact" in name else "ResNet"
        page = pydoc.plain(pydoc.render_doc(build))
        self.assertIn(f"{name}(num_classes: 'int' = 10, *, width: ", page)
        self.assertIn(f"Builds a {network}-{depth} with random", page)
        self.assertIn(
            f"model = fb.models.{name}(num_classes=10, width=16)", page
        )

    def test_every_argument_arrives(self):
        given = {
            "activation": "softplus",
            "stem": "imagenet",
            "input_shape": (16, 16, 1),
            "mean": [0.5],
            "std": [0.25],
            "batch_normalization": fb.FusedBatchNormalization,
        }
        with mock.patch.object(members, "get") as get:
            fb.models.resnet50(3, width=2, **given)
            get.assert_called_once_with("resnet50", 3, width=2, **given)
            preact = {"width": 2, "head": "plain", **given}
            fb.models.preact_resnet50(3, **preact)
            get.assert_called_with("preact_resnet50", 3, **preact)
            preact["shortcut"] = "activated"
            fb.models.preact_resnet34(3, **preact)
            get.assert_called_with("preact_resnet34", 3, **preact)
            wide = {"dropout": 0.25, "padding": "same", **given}
            fb.models.wrn(10, 2, 3, **wide)
            get.assert_called_with("wrn10_2", 3, **wide)
            for build in (fb.models.preact_resnet50, fb.models.wrn):
                names = inspect.signature(build).parameters
                self.assertContainsSubset(given, names)

    def test_it_builds_what_get_builds(self):
        model = fb.models.wrn(10, 1, input_shape=(8, 8, 3))
        expected = fb.models.get("wrn10_1", input_shape=(8, 8, 3))
        self.assertEqual(model.name, "wrn10_1")
        self.assertEqual(
            [(v.path, v.shape) for v in model.weights],
            [(v.path, v.shape) for v in expected.weights],
        )

    @parameterized.parameters(
        (
            lambda: fb.models.resnet18(width=0),
            "`width` .* integer of at least 1. Received: width=0$",
        ),
        (
            lambda: fb.models.resnet18(width=1.5),
            "`width` .* integer .* Received: width=1.5$",
        ),
        (
            lambda: fb.models.resnet18("ten"),
            "`num_classes` .* integer .* Received: num_classes=ten$",
        ),
        (
            lambda: fb.models.wrn(12, 1),
            r"depth of 6n \+ 4.* Received: model=wrn12_1$",
        ),
    )
    def test_refused(self, call, message):
        with self.assertRaisesRegex(ValueError, message):
            call()

    def test_without_docstrings(self):
        process = python(
            "-OO",
            "-c",
            "from fastbat_tf import models\n"
            "print(models.resnet18.__name__, models.resnet18.__doc__)",
        )
        self.assertEqual(process.stdout, "resnet18 None\n", process.stderr)


class AliasTest(absltest.TestCase):
    """In a clone, `models` is `fastbat_tf.models`, module by module."""

    def test_the_modules_are_the_same(self):
        self.assertIs(models, fb.models)
        for name in ("applications", "blocks", "registry", "wide_resnet"):
            self.assertIs(
                importlib.import_module(f"models.{name}"),
                importlib.import_module(f"fastbat_tf.models.{name}"),
            )

    def test_in_any_order(self):
        process = python(
            "-c",
            "import models.registry, sys\n"
            "assert 'keras' not in sys.modules\n"
            "import models.blocks\n"
            "from models import preact_resnet\n"
            "import fastbat_tf.models.blocks\n"
            "import fastbat_tf as fb\n"
            "assert models is fb.models\n"
            "assert models.blocks is fastbat_tf.models.blocks\n"
            "assert models.registry is fb.models.registry\n"
            "assert preact_resnet is fb.models.preact_resnet\n"
            "assert preact_resnet.blocks is models.blocks\n",
            TF_CPP_MIN_LOG_LEVEL="3",
        )
        self.assertEqual(process.returncode, 0, process.stderr)

    def test_an_unknown_module(self):
        with self.assertRaisesRegex(ModuleNotFoundError, "models.nonsense"):
            importlib.import_module("models.nonsense")


if __name__ == "__main__":
    absltest.main()
