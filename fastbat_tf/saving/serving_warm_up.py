"""Requests with which TensorFlow Serving warms a model up when it loads it.

The first answers of a model are slow, since TensorFlow prepares what it has not
run yet. The server replays the requests that lie beside the model before it
serves it; if one of them failed, it would not serve it at all.
"""

import importlib.util
import pathlib
from typing import Any

import numpy as np
import tensorflow as tf

from fastbat_tf.runtime import display
from fastbat_tf.saving.served import Served

FILE = pathlib.Path("assets.extra", "tf_serving_warmup_requests")
BATCH = 2
SIZE = 224  # Of images that can have any size.
PHOTOGRAPH = 256, 320  # As large as the images that a server gets.


def write(served: Served, signatures: dict[str, Any], folder: Any) -> None:
    """Writes the requests beside a SavedModel, if their format is installed.

    There are requests of a few images for each signature, and one of an image
    file that has to be resized. Each was answered before it is written.

    Args:
        served: The `Served`.
        signatures: Dict from names of signatures to the functions of the model.
        folder: Path of the SavedModel's directory.
    """
    if importlib.util.find_spec("tensorflow_serving") is None:
        display.note(
            "The model has no warm-up requests for TensorFlow Serving; to "
            "write them, install tensorflow-serving-api: "
            'pip install "fastbat_tf[export]".'
        )
        return
    path = pathlib.Path(folder) / FILE
    path.parent.mkdir()
    with tf.io.TFRecordWriter(str(path)) as file:
        for name, tensor in _inputs(served):
            if name in signatures and _is_answered(name, signatures, tensor):
                file.write(_record(name, tensor))


def _inputs(served):
    """Names of signatures with tensors for their inputs."""
    height, width, channels = served.shape
    pixels = _picture(height or SIZE, width or SIZE, channels)
    batch = tf.stack([pixels] * BATCH)
    yield "serving_default", tf.cast(batch, tf.float32) / 255
    yield "serve_uint8", batch
    if channels in (1, 3):
        yield "serve_bytes", tf.stack([tf.io.encode_png(pixels)] * BATCH)
        photograph = _picture(*PHOTOGRAPH, channels)
        yield "serve_bytes", tf.stack([tf.io.encode_jpeg(photograph)])


def _picture(height, width, channels):
    """An image with edges and gradients, without random numbers."""
    row, column = np.ogrid[:height, :width]
    image = (255 * row // height + 16 * (column // 4)) % 256
    return tf.constant(np.dstack([image] * channels), tf.uint8)


def _is_answered(name, signatures, tensor):
    try:
        signatures[name](tensor)
    except (tf.errors.OpError, ValueError) as error:
        reason = str(error).splitlines()[0]
        display.note(
            f"The model has no warm-up request for {name}, which does not take "
            f"images of the shape {tensor.shape[1:]}: {reason}"
        )
        return False
    return True


def _record(name, tensor):
    # Not installed without the extra of the exports. Their classes are made
    # when they are imported.
    from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

    request = predict_pb2.PredictRequest()  # pyright: ignore
    request.model_spec.signature_name = name
    kind = "encoded" if tensor.dtype == tf.string else "images"
    request.inputs[kind].CopyFrom(tf.make_tensor_proto(tensor.numpy()))
    log = prediction_log_pb2.PredictionLog()  # pyright: ignore
    log.predict_log.request.CopyFrom(request)
    return log.SerializeToString()
