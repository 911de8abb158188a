"""Tests the SavedModel, also where this package is not installed."""

import io
import json
import pathlib
import subprocess
import sys
import tempfile
import textwrap

import keras
import numpy as np
import tensorflow as tf
from PIL import Image

from fastbat_tf import RobustClassifier, Standard, models
from fastbat_tf.data import Reading
from fastbat_tf.errors import InputError
from fastbat_tf.saving.export import export
from fastbat_tf.saving.model_info import ModelInfo
from fastbat_tf.saving.served import TOLERANCE
from tests.support import testing
from tests.support.bombs import bombs
from tests.support.image_data import encode, resize

# Runs in an isolated interpreter, which cannot import this package.
CLIENT = """
    import json
    import pathlib
    import resource
    import sys
    import numpy as np
    import tensorflow as tf

    folder = pathlib.Path(sys.argv[1])
    model = tf.saved_model.load(folder / "saved_model")
    serve_floats = model.signatures["serving_default"]
    serve_uint8 = model.signatures["serve_uint8"]
    serve_bytes = model.signatures["serve_bytes"]
    pixels = np.load(folder / "pixels.npy")
    encoded = tf.stack([tf.io.encode_png(image) for image in pixels])
    images = (pixels / 255).astype("float32")
    for name, outputs in (
        ("floats", serve_floats(images=images)),
        ("uint8", serve_uint8(images=pixels)),
        ("bytes", serve_bytes(encoded=encoded)),
    ):
        np.savez(folder / f"{name}.npz", **outputs)
    info = model.signatures["info"]()
    class_names = info["class_names"].numpy().astype(str).tolist()
    answers = {"info": [class_names, float(info["epsilon"])]}
    ours = {"fastbat_tf", "models", "flags", "keras"} & set(sys.modules)
    assert ours <= {"keras"}, ours

    def keep(name, serve, **inputs):
        try:
            serve(**inputs)
            answers[name] = "answered"
        except tf.errors.InvalidArgumentError as error:
            answers[name] = str(error)

    keep("shape", serve_floats, images=tf.constant(images[:, :28, :28]))
    keep("range", serve_floats, images=255 * images)
    keep("batch", serve_uint8, images=tf.constant(pixels[0]))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for path in sorted(folder.glob("*.bomb")):
        keep(path.stem, serve_bytes, encoded=tf.constant([path.read_bytes()]))
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    answers["mebibytes"] = (after - before) / 1024
    (folder / "answers.json").write_text(json.dumps(answers))
"""


