"""Attacks as functions of a model, images and labels."""

import gc
import weakref

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

import fastbat_tf as fb
from fastbat_tf import attacks
from fastbat_tf.errors import InputError
from tests.support.attack_problems import (
    SHAPE,
    SIZE,
    between,
    linear_problem,
    size,
    sizes,
)

PROBLEM = linear_problem(12, classes=3)
EPSILON = between(PROBLEM.radii["linf"], 4)
PGD = attacks.PGD(EPSILON, steps=10)


def keras_model(activation=None, units=3, scale=1.0, seed=0):
    """A linear model, with the logits of `PROBLEM` if there are three."""
    model = keras.Sequential(
        [
            keras.Input(SHAPE),
            keras.layers.Rescaling(scale),
            keras.layers.Flatten(),
            keras.layers.Dense(units, activation=activation),
        ]
    )
    if units == 3:
        origin = np.zeros((1, *SHAPE), np.float32)
        offset = PROBLEM.network(origin).numpy()[0]
        unit = np.eye(SIZE, dtype=np.float32).reshape(-1, *SHAPE)
        weights = PROBLEM.network(unit).numpy() - offset
        model.set_weights([weights, offset])
    else:
        random = np.random.default_rng(seed)
        weights = random.normal(size=(SIZE, units))
        model.set_weights([weights, -weights.sum(0) / 2])
    return model


class Subclassed(keras.Model):
    """A model that is built by its first call."""

    def __init__(self):
        super().__init__()
        self.flatten = keras.layers.Flatten()
        self.dense = keras.layers.Dense(3, activation="softmax")

    def call(self, images):
        return self.dense(self.flatten(images))


class ClassesTest(parameterized.TestCase, tf.test.TestCase):
    @parameterized.parameters(
        lambda shape: [-1, shape[1]],
        lambda shape: shape[: 2 + 0 * shape[0]],  # Not even the rank is known.
    )
    def test_a_number_that_the_trace_does_not_know(self, reshaped):
        """The targeted ratio takes the four highest logits."""
        problem = linear_problem(12, classes=5)

        def network(images):
            logits = problem.network(images)
            unknown = tf.shape(images)[0] * [1, 0] + [0, 5]
            return tf.reshape(logits, reshaped(unknown))

        attack = attacks.APGDTargeted(
            between(problem.radii["linf"], 4), steps=10, jit_compile=False
        )
        known = attack(problem.network, problem.images, problem.labels)
        found = attack(network, problem.images, problem.labels)
        self.assertAllEqual(found.images, known.images)
        self.assertLess(found.robust.sum(), (problem.radii["linf"] > 0).sum())


