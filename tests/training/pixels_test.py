"""The range of pixels: what it means, what it refuses, and half precision."""

import functools

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from fastbat_tf import (
    FGSMFUAP,
    FGSMPGI,
    PGD,
    TRADES,
    FastAT,
    FastBAT,
    GradAlign,
    GradientAlignment,
    Plan,
    RobustClassifier,
    Standard,
    attacks,
    evaluate_robustness,
)
from fastbat_tf.errors import InputError
from fastbat_tf.saving.export import export
from fastbat_tf.training.pixels import PixelRange
from tests.support import golden_network, testing

RANGES = ((0, 255), (-1, 1), (-2.5, 0.5))


def ranged_network(low, high):
    """`testing.small_network`, behind a layer that undoes a range."""
    scale = 1 / (high - low)
    first = keras.layers.Rescaling(scale, offset=-low * scale)
    layers = testing.small_network().layers
    return keras.Sequential([layers[0], first, *layers[1:]])


class Watched(RobustClassifier):
    """Keeps what a method saw and found in each step."""

    def compute_gradients(self, images, *args, **kwargs):
        outcome = super().compute_gradients(images, *args, **kwargs)
        self.seen.append((images, outcome.solution.perturbation))
        return outcome


def train(network, method, images, labels, eager=False, **kwargs):
    """Three steps; the model, and what was seen in each if eager."""
    robust = Watched(network, method, **kwargs)
    robust.seen = []
    robust.compile(
        keras.optimizers.SGD(0.1),
        plan=Plan(1, 3, 4, 12),
        run_eagerly=eager,
        jit_compile=False,
    )
    images = {"images": images, "index": np.arange(12)}
    robust.fit(images, labels, batch_size=4, shuffle=False, verbose=0)
    return robust


class PixelRangeTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(
        ((0, 255), FastBAT),
        ((0, 255), FGSMPGI),  # It remembers perturbations.
        ((0, 255), FGSMFUAP),  # It looks at features.
        ((-1, 1), FastBAT),
    )
    def test_training_is_that_of_the_same_pixels_in_0_1(
        self, pixel_range, method
    ):
        """Perturbation, weights, what is remembered: of one and the same
        network, but for a layer that undoes the range."""
        low, high = pixel_range
        images, labels = testing.images_and_labels(12)
        plain = train(testing.small_network(), method(), images, labels)
        ranged = train(
            ranged_network(low, high),
            method(),
            low + (high - low) * images,
            labels,
            pixel_range=pixel_range,
        )
        for ours, theirs in zip(
            ranged.get_weights(), plain.get_weights(), strict=True
        ):
            # Measured: 6e-8.
            self.assertAllClose(ours, theirs, 1e-6, 1e-6)

    def test_integers_of_0_255(self):
        """By arrays and tf.data, in fit, evaluate, predict, validation."""
        images, labels = testing.images_and_labels(12)
        gray = np.round(255 * images).astype("uint8")
        results = []
        for given in (
            gray,
            gray.astype("int64"),
            gray.astype("float16"),
        ):
            robust = RobustClassifier(
                ranged_network(0, 255), Standard(), pixel_range=(0, 255)
            )
            robust.compile(keras.optimizers.SGD(0.1), jit_compile=False)
            batches = tf.data.Dataset.from_tensor_slices((given, labels))
            history = robust.fit(
                batches.batch(4), validation_data=(given, labels), verbose=0
            ).history
            robust.train_on_batch(given[:4], labels[:4])
            results.append(
                [
                    history["loss"],
                    history["val_loss"],
                    robust.evaluate(given, labels, verbose=0),
                    robust.predict(given, verbose=0),
                    robust(given),
                    robust.network(given / np.float32(255), training=False),
                ]
            )
            self.assertAllClose(results[-1][4], results[-1][5], 1e-5, 1e-5)
            for ours, theirs in zip(results[-1], results[0], strict=True):
                self.assertAllClose(ours, theirs, 1e-6, 1e-6)

    def test_saved_and_exported(self):
        images, labels = testing.images_and_labels(8)
        gray = np.round(255 * images).astype("uint8")
        robust = RobustClassifier(
            testing.small_network(), FastAT(), pixel_range=[0, 255]
        )
        robust.compile(keras.optimizers.SGD(1e-4), jit_compile=False)
        robust.fit(gray, labels, verbose=0)
        self.assertEqual(robust.pixel_range, (0, 255))
        path = f"{self.get_temp_dir()}/robust.keras"
        robust.save(path)
        loaded = keras.models.load_model(path)
        self.assertEqual(loaded.pixel_range, (0, 255))
        for model in (robust, loaded):
            model.train_on_batch(gray, labels)
        for ours, theirs in zip(loaded.weights, robust.weights, strict=True):
            self.assertAllClose(ours, theirs, 1e-5, 1e-6)
        old = robust.get_config()
        del old["pixel_range"]  # As files of before are.
        self.assertEqual(RobustClassifier.from_config(old).pixel_range, (0, 1))

        export(robust, f"{self.get_temp_dir()}/saved")
        saved = tf.saved_model.load(f"{self.get_temp_dir()}/saved")
        pixels = tf.constant(gray / np.float32(255))
        answer = saved.signatures["serving_default"](images=pixels)["logits"]
        expected = robust(gray, training=False)
        self.assertAllClose(answer, expected, 1e-4, 1e-4)

    def test_evaluation(self):
        """The results of a model of [0, 1], whatever the range is."""
        images, labels = testing.images_and_labels(20)
        gray = np.round(255 * images).astype("uint8")
        network = testing.small_network()
        labels = network(gray / np.float32(255)).numpy().argmax(-1)
        labels[::4] = (labels[::4] + 1) % 4

        def evaluate(model, images, **kwargs):
            results = evaluate_robustness(
                model, (images, labels), ["pgd-3-1"], [4 / 255], **kwargs
            )
            (row,) = results["attacks"]
            return (
                results["clean_accuracy"],
                row["robust_accuracy"],
                results["notes"],
            )

        *expected, notes = evaluate(network, gray)
        self.assertEqual(expected[0], 0.75)
        self.assertBetween(expected[1], 0.01, 0.74)
        self.assertEqual(
            notes, ["The images are uint8: pixels were divided by 255."]
        )
        for low, high in RANGES:
            ranged = ranged_network(low, high)
            ranged.set_weights(network.get_weights())
            robust = RobustClassifier(
                ranged, Standard(), pixel_range=(low, high)
            )
            given = (low + (high - low) * (gray / 255)).astype("float32")
            for model, kwargs in (
                (robust, {}),
                (ranged, {"pixel_range": (low, high)}),
            ):
                *found, notes = evaluate(model, given, **kwargs)
                self.assertEqual(found, expected)
                self.assertEqual(
                    notes[-1],
                    f"Pixels in [{low:g}, {high:g}] were mapped to [0, 1]; "
                    "radii are those of the mapped images.",
                )

    def test_surrogate(self):
        """It takes pixels in its own range, or in that of the model."""
        images, labels = testing.images_and_labels(40)
        core = testing.small_network()

        def build(high):
            """Its slope turns at gray: of dark images it is another one."""
            inputs = keras.Input((8, 8, 3))
            x = keras.layers.Rescaling(2 / high, offset=-1)(inputs)
            return keras.Model(inputs, core(keras.ops.abs(x)))

        plain, wide = build(1), build(255)
        labels = plain(images).numpy().argmax(-1)
        robust = RobustClassifier(wide, Standard(), pixel_range=(0, 255))
        directory = self.get_temp_dir()

        def evaluate(model, images, surrogate, **kwargs):
            (row,) = evaluate_robustness(
                model,
                (images, labels),
                ["transfer-fgsm"],
                [16 / 255],
                surrogate=surrogate,
                **kwargs,
            )["attacks"]
            return row["robust_accuracy"]

        expected = evaluate(plain, images, plain)
        self.assertBetween(expected, 0.0, 0.5)
        for found in (
            evaluate(wide, 255 * images, wide, pixel_range=(0, 255)),
            evaluate(robust, 255 * images, wide),
            evaluate(plain, images, robust, directory=directory),
        ):
            self.assertAlmostEqual(found, expected, delta=0.05)
        with self.assertRaisesRegex(InputError, "surrogate_pixel_range$"):
            evaluate(plain, images, wide, directory=directory)

    def test_attacks_take_the_network_of_0_1(self):
        """Given the classifier itself they would feed it black images."""
        robust = RobustClassifier(
            ranged_network(0, 255), Standard(), pixel_range=(0, 255)
        )
        images, labels = testing.images_and_labels(4)
        for ask in (
            robust,
            robust.call,
            functools.partial(robust, training=False),
        ):
            for build in (
                functools.partial(attacks.get, "fgsm"),
                functools.partial(attacks.get, "autoattack"),
                functools.partial(attacks.get, "transfer", surrogate=ask),
                GradientAlignment,
            ):
                network = ask
                if "surrogate" in getattr(build, "keywords", {}):
                    network = robust.network
                with self.assertRaisesRegex(
                    InputError, r"`robust.network`.*pixel_range=\(0.*255.*\)$"
                ):
                    build(network)
        GradientAlignment(robust.network)(images, labels, 0.1)
        plain = RobustClassifier(testing.small_network(), Standard())
        attacks.get("fgsm", plain)(images, labels, 0.1)

    def test_evaluation_of_uint8(self):
        images, labels = testing.images_and_labels(4)
        gray = np.round(255 * images).astype("uint8")

        def evaluate(model, images, **kwargs):
            return evaluate_robustness(
                model, (images, labels), ["fgsm"], [4 / 255], **kwargs
            )

        network = testing.small_network()
        directory = f"{self.get_temp_dir()}/evaluation"
        robust = RobustClassifier(network, Standard(), pixel_range=(0, 255))
        path = f"{self.get_temp_dir()}/evaluated.keras"
        robust.save(path)
        labels = robust.predict(gray, verbose=0).argmax(-1)
        evaluate(path, gray, directory=directory, save_images=True)
        with np.load(f"{directory}/adversarial_fgsm-0.015686275.npz") as f:
            moved = f["images"] - gray.astype("float32")
        self.assertAllClose(np.abs(moved).max(), 4.0, atol=1e-3)
        for given, kwargs, message in (
            (gray, {"pixel_range": (0, 1)}, r"\(0.0, 255.0\).*\(0.0, 1.0\)"),
            (300.0 * images, {}, "max=300"),
            (images, {}, "max=1"),
            (gray > 9, {}, "dtype=bool"),
            (gray + np.int64(9), {}, "max=264"),
        ):
            with self.assertRaisesRegex(InputError, message):
                evaluate(robust, given, **kwargs)

    def test_parse(self):
        for given in ((0, 255), [0.0, 255], np.array([0, 255]), (-1, 1e-3)):
            self.assertEqual(tuple(PixelRange.parse(given)), tuple(given))
        for given in (
            (1, 0),
            (0, 0),
            (0,),
            (0, 1, 2),
            255,
            "01",
            None,
            (0, np.nan),
            (0, np.inf),
            (1e9, 1e9 + 1),  # One and the same in float32.
            (0, "white"),
            (0, 1e300),
        ):
            with self.assertRaisesRegex(InputError, r"Received: pixel_range="):
                RobustClassifier(
                    testing.small_network(), Standard(), pixel_range=given
                )


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
        """From the first batch on, in all entrances; all stays as it was."""
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
        # The other modes differ in what is compiled around the assertion.
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
        robust.fit(images, labels, batch_size=4, verbose=0)  # It goes on.

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
        robust.fit({"images": images}, labels, verbose=0)  # No places.
        for enter in (robust.fit, robust.evaluate, robust.predict):
            for other in ({"pixels": images}, {"images": images, "x": labels}):
                given = (other, labels) if enter != robust.predict else (other,)
                with self.assertRaisesRegex(InputError, "Received: keys="):
                    enter(*given, verbose=0)

    def test_images_of_0_1_where_0_255_is_stated(self):
        """They are inside the range, and 255 times too dark."""
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
        # Black images are black, and 0 and 1 may be gray levels.
        robust.fit(np.zeros_like(images), labels, verbose=0)
        robust.fit((images > 0.5).astype("float32"), labels, verbose=0)

    def test_the_example_is_one_that_may_be_meant(self):
        """Of other ranges than the two that are usual nothing is known."""
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
            self.assertRegex(text, "state the range of yours, .*, max=300$")
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
        """All that a method computes is float32, also in mixed precision."""
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
        """Keras would round them to 8 bits before the first layer."""
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
