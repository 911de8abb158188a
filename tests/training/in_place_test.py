"""Tests that the user's own model is trained, with its own layers."""

import warnings

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from fastbat_tf import FastAT, FastBAT, GradAlign, RobustClassifier, methods
from fastbat_tf.errors import InputError
from tests.support import model_kinds, testing


class InPlaceTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.product(
        kind=tuple(model_kinds.KINDS), method=(FastBAT, GradAlign)
    )
    def test_kinds(self, kind, method):
        model = model_kinds.KINDS[kind]()
        layers = list(model._flatten_layers())
        images, labels = testing.images_and_labels(6)
        before = model(images, training=False)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            robust = model_kinds.compiled(model, method())
            robust.train_on_batch(images, labels)
        self.assertIs(robust.classifier, model)
        for layer in layers:
            self.assertIn(layer, model._flatten_layers())
        after = model(images, training=False)
        self.assertNotAllClose(before, after)
        self.assertAllClose(after, robust(images, training=False))

    @parameterized.parameters(
        ("subclassed", "graph"),
        ("subclassed", "xla"),
        ("transformer", "graph"),
    )
    def test_modes(self, kind, mode):
        """They compute the same as the eager step."""
        images, labels = testing.images_and_labels(6)
        # The default step size makes large steps of rounding errors.
        method = FastBAT(epsilon=0.1, step_size=0.3, implicit_lambda=0.5)
        after, ratios = [], []
        for one in ("eager", mode):
            model = model_kinds.KINDS[kind]()
            logs = model_kinds.compiled(model, method, one).train_on_batch(
                images, labels, return_dict=True
            )
            after.append(model.get_weights())
            ratios.append(logs["robust_implicit_ratio"])
        self.assertGreater(ratios[0], 0.01)
        self.assertAllClose(*ratios, rtol=1e-3)
        for one, other in zip(*after, strict=True):
            self.assertAllClose(one, other, 1e-3, 1e-4)

    @parameterized.parameters(False, True)
    def test_replicas(self, synchronized):
        """Synchronized, they compute the step of one device."""
        images, labels = testing.images_and_labels(8)
        method = FastBAT(
            epsilon=0.1,
            step_size=0.3,
            implicit_lambda=0.5,
            linearization="ns-pgd-zero",  # Without noise.
        )

        def build():
            model = model_kinds.subclassed(
                lambda: keras.layers.BatchNormalization(
                    synchronized=synchronized
                )
            )
            return model_kinds.compiled(model, method, "graph")

        with testing.two_cpu_strategy().scope():
            robust = build()
        before = robust.classifier.get_weights()
        robust.fit(images, labels, batch_size=8, verbose=0)
        after = robust.classifier.get_weights()
        for one, other in zip(before, after, strict=True):
            self.assertNotAllClose(one, other, 1e-6, 1e-6)
        if synchronized:
            one_device = build()
            one_device.fit(images, labels, batch_size=8, verbose=0)
            expected = one_device.classifier.get_weights()
            for one, other in zip(expected, after, strict=True):
                self.assertAllClose(one, other, 1e-3, 1e-4)

    @parameterized.parameters((FastAT, "graph"), (FastBAT, "xla"))
    def test_where_replicas_cannot_be_synchronized(self, method, mode):
        with testing.two_cpu_strategy().scope():
            model = model_kinds.sequential(
                lambda: keras.layers.BatchNormalization(synchronized=True)
            )
            robust = model_kinds.compiled(model, method(), mode)
        with self.assertRaisesRegex(
            InputError, f"synchronized=False.*method={method.__name__}"
        ):
            robust.fit(*testing.images_and_labels(4), batch_size=4, verbose=0)

    @parameterized.product(mode=("eager", "graph"), frozen=(True, False))
    def test_freezing_after_wrapping(self, mode, frozen):
        """BatchNormalization is then in inference mode in the whole step."""
        model = model_kinds.sequential()
        norm = model.layers[1]
        norm.trainable = not frozen
        robust = RobustClassifier(model, FastBAT())
        norm.trainable = frozen
        norm.trainable = not frozen
        robust.compile(keras.optimizers.SGD(0.1), run_eagerly=mode == "eager")
        before = [v.numpy() for v in norm.variables]
        robust.train_on_batch(*testing.images_and_labels(6))
        same = [
            np.array_equal(old, new)
            for old, new in zip(before, norm.variables, strict=True)
        ]
        self.assertEqual(same, [frozen] * 4)

    def test_features_of_a_model_that_is_not_functional(self):
        with self.assertRaisesRegex(
            InputError,
            r"functional or sequential model.*"
            r"Received: classifier=\S+ \(Subclassed\)$",
        ):
            RobustClassifier(model_kinds.subclassed(), methods.get("fgsm_fuap"))


if __name__ == "__main__":
    tf.test.main()
