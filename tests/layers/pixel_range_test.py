"""What a pixel range means: for training, export, evaluation and attacks."""

import functools

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from fastbat_tf import (
    FGSMFUAP,
    FGSMPGI,
    FastAT,
    FastBAT,
    GradientAlignment,
    RobustClassifier,
    Standard,
    attacks,
    evaluate_robustness,
)
from fastbat_tf.errors import InputError
from fastbat_tf.layers.pixel_range import PixelRange
from fastbat_tf.saving.export import export
from tests.support import testing
from tests.support.ranged_pixels import (
    ranged_network,
    train,
)

RANGES = ((0, 255), (-1, 1), (-2.5, 0.5))


class PixelRangeTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(
        ((0, 255), FastBAT),
        ((0, 255), FGSMPGI),  # Remembers perturbations.
        ((0, 255), FGSMFUAP),  # Uses features.
        ((-1, 1), FastBAT),
    )
    def test_training_is_that_of_the_same_pixels_in_0_1(
        self, pixel_range, method
    ):
        """Compares perturbations, weights and state with those of the same
        network without the layer that undoes the range."""
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
            # The measured difference is 6e-8.
            self.assertAllClose(ours, theirs, 1e-6, 1e-6)

    def test_integers_of_0_255(self):
        """From arrays and tf.data, in fit, evaluate, predict and validation."""
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
        del old["pixel_range"]  # As in older files.
        self.assertEqual(RobustClassifier.from_config(old).pixel_range, (0, 1))

        export(robust, f"{self.get_temp_dir()}/saved")
        saved = tf.saved_model.load(f"{self.get_temp_dir()}/saved")
        pixels = tf.constant(gray / np.float32(255))
        answer = saved.signatures["serving_default"](images=pixels)["logits"]
        expected = robust(gray, training=False)
        self.assertAllClose(answer, expected, 1e-4, 1e-4)

    def test_evaluation(self):
        """The results equal those of a model of [0, 1], whatever the range."""
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
        """A surrogate takes pixels in its own range, or in the model's."""
        images, labels = testing.images_and_labels(40)
        core = testing.small_network()

        def build(high):
            """Its slope changes at gray: dark images have another one."""
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
        """Given the classifier itself, they would feed it black images."""
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
                    if ask is robust:  # The attack maps its pixels.
                        continue
                with self.assertRaisesRegex(
                    InputError, r"`robust.network`.*pixel_range=\(0.*255.*\)$"
                ):
                    build(network)
        found = [
            attacks.Transfer(surrogate, "fgsm", 0.1)(
                robust, 255 * images, labels
            )
            for surrogate in (robust, robust.network)
        ]
        self.assertAllEqual(found[0].images, found[1].images)
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
            (1e9, 1e9 + 1),  # They are equal in float32.
            (0, "white"),
            (0, 1e300),
        ):
            with self.assertRaisesRegex(InputError, r"Received: pixel_range="):
                RobustClassifier(
                    testing.small_network(), Standard(), pixel_range=given
                )


if __name__ == "__main__":
    tf.test.main()
