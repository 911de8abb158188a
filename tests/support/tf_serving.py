"""TensorFlow Serving's published protocol, over the signatures of a SavedModel.

`predict` answers a `PredictRequest`; `Server` does so on a port. `read` and
`write` map JSON to such messages by the rules of its REST interface.
"""

import base64
import contextlib
import json
import struct
import threading
from concurrent import futures

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import (
    predict_pb2,
    prediction_service_pb2_grpc,
)

DEFAULT = "serving_default"
INVALID = grpc.StatusCode.INVALID_ARGUMENT


class RefusedError(Exception):
    """What the server answers instead, with the code of gRPC."""

    def __init__(self, message, code=INVALID):
        super().__init__(message)
        self.code = code


def specs(signatures, name):
    """The `TensorSpec`s of the inputs of a signature, by name."""
    if name not in signatures:
        raise RefusedError(
            f'Serving signature key "{name}" not found.',
            grpc.StatusCode.FAILED_PRECONDITION,
        )
    return signatures[name].structured_input_signature[1]


def predict(signatures, request):
    """Answers a `PredictRequest` by a `PredictResponse`."""
    name = request.model_spec.signature_name or DEFAULT
    wanted = specs(signatures, name)
    if set(request.inputs) != set(wanted):
        raise RefusedError("input size does not match signature")
    inputs = {}
    for key, proto in request.inputs.items():
        if proto.dtype != wanted[key].dtype.as_datatype_enum:
            raise RefusedError(f"Expects arg {key} to be another type")
        inputs[key] = tf.constant(
            tf.make_ndarray(proto), wanted[key].dtype, proto_shape(proto)
        )
    try:
        answers = signatures[name](**inputs)
    except tf.errors.InvalidArgumentError as error:
        raise RefusedError(str(error)) from error
    response = predict_pb2.PredictResponse()
    response.model_spec.CopyFrom(request.model_spec)
    response.model_spec.signature_name = name
    for key, tensor in answers.items():
        response.outputs[key].CopyFrom(tf.make_tensor_proto(tensor.numpy()))
    return response


def proto_shape(proto):
    """The shape of a tensor that a message holds."""
    return [dimension.size for dimension in proto.tensor_shape.dim]


def read(text, signatures):
    """Reads a JSON request.

    Returns:
        The `PredictRequest`, and whether it has `instances`.
    """
    try:
        content = json.loads(text)
    except ValueError as error:
        raise RefusedError(f"JSON Parse error: {error}") from error
    name = content.get("signature_name", DEFAULT)
    wanted = specs(signatures, name)
    if not wanted:
        raise RefusedError(f"Failed to get input map for signature: {name}")
    if len({"instances", "inputs"} & set(content)) != 1:
        raise RefusedError("one of 'inputs' or 'instances' is expected")
    request = predict_pb2.PredictRequest()
    request.model_spec.signature_name = name
    is_row = "instances" in content
    parts = _of_rows if is_row else _of_columns
    for key, value in parts(content, wanted).items():
        request.inputs[key].CopyFrom(_tensor(value, wanted[key].dtype))
    return request, is_row


def _of_rows(content, wanted):
    rows = content["instances"]
    if not isinstance(rows, list) or not rows:
        raise RefusedError("No values in 'instances' array")
    if not _is_object(rows[0]):
        if len(wanted) > 1:
            raise RefusedError("instances is a plain list")
        return {next(iter(wanted)): rows}
    if any(not _is_object(row) or set(row) != set(wanted) for row in rows):
        raise RefusedError("keys must be equal to those of the signature")
    return {key: [row[key] for row in rows] for key in wanted}


def _of_columns(content, wanted):
    columns = content["inputs"]
    if not _is_object(columns):
        return {next(iter(wanted)): columns}
    if set(wanted) - set(columns):
        raise RefusedError("Missing named input in 'inputs' object.")
    return {key: columns[key] for key in wanted}


def _is_object(value):
    return isinstance(value, dict) and list(value) != ["b64"]