class ReturnedTest(parameterized.TestCase, tf.test.TestCase):
    @parameterized.parameters("linf", "L2")
    def test_images_predictions_outcomes(self, norm):
        radii = PROBLEM.radii[norm.lower()]
        epsilon = between(radii, 4)
        attack = attacks.PGD(epsilon, steps=20, norm=norm)
        found = attack(PROBLEM.network, PROBLEM.images, PROBLEM.labels)
        self.assertEqual(found._fields, ("images", "predictions", "robust"))
        images, predictions, robust = found
        self.assertEqual(
            [each.dtype for each in found], [np.float32, np.int32, np.bool_]
        )
        self.assertEqual(images.shape, PROBLEM.images.shape)
        self.assertTrue(robust[radii > epsilon].all())
        self.assertFalse(robust[radii < 0.9 * epsilon].any())
        logits = PROBLEM.network(images).numpy()
        self.assertAllEqual(predictions, logits.argmax(-1))
        self.assertAllEqual(predictions == PROBLEM.labels, robust)
        moved = sizes(images - PROBLEM.images, norm.lower())
        self.assertAllLessEqual(moved, epsilon * (1 + 1e-4))
        # What was misclassified before is returned as it came.
        self.assertTrue((radii < 0).any())
        self.assertAllEqual(images[radii < 0], PROBLEM.images[radii < 0])
        # What resists comes with the closest attempt.
        self.assertAllGreater(moved[robust], 0)

    def test_the_default_radius_is_that_of_the_norm(self):
        self.assertEqual(attacks.FGSM().epsilon, 8 / 255)
        self.assertEqual(attacks.Square(norm="L2").epsilon, 128 / 255)
        self.assertEqual(attacks.DEFAULT_EPSILON["linf"], 8 / 255)

    def test_every_attack(self):
        model = keras_model()
        radii = PROBLEM.radii["linf"]
        for attack in (
            attacks.FGSM(EPSILON),
            attacks.APGD(EPSILON, 5),
            attacks.APGDTargeted(EPSILON, 5, 1),
            attacks.FAB(EPSILON, 5, 1),
            attacks.Square(EPSILON, 20),
            attacks.AutoAttack(
                EPSILON, version="custom", attacks=["fgsm", "square-5"]
            ),
            attacks.Transfer(keras_model("softmax"), "fgsm", EPSILON),
        ):
            found = attack(model, PROBLEM.images, PROBLEM.labels)
            self.assertTrue(found.robust[radii > EPSILON].all())
            self.assertFalse(found.robust[radii < 0].any())
            self.assertAllEqual(
                found.predictions == PROBLEM.labels, found.robust
            )

    def test_seed(self):
        one, same, other = (
            attacks.PGD(EPSILON, 1, seed=seed)(
                PROBLEM.network, PROBLEM.images, PROBLEM.labels
            ).images
            for seed in (1, 1, 2)
        )
        self.assertAllEqual(one, same)
        self.assertNotAllEqual(one, other)


