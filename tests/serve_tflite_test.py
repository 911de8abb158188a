"""Asks the server of examples/serve_tflite.py, rightly and wrongly."""

import concurrent.futures
import contextlib
import http.client
import json
import pathlib
import runpy
import tempfile
import threading

import keras
import numpy as np
import tensorflow as tf

from fastbat_tf.saving.export import export
from tests.support.command_line import TOP
from tests.support.testing import images_and_labels, small_network

NAMES = ["red", "green", "blue", "black"]


def instances(images):
    return json.dumps({"instances": images.tolist()})


def _bad(images):
    """Bodies of requests that are wrong, and what the answers must say."""
    pixel = images[:1].tolist()

    def changed(value):
        pixel[0][2][3][1] = value
        return json.dumps({"instances": pixel})

    return [
        ("", "Expected JSON "),
        ("{", "Expected JSON "),
        ("[]", "Expected JSON "),
        ("5", "Expected JSON "),
        ('{"images": []}', "Expected JSON "),
        ("[" * 100_000, "Expected JSON "),
        ('{"instances": "' + "\\ud800" + '"}', "Expected images of"),
        (b"\xff\xfe\x00", "Expected JSON "),
        ('{"instances": []}', "Expected images of"),
        ('{"instances": {"images": []}}', "Expected images of"),
        ('{"instances": [[], [1]]}', "Expected images of"),
        (instances(images[0]), "Expected images of"),
        (instances(images[:, :7]), "Expected images of"),
        (instances(images[..., :1]), "Expected images of"),
        (instances(255 * images), "in [0, 1]. Received: "),
        (instances(images - 1), "in [0, 1]. Received: -"),
        (changed(float("nan")), "in [0, 1]. Received: nan"),
        (changed(float("inf")), "in [0, 1]. Received: inf"),
        (changed(10**400), "in [0, 1]. Received: 1000"),
        (changed("0.5"), "Expected float32 pixels in [0, 1]. Received: "),
        (changed(None), "Expected float32 pixels in [0, 1]. Received: "),
        (changed(True), "Expected float32 pixels in [0, 1]. Received: "),
        (changed([0.5]), "Expected float32 pixels in [0, 1]. Received: [0.5]"),
    ]


class ServerTest(tf.test.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        directory = tempfile.TemporaryDirectory()
        cls.addClassCleanup(directory.cleanup)
        directory = pathlib.Path(directory.name)
        cls.model = small_network(normalization=keras.layers.BatchNormalization)
        cls.images, _ = images_and_labels(20)
        cls.example = runpy.run_path(str(TOP / "examples/serve_tflite.py"))
        floats = export(cls.model, directory / "floats", "tflite")
        integers = export(
            cls.model,
            directory / "integers",
            "tflite_int8",
            calibration=cls.images,
        )
        cls.port = cls.start(floats)
        cls.port_of_integers = cls.start(integers)

    @classmethod
    def start(cls, model):
        server = cls.example["make_server"](
            cls.example["App"](model, NAMES), port=0
        )
        # Until this process ends: its loop cannot be closed from outside.
        threading.Thread(target=server.run, daemon=True).start()
        return server.effective_port

    def ask(self, body, port=None, path=None, method="POST"):
        """The status and the answer, from a connection of its own."""
        client = http.client.HTTPConnection(
            "127.0.0.1", port or self.port, timeout=30
        )
        with contextlib.closing(client):
            client.request(method, path or self.example["PATH"], body)
            response = client.getresponse()
            text = response.read().decode()
        self.assertNotIn("\n", text)
        return response.status, json.loads(text)

    def test_load(self):
        """Hundreds of requests at a time, wrong ones among them."""
        logits = self.model(self.images).numpy()
        bad = _bad(self.images)

        def ask(number):
            if number % 3 == 0:
                body, said = bad[number // 3 % len(bad)]
                status, answer = self.ask(body)
                return status == 400 and said in answer["error"]
            chosen = np.arange(number % 7 + 1) + number % 13
            status, answer = self.ask(instances(self.images[chosen]))
            rows = answer["predictions"]
            measured = np.array([row["logits"] for row in rows])
            return (
                status == 200
                and np.abs(measured - logits[chosen]).max() < 1e-5
                and [row["class_name"] for row in rows]
                == [NAMES[n] for n in logits[chosen].argmax(axis=-1)]
            )

        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            right = list(pool.map(ask, range(300)))
        self.assertEqual(np.flatnonzero(np.logical_not(right)).tolist(), [])

    def test_wrong(self):
        for body, said in _bad(self.images):
            status, answer = self.ask(body)
            self.assertEqual((status, list(answer)), (400, ["error"]))
            self.assertIn(said, answer["error"])
            self.assertLess(len(answer["error"]), 200)

    def test_integers(self):
        numbers = np.rint(255 * self.images[:3]).astype(int)
        status, answer = self.ask(instances(numbers), self.port_of_integers)
        self.assertEqual(status, 200)
        measured = np.array([row["logits"] for row in answer["predictions"]])
        logits = self.model(self.images[:3]).numpy()
        self.assertLess(np.abs(measured - logits).max(), 0.05 * np.ptp(logits))
        for wrong in (numbers + 256, -1 - numbers, numbers / 255):
            status, answer = self.ask(instances(wrong), self.port_of_integers)
            self.assertEqual(status, 400)
            self.assertStartsWith(
                answer["error"], "Expected uint8 pixels in [0, 255]. "
            )

    def test_other_requests(self):
        good = instances(self.images[:1])
        self.assertEqual(self.ask(good, path="/v1/models/other")[0], 404)
        self.assertEqual(self.ask(None, method="GET")[0], 405)
        status, answer = self.ask(" " * (self.example["MAX_BYTES"] + 1))
        self.assertEqual((status, list(answer)), (413, ["error"]))
        self.assertEqual(self.ask(good)[0], 200)


if __name__ == "__main__":
    tf.test.main()
