"""Tests Keras files of someone who means harm."""

import json
import stat
import time
import tracemalloc
import warnings
import zipfile

import h5py
import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from fastbat_tf import npz
from fastbat_tf.saving import initial_weights, model_files, trust
from tests.support.planted_models import (
    CONFIG,
    WEIGHTS,
    PlantedTestCase,
    network_with,
    write_members,
)
from tests.support.testing import images_and_labels, small_network


def read_weights(path):
    initial_weights.load(small_network(), path)


class CodeTest(PlantedTestCase):
    @parameterized.parameters("lambda.keras", "lambda.h5")
    def test_a_lambda_layer(self, name):
        """It runs only with the user's word, and then computes."""
        path, mark = self.directory / name, self.directory / "mark"
        marked = str(mark)
        layer = keras.layers.Lambda(
            lambda images: (open(marked, "w").close(), images / 2)[1],  # noqa: SIM115
            output_shape=(8, 8, 3),
            name="half",
        )
        model = network_with(layer)
        model.save(path)
        mark.unlink(missing_ok=True)  # If Keras has called it.
        said = self.assert_refused(
            path, r"The layer half \(Lambda\) of the model is Python code"
        )
        self.assertIn("pass --allow_code (in Python allow_code=True)", said)
        self.assertFalse(mark.exists())
        images, _ = images_and_labels(2)
        network = model_files.load(path, allow_code=True)
        self.assertAllClose(network(images), model(images), 1e-5)
        self.assertTrue(mark.exists())

    def test_functions_of_the_program(self):
        """A layer of a function that Keras or the program has is no code."""
        path = self.directory / "relu.keras"
        network_with(keras.layers.Lambda(keras.activations.relu)).save(path)
        model_files.load(path)


class ArchiveTest(PlantedTestCase):
    @parameterized.parameters(
        ("../escaped", "leads out of the archive"),
        ("/tmp/escaped", "leads out of the archive"),
        ("assets/../../escaped", "leads out of the archive"),
        ("assets\\..\\escaped", "leads out of the archive"),
        ("c:escaped", "leads out of the archive"),
        ("run_me.py", "is not expected"),
        ("model.weights.npz", "is not expected"),
    )
    def test_unexpected_members(self, name, fault):
        path = self.planted.with_members(**{name: b"content"})
        said = self.assert_refused(path, f"cannot be read.*{fault}")
        self.assertIn(repr(name), said)
        self.assert_refused(path, f"cannot be read.*{fault}", read_weights)

    def test_twice(self):
        """Readers disagree about which of the two they see."""
        path = self.directory / "twice.keras"
        with warnings.catch_warnings(action="ignore"):
            write_members(
                path,
                [*self.planted.members.items(), (CONFIG, b"{}")],
            )
        self.assert_refused(path, f"is there twice.*'{CONFIG}'")

    def test_a_link(self):
        link = zipfile.ZipInfo("assets/link")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        path = self.directory / "link.keras"
        write_members(
            path, [*self.planted.members.items(), (link, "/etc/passwd")]
        )
        self.assert_refused(path, "is a link.*'assets/link'")

    def test_missing(self):
        path = self.directory / "none.keras"
        write_members(path, [(CONFIG, b"{}")])
        self.assert_refused(path, rf"expected to have the members.*{CONFIG}")