class ModelsTest(parameterized.TestCase, tf.test.TestCase):
    @parameterized.parameters(None, "softmax")
    def test_keras(self, activation):
        found = PGD(keras_model(activation), PROBLEM.images, PROBLEM.labels)
        radii = PROBLEM.radii["linf"]
        self.assertAllEqual(found.robust, radii > EPSILON)

    @parameterized.parameters(None, "sigmoid")
    def test_one_output(self, activation):
        model = keras_model(activation, units=1)
        clean = model.predict(PROBLEM.images, verbose=0)[:, 0]
        labels = clean > (0.5 if activation else 0)
        found = attacks.PGD(0.3)(
            model, PROBLEM.images, np.array(labels, np.float32)[:, None]
        )
        self.assertFalse(found.robust.any())
        self.assertAllEqual(found.predictions, np.logical_not(labels))

    def test_of_a_range(self):
        gray_levels = np.round(255 * PROBLEM.images).astype(np.uint8)
        plain = PGD(keras_model(), gray_levels, PROBLEM.labels)
        robust = fb.RobustClassifier(
            keras_model(scale=1 / 255), fb.FGSM(), pixel_range=(0, 255)
        )
        wide = PGD(robust, gray_levels, PROBLEM.labels)
        self.assertAllClose(wide.images, 255 * plain.images, atol=1e-2)
        self.assertAllEqual(wide.robust, plain.robust)
        other = PGD(
            keras_model(scale=1 / 255),
            gray_levels,
            PROBLEM.labels,
            pixel_range=(0, 255),
        )
        self.assertAllEqual(other.images, wide.images)
        surrogate = keras_model(scale=1 / 255)
        transferred = attacks.Transfer(surrogate, "pgd-10-1", EPSILON)(
            robust, gray_levels, PROBLEM.labels
        )
        self.assertAllEqual(transferred.robust, wide.robust)
        # A surrogate with a range of its own.
        transferred = attacks.Transfer(robust, "pgd-10-1", EPSILON)(
            keras_model(), gray_levels, PROBLEM.labels
        )
        self.assertAllEqual(transferred.robust, wide.robust)

    def test_a_network_is_of_pixels_from_0_to_1(self):
        classifier = keras_model(scale=1 / 255)
        robust = fb.RobustClassifier(
            classifier, fb.Standard(), pixel_range=(0, 255)
        )
        found = PGD(robust.network, PROBLEM.images, PROBLEM.labels)
        known = PGD(keras_model(), PROBLEM.images, PROBLEM.labels)
        self.assertAllEqual(found.robust, known.robust)
        with self.assertRaisesRegex(InputError, r"the model's, \(0, 1\)"):
            PGD(
                robust.network,
                255 * PROBLEM.images,
                PROBLEM.labels,
                pixel_range=(0, 255),
            )

    def test_subclassed(self):
        model = Subclassed()
        labels = np.zeros(len(PROBLEM.images), int)
        found = PGD(model, PROBLEM.images, labels)
        self.assertAllEqual(
            found.predictions, model(found.images).numpy().argmax(-1)
        )

    def test_several_inputs(self):
        inputs = [keras.Input(SHAPE), keras.Input((1,), name="extra")]
        flat = keras.layers.Flatten()(inputs[0])
        outputs = keras.layers.Dense(3)(
            keras.layers.Concatenate()([flat, inputs[1]])
        )
        model = keras.Model(inputs, outputs)
        with self.assertRaisesRegex(InputError, "only input.*, extra$"):
            PGD(model, PROBLEM.images, PROBLEM.labels)

    @parameterized.parameters(
        (
            lambda: PGD(PROBLEM.network, PROBLEM.images[0], 0),
            r"images.shape=\(4, 4, 3\)",
        ),
        (lambda: PGD("model.keras", None, [0]), "load.*'model.keras'"),
        (
            lambda: PGD(PROBLEM.images, PROBLEM.labels, keras_model()),
            "Received: ",
        ),
        (
            lambda: PGD(PROBLEM.images, PROBLEM.labels, PROBLEM.labels),
            "model is expected first.*model=ndarray of shape",
        ),
        (
            lambda: attacks.PGD(keras_model(), PROBLEM.images, PROBLEM.labels),
            r"PGD\(epsilon\)\(model, images, labels\)",
        ),
        (
            lambda: PGD(PROBLEM.network, [[1, 2], [3]], [0, 1]),
            "images are expected as one array.*images=list of 2$",
        ),
        (
            lambda: PGD(PROBLEM.network, PROBLEM.images, [[0, 1], [2]]),
            "labels are expected as one array.*labels=list of 2$",
        ),
        (lambda: attacks.PGD("8/255"), "a number in.*epsilon='8/255'$"),
        (lambda: attacks.PGD(relative_step_size=0), "relative_step_size=0"),
        (lambda: attacks.PGD(norm="l1"), "linf, l2.*norm=l1"),
        (lambda: attacks.PGD(seed=-1), "seed=-1"),
    )
    def test_slips(self, call, message):
        with self.assertRaisesRegex(InputError, message) as caught:
            call()
        self.assertNotIn("\n", str(caught.exception))


