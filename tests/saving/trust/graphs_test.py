"""Tests SavedModels that reach beyond the model."""

import pathlib
import tempfile

import keras
import tensorflow as tf
from absl.testing import parameterized

from fastbat_tf.errors import InputError
from fastbat_tf.saving import model_files
from fastbat_tf.saving.export import export
from fastbat_tf.saving.trust import check_saved_model
from tests.support.testing import images_and_labels, small_network

SPEC = tf.TensorSpec((None, 8, 8, 3), tf.float32, name="images")
SECRET = "/etc/passwd"


def read(images):
    return images + tf.cast(
        tf.strings.length(tf.io.read_file(SECRET)), tf.float32
    )


def write(images):
    tf.io.write_file("planted", "x")
    return images


def call_python(images):
    return tf.ensure_shape(
        tf.numpy_function(lambda x: x, [images], tf.float32), SPEC.shape
    )


def glob(images):
    names = tf.io.matching_files("/etc/*")
    return images + tf.cast(tf.size(names), tf.float32)


def read_records(images):
    count = tf.data.TextLineDataset(SECRET).reduce(0.0, lambda n, _: n + 1)
    return images + count


def cache(images):
    found = tf.data.Dataset.from_tensors(images).cache("planted")
    return found.get_single_element()


def print_to_a_file(images):
    tf.print(images, output_stream="file:///tmp/planted")
    return images


def save(images):
    tf.raw_ops.SaveV2(
        prefix="planted",
        tensor_names=["x"],
        shape_and_slices=[""],
        tensors=[images],
    )
    return images


def restore(images):
    (found,) = tf.raw_ops.RestoreV2(
        prefix="planted",
        tensor_names=["x"],
        shape_and_slices=[""],
        dtypes=[tf.float32],
    )
    return images + found


def in_a_branch(images):
    """The function of a function."""
    return tf.cond(tf.size(images) > 1, lambda: read(images), lambda: images)


def in_a_loop(images):
    return tf.map_fn(read, images)


REFUSED = {
    "ReadFile": read,
    "WriteFile": write,
    "PyFunc|EagerPyFunc": call_python,
    "MatchingFiles": glob,
    "TextLineDataset": read_records,
    "CacheDataset|CacheDatasetV2": cache,
    "PrintV2": print_to_a_file,
    "SaveV2": save,
    "RestoreV2": restore,
    "ReadFile ": in_a_branch,
    "ReadFile  ": in_a_loop,
}


def save_model(path, function):
    module = tf.Module()
    module.f = tf.function(function, [SPEC], autograph=False)
    tf.saved_model.save(module, path, {"serving_default": module.f})


class GraphsTest(parameterized.TestCase, tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.path = self.enterContext(tempfile.TemporaryDirectory())

    @parameterized.parameters(*REFUSED.items())
    def test_refused(self, operation, function):
        save_model(self.path, function)
        with self.assertRaisesRegex(
            InputError,
            rf"^The SavedModel has the operation ({operation.strip()}), .*"
            f"--allow_code.* Received: model_path={self.path}$",
        ):
            model_files.load(self.path)

    def test_a_table_of_a_file(self):
        module = tf.Module()
        module.table = tf.lookup.StaticHashTable(
            tf.lookup.TextFileInitializer(
                SECRET,
                tf.string,
                tf.lookup.TextFileIndex.WHOLE_LINE,
                tf.int64,
                tf.lookup.TextFileIndex.LINE_NUMBER,
            ),
            0,
        )
        module.f = tf.function(
            lambda x: x + tf.cast(module.table.size(), tf.float32), [SPEC]
        )
        tf.saved_model.save(module, self.path, {"serving_default": module.f})
        with self.assertRaisesRegex(InputError, "InitializeTableFromTextFile"):
            model_files.load(self.path)

    def test_trusted(self):
        save_model(self.path, glob)
        images, _ = images_and_labels(2)
        network = model_files.load(self.path, allow_code=True)
        self.assertGreater(float(network(images)[0, 0, 0, 0]), 1.0)

    def test_a_data_set_of_tensors(self):
        """Its random numbers reach nothing outside."""

        def shuffled(images):
            found = tf.data.Dataset.from_tensor_slices(images).shuffle(4)
            return found.batch(4).get_single_element()

        save_model(self.path, shuffled)
        check_saved_model(self.path, "model_path=m")

    def test_exports(self):
        """Ours, those of Keras, and those of TensorFlow pass."""
        model = small_network(normalization=keras.layers.BatchNormalization)
        path = pathlib.Path(self.path)
        export(model, path / "ours")
        model.export(path / "keras", verbose=False)
        tf.saved_model.save(model, str(path / "tensorflow"))
        for name in ("ours", "keras", "tensorflow"):
            check_saved_model(path / name, "model_path=m")

    @parameterized.parameters(b"", b"no graph", None)
    def test_broken(self, content):
        if content is not None:
            pathlib.Path(self.path, "saved_model.pb").write_bytes(content)
        with self.assertRaises(InputError) as caught:
            model_files.load(self.path)
        self.assertIn(f"model_path={self.path}", str(caught.exception))
        self.assertNotIn("\n", str(caught.exception))


if __name__ == "__main__":
    tf.test.main()