class ExportTest(tf.test.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        keras.utils.set_random_seed(0)
        cls.model = models.get(
            "preact_resnet18",
            width=2,
            num_classes=5,
            mean=[0.5] * 3,
            std=[0.25] * 3,
            batch_normalization=testing.ZOO_NORMALIZATION,
        )

    def test_serves_without_this_code(self):
        folder = pathlib.Path(self.get_temp_dir())
        random = np.random.default_rng(0)
        pixels = random.integers(0, 256, (3, 32, 32, 3), np.uint8)
        np.save(folder / "pixels.npy", pixels)
        info = ModelInfo("x", class_names=tuple("abcde"), epsilon=8 / 255)
        export(self.model, folder / "saved_model", info=info)
        for name, content in bombs().items():
            self.assertLess(len(content), 2**20)
            (folder / f"{name}.bomb").write_bytes(content)
        subprocess.run(
            [sys.executable, "-I", "-c", textwrap.dedent(CLIENT), folder],
            cwd=folder,
            check=True,
            capture_output=True,
        )
        images = (pixels / 255).astype("float32")
        logits = self.model(images, training=False).numpy()
        for name in ("floats", "uint8", "bytes"):
            with np.load(folder / f"{name}.npz") as outputs:
                self.assertAllClose(outputs["logits"], logits, 1e-4, 1e-5)
                self.assertAllClose(
                    outputs["probabilities"], tf.nn.softmax(logits), 1e-4
                )
                self.assertAllEqual(outputs["classes"], logits.argmax(-1))
                self.assertEqual(outputs["classes"].dtype, np.int64)
        answers = json.loads((folder / "answers.json").read_text())
        self.assertIn("(batch, 32, 32, 3). Received:", answers["shape"])
        self.assertIn("in [0, 1]. For pixels in 0..255", answers["range"])
        self.assertIn("images.shape=] [32 32 3]", answers["batch"])
        self.assertEqual(answers["frames"], "answered")
        self.assertEqual(answers["info"], [list("abcde"), 8 / 255])
        for name, size in (
            *((k, "20000 x 20000") for k in ("png", "jpeg", "gif", "bmp")),
            ("webp", "16384 x 16384"),
            ("long", "2 x 40000"),
        ):
            self.assertRegex(
                answers[name],
                r"encoded\[0\]: it is expected to have at most 67108864 pixels "
                f"and at most 32768 on a side, but has {size}",
            )
        # The decoded PNG file alone takes 1,200.
        self.assertLess(answers["mebibytes"], 150)

    def test_resizes_as_the_training_does(self):
        path = f"{self.get_temp_dir()}/saved_model"
        export(self.model, path)
        serve = tf.saved_model.load(path).signatures["serve_bytes"]
        # Stripes that the grid of a resized image misses.
        image = np.zeros((75, 50, 3), np.uint8)
        image[::3, :, 0] = image[:, 1::2, 1] = image[20:41, 11:30, 2] = 200
        for kind, options in (("PNG", {}), ("JPEG", {"quality": 95})):
            encoded = encode(Image.fromarray(image), kind, **options)
            decoded = np.asarray(Image.open(io.BytesIO(encoded)))
            expected = np.round(resize(decoded, 32, 32)) / 255
            answer = serve(encoded=tf.constant([encoded]))["logits"]
            logits = self.model(expected[np.newaxis].astype("float32"))
            self.assertAllClose(answer, logits, 1e-4, 1e-4)
            # Without averaging, the result is different.
            plain = tf.image.resize(decoded, (32, 32))[tf.newaxis] / 255
            difference = np.abs(self.model(plain) - logits).max()
            self.assertGreater(difference, 2e-3)

    def test_gray_images_and_any_size_of_batch(self):
        inputs = keras.Input((4, 6, 1))
        outputs = keras.layers.Dense(2)(keras.layers.Flatten()(inputs))
        model = keras.Model(inputs, outputs)
        path = f"{self.get_temp_dir()}/gray"
        export(model, path)
        serve = tf.saved_model.load(path).signatures["serve_bytes"]
        image = tf.cast(tf.reshape(tf.range(24), (4, 6, 1)), tf.uint8)
        for size in (1, 5):
            encoded = tf.stack([tf.io.encode_png(image)] * size)
            logits = serve(encoded=encoded)["logits"]
            expected = model(tf.cast([image] * size, tf.float32) / 255)
            self.assertAllClose(logits, expected, 1e-4, 1e-5)

    def test_holds_the_weights_of_the_classifier_once(self):
        path = f"{self.get_temp_dir()}/alone"
        export(self.model, path)
        stored = tf.train.list_variables(f"{path}/variables/variables")
        values = [n for n, _ in stored if n.endswith("VARIABLE_VALUE")]
        self.assertLen(values, len(self.model.weights))
        images, _ = testing.images_and_labels(2, size=32)
        loaded = tf.saved_model.load(path)
        answer = loaded.signatures["serving_default"](tf.constant(images))
        self.assertAllClose(answer["logits"], self.model(images), 1e-4, 1e-5)


class RefusedTest(tf.test.TestCase):
    """The messages of a SavedModel about invalid input."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.model = testing.small_network(size=8)
        directory = tempfile.TemporaryDirectory()
        cls.addClassCleanup(directory.cleanup)
        export(cls.model, f"{directory.name}/served")
        cls.loaded = tf.saved_model.load(f"{directory.name}/served")
        cls.images, _ = testing.images_and_labels(4)

    def assert_refused(self, message, name, *inputs, **named):
        with self.assertRaisesRegex(tf.errors.InvalidArgumentError, message):
            self.loaded.signatures[name](*inputs, **named)

    def test_signatures(self):
        """The messages that clients get."""
        inputs = {
            name: signature.structured_input_signature[1]
            for name, signature in self.loaded.signatures.items()
        }
        shape = None, 8, 8, 3
        self.assertEqual(
            inputs,
            {
                "serving_default": {
                    "images": tf.TensorSpec(shape, tf.float32, "images")
                },
                "serve_uint8": {
                    "images": tf.TensorSpec(shape, tf.uint8, "images")
                },
                "serve_bytes": {
                    "encoded": tf.TensorSpec((None,), tf.string, "encoded")
                },
                "info": {},
                "info_rest": {
                    "requests": tf.TensorSpec(None, tf.int32, "requests")
                },
            },
        )

    def test_shape(self):
        for dtype, name in ((tf.float32, "ing_default"), (tf.uint8, "e_uint8")):
            for shape in (
                (4, 6, 6, 3),
                (4, 8, 16, 3),
                (4, 8, 8, 1),
                (4, 8, 8, 4),
                (8, 8, 3),
                (2, 2, 8, 8, 3),
                (4, 8, 8, 3, 1),
                (8, 8),
                (0, 8, 8, 3),
                (),
            ):
                with self.subTest(f"{name} {shape}"):
                    self.assert_refused(
                        "A batch of images is expected, at least one, of the "
                        r"shape \(batch, 8, 8, 3\)\. Received: "
                        rf"images.shape=\] \[{' '.join(map(str, shape))}\]",
                        f"serv{name}",
                        images=tf.zeros(shape, dtype),
                    )
        for encoded in ("x", [["x"]], tf.constant([], tf.string)):
            self.assert_refused(
                r"A batch of files is expected, at least one.* \(batch,\)\.",
                "serve_bytes",
                encoded=tf.constant(encoded),
            )

    def test_range(self):
        one = np.float32(1)
        for value in (
            np.nan,
            np.inf,
            -np.inf,
            -0.01,
            1.01,
            2 * -TOLERANCE,
            1 + 2 * TOLERANCE,
            255,
        ):
            images = self.images.copy()
            images[2, 3, 4, 1] = value
            with self.subTest(f"{value}"):
                self.assert_refused(
                    r"Pixels are expected to be finite and in \[0, 1\]\. For "
                    "pixels in 0..255, use the signature serve_uint8, or "
                    "divide by 255",
                    "serving_default",
                    images=images,
                )
        serve = self.loaded.signatures["serving_default"]
        for value in (0, 1, np.nextafter(one, 2 * one), -1e-6, 1 + 1e-6):
            images = self.images.copy()
            images[2, 3, 4, 1] = value
            logits = self.model(images)
            self.assertAllClose(serve(images=images)["logits"], logits, 1e-4)

    def test_pixels_of_8_bits(self):
        pixels = (255 * self.images).astype(np.uint8)
        # TensorFlow rejects tensors of another dtype, but casts arrays.
        self.assert_refused(
            "float tensor but is a uint8 tensor",
            "serving_default",
            images=tf.constant(pixels),
        )
        self.assert_refused(
            r"images.max=\] \[255\]", "serving_default", images=pixels
        )
        answer = self.loaded.signatures["serve_uint8"](images=pixels)
        logits = self.model(pixels / np.float32(255))
        self.assertAllClose(answer["logits"], logits, 1e-4, 1e-6)

    def test_gradients(self):
        """Gradients as attacks need them, also compiled and at the bounds."""
        serve = self.loaded.signatures["serving_default"]

        def gradient(network, images):
            with tf.GradientTape() as tape:
                tape.watch(images)
                loss = tf.reduce_sum(network(images) ** 2)
            return tape.gradient(loss, images)

        images = tf.constant(self.images)
        expected = gradient(self.model, images)
        self.assertGreater(np.abs(expected).max(), 0.01)
        for compiled in (False, True):
            find = tf.function(
                lambda images: gradient(
                    lambda images: serve(images=images)["logits"], images
                ),
                jit_compile=compiled,
            )
            self.assertAllClose(find(images), expected, 1e-4, 1e-6)

    def test_classifiers_that_are_none_of_images(self):
        inputs = keras.Input((7,)), keras.Input((8, 8, 3))
        outputs = keras.layers.Dense(2)(inputs[0])
        for model in (
            keras.Model(inputs[0], outputs),
            keras.Model(inputs, [outputs, inputs[1]]),
        ):
            with self.assertRaisesRegex(
                InputError, "to have one input .*Received: inputs="
            ):
                export(model, f"{self.get_temp_dir()}/none")
        with self.assertRaisesRegex(InputError, "Received: reading=Reading"):
            export(self.model, "none", reading=Reading(8, 9, 3))

    def test_subclassed(self):
        """It is read like any other model, though it has no `input_shape`."""

        class Subclassed(keras.Model):
            def __init__(self):
                super().__init__()
                self.flatten = keras.layers.Flatten()
                self.dense = keras.layers.Dense(4)

            def call(self, images):
                return self.dense(self.flatten(images))

        images = np.random.default_rng(0).random((4, 8, 8, 3), np.float32)
        model = Subclassed()
        model(images)
        robust = RobustClassifier(model, Standard())
        path = f"{self.get_temp_dir()}/subclassed"
        export(robust, path)
        loaded = tf.saved_model.load(path)
        self.assertLen(loaded.signatures, 5)
        self.assertAllClose(
            loaded.serve(images)["logits"],
            robust.predict(images, verbose=0),
            1e-4,
            1e-5,
        )

    def test_classifiers_of_which_no_files_are_images(self):
        """Images of any size, or with two channels."""
        for shape in ((None, None, 3), (8, 8, 2)):
            inputs = keras.Input(shape)
            x = keras.layers.GlobalAveragePooling2D()(inputs)
            model = keras.Model(inputs, keras.layers.Dense(2)(x))
            path = f"{self.get_temp_dir()}/served{shape[-1]}"
            export(model, path)
            served = tf.saved_model.load(path).signatures
            self.assertNotIn("serve_bytes", served)
            self.assertIn("serve_uint8", served)
            images = np.zeros((2, 8, 8, shape[-1]), np.float32)
            answer = served["serving_default"](images=images)["logits"]
            self.assertAllClose(answer, model(images))


if __name__ == "__main__":
    tf.test.main()