class DataTest(parameterized.TestCase, tf.test.TestCase):
    def test_forms(self):
        images = np.round(255 * PROBLEM.images) / 255
        labels = PROBLEM.labels
        found = PGD(PROBLEM.network, images, labels)
        for other_images, other_labels in (
            (images, labels[:, None]),
            (images, np.eye(3)[labels]),
            (np.uint8(np.round(255 * images)), tf.one_hot(labels, 3)),
            (tf.constant(images, tf.float64), tf.constant(labels)),
        ):
            other = PGD(PROBLEM.network, other_images, other_labels)
            self.assertAllClose(other.images, found.images, atol=1e-6)
            self.assertAllEqual(other.robust, found.robust)
        with self.assertRaisesRegex(InputError, "model's 3 classes.*4 classes"):
            PGD(PROBLEM.network, images, np.eye(4)[labels])

    @parameterized.parameters(tf.float16, tf.bfloat16)
    def test_half_precision(self, dtype):
        images = tf.cast(PROBLEM.images, dtype)
        found = PGD(PROBLEM.network, images, PROBLEM.labels)
        self.assertEqual(found.images.dtype, np.float32)
        moved = found.images - tf.cast(images, tf.float32).numpy()
        self.assertLessEqual(size(moved, "linf"), EPSILON + 1e-6)

    def test_rounding_beyond_the_bounds(self):
        images = PROBLEM.images.copy()
        images[:, 0, 0, 0] = 1 + 9e-7
        images[:, 0, 0, 1] = -9e-7
        found = PGD(PROBLEM.network, images, PROBLEM.labels)
        self.assertAllInRange(found.images, 0, 1)
        images[0, 0, 0, 0] = 1 + 2e-6
        with self.assertRaisesRegex(InputError, r"Received: range="):
            PGD(PROBLEM.network, images, PROBLEM.labels)


class RepeatedTest(tf.test.TestCase):
    def test_a_keras_model_is_traced_once(self):
        traces = []

        class Counted(keras.layers.Layer):
            def call(self, inputs):
                if tf.is_symbolic_tensor(inputs):
                    traces.append(inputs.shape)
                return inputs

        model = keras.Sequential([keras.Input(SHAPE), Counted(), keras_model()])
        attack = attacks.PGD(EPSILON, 2)
        traces.clear()
        attack(model, PROBLEM.images, PROBLEM.labels)
        count = len(traces)
        self.assertGreater(count, 1)
        first = attack(model, PROBLEM.images[:5], PROBLEM.labels[:5])
        self.assertLen(traces, count)
        # The weights are those of the call.
        model.set_weights([-w for w in model.get_weights()])
        second = attack(model, PROBLEM.images[:5], PROBLEM.labels[:5])
        self.assertLen(traces, count)
        self.assertNotAllEqual(first.predictions, second.predictions)
        # Other layers are other variables.
        model.add(keras.layers.Dense(3))
        attack(model, PROBLEM.images[:5], PROBLEM.labels[:5])
        self.assertGreater(len(traces), count)

    def test_a_surrogate_of_other_layers(self):
        model, surrogate = keras_model(), keras_model()
        attack = attacks.Transfer(surrogate, "fgsm", EPSILON)
        before = attack(model, PROBLEM.images, PROBLEM.labels)
        surrogate.pop()
        surrogate.add(keras.layers.Dense(3))
        after = attack(model, PROBLEM.images, PROBLEM.labels)
        self.assertNotAllClose(after.images, before.images)
        again = attacks.Transfer(surrogate, "fgsm", EPSILON)
        again = again(model, PROBLEM.images, PROBLEM.labels)
        self.assertAllEqual(after.images, again.images)

    def test_images_of_another_size(self):
        model = keras.Sequential(
            [
                keras.Input((None, None, SHAPE[-1])),
                keras.layers.GlobalAveragePooling2D(),
                keras.layers.Dense(3),
            ]
        )
        for images in (PROBLEM.images, PROBLEM.images[:, 1:]):
            found = PGD(model, images, PROBLEM.labels)
            self.assertEqual(found.images.shape, images.shape)

    def test_no_model_is_kept(self):
        model = keras_model()
        PGD(model, PROBLEM.images, PROBLEM.labels)
        weak = weakref.ref(model)
        del model
        gc.collect()
        self.assertIsNone(weak())

    def test_a_function_may_change(self):
        factor = 1.0

        def network(images):
            return factor * PROBLEM.network(images)

        first = PGD(network, PROBLEM.images, PROBLEM.labels)
        factor = -1.0
        second = PGD(network, PROBLEM.images, PROBLEM.labels)
        self.assertTrue(first.robust.any())
        self.assertFalse((first.robust & second.robust).any())


if __name__ == "__main__":
    tf.test.main()