class BombTest(PlantedTestCase):
    def refused_cheaply(self, path, message, *readers):
        for read in readers or (model_files.load, read_weights):
            tracemalloc.start()
            before = time.monotonic()
            self.assert_refused(path, message, read)
            seconds = time.monotonic() - before
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            self.assertLess(peak, npz.FREE_BYTES)
            self.assertLess(seconds, 5)

    def plant_large(self, name):
        """A member of zeros, which is larger than the archive declares."""
        path = self.directory / "large.keras"
        block = bytes(2**20)
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for member, content in self.planted.members.items():
                if member != name:
                    archive.writestr(member, content)
            with archive.open(name, "w") as file:
                for _ in range(npz.FREE_BYTES // len(block) + 1):
                    file.write(block)
        return path

    @parameterized.product(name=[CONFIG, WEIGHTS])
    def test_a_large_member(self, name):
        self.refused_cheaply(self.plant_large(name), "decompression bomb")

    def test_a_large_config(self):
        size = trust.archives.MAX_CONFIG_BYTES + 1
        path = self.planted.with_members(**{CONFIG: bytes(size)})
        self.refused_cheaply(path, f"at most .* bytes=.*{size}")

    def plant_weights(self, change):
        """The good file with a change of its HDF5 file."""
        file = self.directory / "changed.h5"
        file.write_bytes(self.planted.members[WEIGHTS])
        with h5py.File(file, "r+") as weights:
            change(weights)
        content = file.read_bytes()
        file.unlink()
        return self.planted.with_members(**{WEIGHTS: content})

    @parameterized.parameters(
        {"chunks": (1024, 1024), "compression": "gzip"}, {}
    )
    def test_a_large_array(self, **options):
        def change(weights):
            weights.create_dataset("layers/more", (10**6, 10**6), **options)

        self.refused_cheaply(self.plant_weights(change), "decompression bomb")

    def test_a_large_chunk(self):
        def change(weights):
            weights.create_dataset(
                "layers/more", (1,), chunks=(2**28,), maxshape=(None,)
            )

        self.refused_cheaply(self.plant_weights(change), "decompression bomb")

    def test_a_large_layer(self):
        """Its weights are created before those of the file are read."""

        def change(config):
            config["config"]["layers"][-1]["config"]["units"] = 10**10

        self.refused_cheaply(
            self.planted.with_config(change),
            r"The layers of the model have more than .* shape \(\d+, 10{10}\)",
            model_files.load,
        )
        model_files.load(self.planted.good)  # Nothing of the check remains.

    def test_a_nested_config(self):
        for content in (b"[" * 10**6, b'{"config":' * 10**5):
            path = self.planted.with_members(**{CONFIG: content})
            self.assert_refused(path, "cannot be read")


class OtherFilesTest(PlantedTestCase):
    """Weights that are in another file of the machine."""

    def setUp(self):
        super().setUp()
        self.secret = self.directory / "secret.h5"
        with h5py.File(self.secret, "w") as file:
            file["secret"] = np.arange(9.0)

    def plant(self, kind):
        path = self.directory / f"{kind}.weights.h5"
        path.write_bytes(self.planted.members[WEIGHTS])
        with h5py.File(path, "r+") as file:
            group = file["layers"]
            if kind == "link":
                group["x"] = h5py.ExternalLink(str(self.secret), "secret")
            elif kind == "soft":
                group["x"] = h5py.SoftLink("/vars")
            elif kind == "external":
                group.create_dataset(
                    "x", (9,), "f8", external=[(str(self.secret), 0, 72)]
                )
            elif kind == "virtual":
                layout = h5py.VirtualLayout((9,), "f8")
                layout[:] = h5py.VirtualSource(self.secret, "secret", (9,))
                group.create_virtual_dataset("x", layout)
            else:
                group["x"] = ["text"]
        return path

    @parameterized.parameters(
        ("link", "is a link to another place"),
        ("soft", "is a link to another place"),
        ("external", "has its content in other files"),
        ("virtual", "has its content in other files"),
        ("text", "does not hold numbers"),
    )
    def test_refused(self, kind, fault):
        path = self.plant(kind)
        self.assert_refused(path, f"/layers/x {fault}", read_weights)
        archive = self.planted.with_members(**{WEIGHTS: path.read_bytes()})
        self.assert_refused(archive, f"/layers/x {fault}")


class GoodTest(PlantedTestCase):
    def test_a_large_file(self):
        """A large honest file passes, and its weights are not read."""
        path = self.directory / "large.weights.h5"
        megabytes = 600
        with h5py.File(path, "w") as file:
            data = file.create_dataset("layers/x", (megabytes, 2**18), "f4")
            data[-1] = 1.0  # All of it is allocated.
        self.assertGreater(path.stat().st_size, megabytes * 2**20)
        with trust.open_weights(path, "init_weights=x") as weights:
            self.assertEqual(weights["layers/x"].shape[0], megabytes)

    def test_compressed_again(self):
        path = self.directory / "again.keras"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in self.planted.members.items():
                archive.writestr(name, content)
        images, _ = images_and_labels(2)
        expected = model_files.load(self.planted.good)(images)
        self.assertAllClose(model_files.load(path)(images), expected)
        config = json.loads(self.planted.members[CONFIG])
        self.assertEqual(config["class_name"], "Functional")


if __name__ == "__main__":
    tf.test.main()
