"""The SavedModel, also where none of this code is."""

import subprocess
import sys
import textwrap

import keras
import numpy as np
import tensorflow as tf

import models
from fastbat_tf import BatchNormalization
from fastbat_tf.export import export
from tests import testing

# Run by an isolated interpreter, in which the project is not importable.
CLIENT = """
    import sys
    import numpy as np
    import tensorflow as tf

    folder = sys.argv[1]
    model = tf.saved_model.load(folder + "/saved_model")
    images = np.load(folder + "/images.npy")
    by_pixels = model.signatures["serving_default"](images=images)
    encoded = [tf.io.encode_png(np.uint8(255 * x + 0.5)) for x in images]
    by_bytes = model.signatures["serve_bytes"](encoded=tf.stack(encoded))
    for name, outputs in (("pixels", by_pixels), ("bytes", by_bytes)):
        np.savez(f"{folder}/{name}.npz", **outputs)
    ours = {"fastbat_tf", "models", "flags", "keras"} & set(sys.modules)
    assert ours <= {"keras"}, ours
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
            batch_normalization=BatchNormalization,
        )

    def test_serves_without_this_code(self):
        folder = self.get_temp_dir()
        random = np.random.default_rng(0)
        pixels = random.integers(0, 256, (3, 32, 32, 3))
        images = (pixels / 255).astype("float32")
        np.save(f"{folder}/images.npy", images)
        export(self.model, f"{folder}/saved_model")
        subprocess.run(
            [sys.executable, "-I", "-c", textwrap.dedent(CLIENT), folder],
            cwd=folder,
            check=True,
            capture_output=True,
        )
        logits = self.model(images, training=False).numpy()
        for name in ("pixels", "bytes"):
            with np.load(f"{folder}/{name}.npz") as outputs:
                self.assertAllClose(outputs["logits"], logits, 1e-4, 1e-5)
                self.assertAllClose(
                    outputs["probabilities"], tf.nn.softmax(logits), 1e-4
                )
                self.assertAllEqual(outputs["classes"], logits.argmax(-1))
                self.assertEqual(outputs["classes"].dtype, np.int64)

    def test_decodes_jpeg_and_resizes(self):
        path = f"{self.get_temp_dir()}/saved_model"
        export(self.model, path)
        serve = tf.saved_model.load(path).signatures["serve_bytes"]
        image = np.zeros((64, 64, 3), np.uint8)
        image[:32] = 200
        answers = [
            serve(encoded=tf.stack([encode(image)]))["logits"]
            for encode in (tf.io.encode_png, tf.io.encode_jpeg)
        ]
        expected = np.zeros((1, 32, 32, 3), "float32")
        expected[:, :16] = 200 / 255
        for answer in answers:
            self.assertAllClose(answer, self.model(expected), 1e-3, 1e-3)

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


if __name__ == "__main__":
    tf.test.main()