def _tensor(value, dtype):
    shape, first = [], value
    while isinstance(first, list):
        shape.append(len(first))
        first = first[0] if first else None
    leaves = list(_leaves(value, shape))
    convert = {tf.string: _bytes, tf.float32: _float}.get(dtype, _integer)
    values = [convert(leaf) for leaf in leaves]
    kind = object if dtype == tf.string else dtype.as_numpy_dtype
    if convert is _integer:  # The message holds 32 bits, the tensor fewer.
        array = np.array(values, np.int32).astype(kind)
    else:
        array = np.array(values, kind)
    return tf.make_tensor_proto(array.reshape(shape), dtype, shape)


def _leaves(value, shape):
    if not shape:
        if isinstance(value, list):
            raise RefusedError("Encountered list at unexpected level")
        yield value
        return
    if not isinstance(value, list) or len(value) != shape[0]:
        raise RefusedError("Encountered list at unexpected size")
    for each in value:
        yield from _leaves(each, shape[1:])


def _bytes(value):
    if isinstance(value, dict) and list(value) == ["b64"]:
        try:
            return base64.b64decode(value["b64"], validate=True)
        except ValueError as error:
            raise RefusedError("Unable to base64 decode") from error
    if not isinstance(value, str):
        raise RefusedError("is not of expected type: string")
    return value.encode()


def _float(value):
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise RefusedError("is not of expected type: float")
    return value


def _integer(value):
    if isinstance(value, bool) or not isinstance(value, int):
        raise RefusedError("is not of expected type: integer")
    try:
        struct.pack("i", value)
    except struct.error as error:
        raise RefusedError("is not of expected type: integer") from error
    return value


def write(response, is_row):
    """Writes a `PredictResponse` as JSON.

    Args:
        response: The message.
        is_row: Whether the request had `instances`.
    """
    arrays = {k: tf.make_ndarray(v) for k, v in response.outputs.items()}
    plain = {key: _plain(key, array) for key, array in arrays.items()}
    is_single = len(plain) == 1
    if not is_row:
        outputs = next(iter(plain.values())) if is_single else plain
        return json.dumps({"outputs": outputs})
    sizes = {array.shape[:1] for array in arrays.values()}
    if len(sizes) != 1 or () in sizes:
        raise RefusedError("has inconsistent batch size, or no shape")
    rows = [
        next(iter(row)) if is_single else dict(zip(plain, row, strict=True))
        for row in zip(*plain.values(), strict=True)
    ]
    return json.dumps({"predictions": rows})


def _plain(name, array):
    if array.dtype == object:

        def encode(value):
            if name.endswith("_bytes"):
                return {"b64": base64.b64encode(value).decode()}
            return value.decode()

        flat = [encode(value) for value in array.ravel()]
    else:  # The shortest decimal that stands for the number.
        is_float = array.dtype.kind == "f"
        flat = [float(str(v)) if is_float else int(v) for v in array.ravel()]
    for size in reversed(array.shape[1:]):
        if not size:
            return [[] for _ in range(array.shape[0])]
        flat = [flat[i : i + size] for i in range(0, len(flat), size)]
    return flat if array.ndim else flat[0]


def serve_rest(signatures, text):
    """Answers a JSON request: its status, and JSON."""
    try:
        request, is_row = read(text, signatures)
        return 200, write(predict(signatures, request), is_row)
    except RefusedError as error:
        return 400, json.dumps({"error": str(error)})


class Server(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Serves a SavedModel on a port, as TensorFlow Serving does over gRPC."""

    def __init__(self, signatures, name):
        self.signatures, self.name = signatures, name
        self.answered = 0
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def running(self):
        """Runs the server during a `with` block; yields its address."""
        server = grpc.server(futures.ThreadPoolExecutor(4))
        add = prediction_service_pb2_grpc
        add.add_PredictionServiceServicer_to_server(self, server)
        port = server.add_insecure_port("localhost:0")
        server.start()
        try:
            yield f"localhost:{port}"
        finally:
            server.stop(None).wait()

    def Predict(self, request, context):  # noqa: N802  gRPC's name.
        """Answers a request."""
        try:
            if request.model_spec.name != self.name:
                code = grpc.StatusCode.NOT_FOUND
                raise RefusedError("Servable not found for request", code)
            response = predict(self.signatures, request)
        except RefusedError as error:
            context.abort(error.code, str(error))
        with self._lock:
            self.answered += 1
        return response
