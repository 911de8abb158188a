"""Serves a TFLite model over HTTP, without TensorFlow.

    pip install "fastbat_tf[export]" waitress
    python examples/serve_tflite.py --model=model.tflite

It speaks the REST protocol of TensorFlow Serving, takes floats or, for 8-bit
models, integers, and answers a wrong request by a sentence. Without `--model`,
it exports an untrained network, asks it twice, and stops. It printed:

    200 classes [3, 3]
    400 Expected float32 pixels in [0, 1]. Received: 162.4

`--small`, which the other examples have, changes nothing.
"""

import argparse
import http.client
import json
import threading

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from waitress.server import create_server

PATH = "/v1/models/model:predict"
MAX_BYTES = 8 * 1024**2  # Of a request: a hundred images of 32x32.


class RefusedError(Exception):
    """A status and a sentence, which are the answer."""


class App:
    """A WSGI application that serves one model."""

    def __init__(self, model, class_names=()):
        self.model, self.class_names = model, class_names
        self.local = threading.local()  # An interpreter is not thread-safe.
        details = self.runner().get_input_details()["images"]
        self.shape = tuple(map(int, details["shape"][1:]))
        self.dtype = np.dtype(details["dtype"])

    def runner(self):
        if not hasattr(self.local, "runner"):
            self.local.runner = Interpreter(self.model).get_signature_runner()
        return self.local.runner

    def __call__(self, environ, start_response):
        try:
            status, answer = 200, self.answer(environ)
        except RefusedError as error:
            status, answer = error.args[0], {"error": error.args[1]}
        line = f"{status} {http.client.responses[status]}"
        start_response(line, [("Content-Type", "application/json")])
        return [json.dumps(answer).encode()]

    def answer(self, environ):
        if environ["PATH_INFO"] != PATH:
            raise RefusedError(404, f"Expected {PATH}")
        if environ["REQUEST_METHOD"] != "POST":
            raise RefusedError(405, "Expected POST")
        size = int(environ.get("CONTENT_LENGTH") or 0)
        if size > MAX_BYTES:
            raise RefusedError(413, f"Over {MAX_BYTES}")
        images = self.read_images(environ["wsgi.input"].read(size))
        outputs = self.runner()(images=images)
        if self.class_names:
            outputs["class_name"] = np.array(self.class_names)[
                outputs["classes"]
            ]
        columns = [output.tolist() for output in outputs.values()]
        rows = [dict(zip(outputs, row)) for row in zip(*columns)]  # noqa: B905
        return {"predictions": rows}

    def read_images(self, body):
        try:
            pixels = np.array(json.loads(body)["instances"], object)
        except (LookupError, RecursionError, TypeError, ValueError):
            refuse('Expected JSON {"instances": [image, ...]}', body)
        if pixels.shape[1:] != self.shape or not len(pixels):
            refuse(f"Expected images of {self.shape}", pixels.shape)
        limit, kinds = (1, {int, float}) if self.dtype == "f4" else (255, {int})
        for pixel in pixels.flat:
            if type(pixel) not in kinds or not 0 <= pixel <= limit:  # Or NaN.
                refuse(f"Expected {self.dtype} pixels in [0, {limit}]", pixel)
        return pixels.astype(self.dtype)


def refuse(expected, received):
    raise RefusedError(400, f"{expected}. Received: {received!s:.60}")


def make_server(app, port):
    """Returns a server that listens on the loopback once it runs."""
    return create_server(
        app, host="127.0.0.1", port=port, max_request_body_size=2 * MAX_BYTES
    )


def demonstrate():
    import fastbat_tf as fb

    network = fb.models.get("resnet18", width=4, num_classes=10)
    app = App(fb.export(network, "served", "tflite"))
    server = make_server(app, port=0)  # Any that is free.
    threading.Thread(target=server.run, daemon=True).start()
    images = np.random.default_rng(0).random((2, 32, 32, 3))
    for pixels in (images, 255 * images):
        client = http.client.HTTPConnection("127.0.0.1", server.effective_port)
        client.request("POST", PATH, json.dumps({"instances": pixels.tolist()}))
        response = client.getresponse()
        answer = json.load(response)
        named = [row["classes"] for row in answer.get("predictions", ())]
        print(response.status, answer.get("error", f"classes {named}"))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", help="a TFLite file")
    parser.add_argument("--class_names", nargs="*", default=())
    parser.add_argument("--small", action="store_true")
    options = parser.parse_args()
    if not options.model:
        return demonstrate()
    app = App(options.model, options.class_names)
    return make_server(app, port=8501).run()


if __name__ == "__main__":
    main()
