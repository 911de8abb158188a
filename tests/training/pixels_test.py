"""Which images a model refuses, and what half precision changes."""

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from fastbat_tf import (
    PGD,
    TRADES,
    FastAT,
    FastBAT,
    GradAlign,
    RobustClassifier,
    Standard,
    evaluate_robustness,
)
from fastbat_tf.errors import InputError
from tests.support import golden_network, testing
from tests.support.ranged_pixels import train


class RefusalTest(tf.test.TestCase, parameterized.TestCase):
    def robust(self, mode, **kwargs):
        strategy = tf.distribute.get_strategy()
        if mode == "replicas":
            strategy = testing.two_cpu_strategy()
        with strategy.scope():
            robust = RobustClassifier(
                testing.small_network(), FastAT(), **kwargs
            )
            robust.compile(
                keras.optimizers.SGD(0.1),
                jit_compile=mode == "xla",
                run_eagerly=mode == "eager",
                steps_per_execution=2 if mode == "steps" else 1,
            )
        return robust

    @parameterized.parameters("graph", "xla", "eager", "steps", "replicas")
    def test_nothing_outside_the_range_is_trained_on(self, mode):
        """From the first batch on, and nothing has changed then."""
        images, labels = testing.images_and_labels(8)
        robust = self.robust(mode)
        robust.fit(images, labels, batch_size=4, shuffle=False, verbose=0)
        before = [v.numpy() for v in robust.weights]
        iterations = robust.optimizer.iterations.numpy()
        nan, infinite = images.copy(), images.copy()
        nan[:, 2, 3, 0], infinite[:, 0, 0, 2] = np.nan, -np.inf
        kinds = {
            "min=0, max=255$": 255 * images,
            "dtype=uint8$": np.round(255 * images).astype("uint8"),
            "min=nan, max=nan$": nan,
            "min=-1, max=1$": 2 * images - 1,
            "min=0, max=1.00001$": np.float32(1.00001) * images,
            "min=-inf, max=1$": infinite,
            "dtype=int32$": images.astype("int32"),
            "dtype=bool$": images > 0.5,
        }
        entrances = (
            lambda x: robust.fit(x, labels, batch_size=4, verbose=0),
            lambda x: robust.evaluate(x, labels, batch_size=4, verbose=0),
            lambda x: robust.predict(x, batch_size=4, verbose=0),
            lambda x: robust.train_on_batch(x, labels),
            lambda x: robust.test_on_batch(x, labels),
            lambda x: robust.predict_on_batch(x),
        )
        # The other modes differ in what is compiled around the check.
        count = len(kinds) if mode == "graph" else 1
        for number, (received, bad) in enumerate(list(kinds.items())[:count]):
            for enter in entrances[3:5] if number > 1 else entrances:
                with self.assertRaisesRegex(InputError, received) as caught:
                    enter(bad)
                text = str(caught.exception)
                self.assertNotIn("\n", text)
                self.assertIn("expected", text)
                if "bool" not in received:
                    self.assertIn("pixel_range=(0, 255)", text)
        for variable, value in zip(robust.weights, before, strict=True):
            self.assertAllEqual(variable, value)
        self.assertAllEqual(robust.optimizer.iterations, iterations)
        # Training continues.
        robust.fit(images, labels, batch_size=4, verbose=0)

    def test_validation_data_and_later_batches(self):
        images, labels = testing.images_and_labels(8)
        robust = self.robust("graph")
        with self.assertRaisesRegex(InputError, "min=0, max=255$"):
            robust.fit(
                images,
                labels,
                validation_data=(255 * images, labels),
                verbose=0,
            )
        batches = tf.data.Dataset.from_tensor_slices(
            (np.concatenate([images, 255 * images]), np.tile(labels, 2))
        )
        with self.assertRaisesRegex(InputError, "min=0, max=255$"):
            robust.fit(batches.batch(8), verbose=0)
        self.assertEqual(int(robust.step), 2)

    def test_dicts(self):
        images, labels = testing.images_and_labels(4)
        robust = self.robust("graph")
        robust.fit({"images": images}, labels, verbose=0)  # No index.
        for enter in (robust.fit, robust.evaluate, robust.predict):
            for other in ({"pixels": images}, {"images": images, "x": labels}):
                given = (other, labels) if enter != robust.predict else (other,)
                with self.assertRaisesRegex(
                    InputError, "Received: (keys|image_input)="
                ):
                    enter(*given, verbose=0)

    def test_images_of_0_1_where_0_255_is_stated(self):
        """They are within the range, but 255 times too dark."""
        images, labels = testing.images_and_labels(8)
        robust = self.robust("graph", pixel_range=(0, 255))
        for enter in (robust.fit, robust.evaluate):
            with self.assertRaisesRegex(
                InputError,
                r"^Images .* pixels above 1 .*\[0, 255\], but all are in "
                r"\[0, 1\].*pixel_range=\(0, 1\).* Received: min=0, max=1$",
            ):
                enter(images, labels, verbose=0)
        # A single image may be that dark.
        dark = np.full((1, 8, 8, 3), 0.4, "float32")
        self.assertAllClose(
            robust.predict(dark, verbose=0), robust(dark, training=False)
        )
        robust.predict_on_batch(dark)
        with self.assertRaisesRegex(InputError, "max=256$"):
            robust.predict(640 * dark, verbose=0)
        # All-black images are fine, and 0 and 1 may be gray levels.
        robust.fit(np.zeros_like(images), labels, verbose=0)
        robust.fit((images > 0.5).astype("float32"), labels, verbose=0)

    def test_the_example_is_one_that_may_be_meant(self):
        """Only for the two usual ranges does the message suggest the other."""
        images, labels = testing.images_and_labels(4)
        for pixel_range, example in (
            ((0, 1), "such as pixel_range=(0, 255), "),
            ((0.0, 255.0), "such as pixel_range=(0, 1), "),
            ((-1, 1), None),
        ):
            robust = self.robust("graph", pixel_range=pixel_range)
            with self.assertRaises(InputError) as caught:
                robust.test_on_batch(300 * images, labels)
            text = str(caught.exception)
            self.assertRegex(text, "state their range, .*, max=300$")
            if example:
                self.assertIn(example, text)
            else:
                self.assertNotIn("such as", text)
        with self.assertRaisesRegex(
            InputError,
            r"in \[0, 1\]; `evaluate_robustness` .*`pixel_range`\. R",
        ):
            evaluate_robustness(
                testing.small_network(), (2 * images - 1, labels), ["fgsm"]
            )

    def test_rounding_is_no_refusal(self):
        images, labels = testing.images_and_labels(8)
        above = np.nextafter(np.float32(1), np.float32(2))
        for pixel_range, given in (
            ((0, 1), images),
            ((-1, 1), 2 * images - 1),
        ):
            robust = self.robust("eager", pixel_range=pixel_range)
            robust.train_on_batch(above * given, labels)
            self.assertFalse(np.isnan(robust.get_weights()[0]).any())


class PrecisionTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(
        ("float16", FastBAT),
        ("float16", FastAT),
        ("float16", TRADES),
        ("bfloat16", FastBAT),
        ("bfloat16", GradAlign),
        ("float64", FastAT),
        ("mixed", FastBAT),
        ("mixed", PGD),
    )
    def test_the_ball_holds_for_images_of_any_type(self, dtype, method):
        """A method computes in float32, even in mixed precision."""
        images, labels = testing.images_and_labels(12)
        policy = "mixed_bfloat16" if dtype == "mixed" else "float32"
        with golden_network.policy(policy):
            robust = RobustClassifier(testing.small_network(), method())
        seen = []

        class Seen(type(robust)):
            def compute_gradients(self, images, *args, **kwargs):
                outcome = super().compute_gradients(images, *args, **kwargs)
                seen.append((images, outcome.solution.perturbation))
                return outcome

        robust.__class__ = Seen
        robust.compile(keras.optimizers.SGD(0.1), run_eagerly=True)
        given = images
        if dtype != "mixed":
            given = tf.cast(images, dtype)
        data = tf.data.Dataset.from_tensor_slices((given, labels)).batch(6)
        history = robust.fit(data, verbose=0).history
        self.assertTrue(np.isfinite(history["loss"]).all())
        self.assertLen(seen, 2)
        for x, delta in seen:
            self.assertEqual((x.dtype, delta.dtype), (tf.float32, tf.float32))
            self.assertAllInRange(x, 0, 1)
            self.assertAllInRange(delta, -8 / 255 - 1e-7, 8 / 255 + 1e-7)
            self.assertAllInRange(x + delta, 0, 1 + 1e-7)
            self.assertGreater(np.abs(delta).max(), 7.9 / 255)
        for variable in robust.weights:
            self.assertTrue(np.isfinite(variable.numpy()).all())

    def test_a_classifier_of_float64_is_trained_in_it(self):
        images, labels = testing.images_and_labels(12)
        with golden_network.precision("float64"):
            robust = train(
                testing.small_network(), FastAT(), images, labels, eager=True
            )
            x, delta = robust.seen[0]
            self.assertEqual((x.dtype, delta.dtype), (tf.float64, tf.float64))

    def test_evaluate_sees_the_pixels_of_training_in_mixed_precision(self):
        """Keras would round images to 8 bits before the first layer."""
        with golden_network.policy("mixed_bfloat16"):
            inputs = keras.Input((8, 8, 3))
            exact = keras.layers.Rescaling(256.0, dtype="float32")(inputs)
            outputs = keras.layers.Flatten(dtype="float32")(exact)
            classifier = keras.Model(inputs, outputs)
            robust = RobustClassifier(classifier, Standard()).compile()
        images, _ = testing.images_and_labels(2)
        self.assertAllEqual(
            robust.predict(images, verbose=0), classifier(images)
        )


if __name__ == "__main__":
    tf.test.main()
