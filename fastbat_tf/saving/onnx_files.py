"""Reads an ONNX file as a function from images to logits."""

import contextlib
import importlib
import os
import pathlib
import re
from typing import Any

import numpy as np

from fastbat_tf.errors import InputError
from fastbat_tf.runtime import hardware

# The types of inputs, as ONNX Runtime writes them.
FLOATS = {
    "tensor(float16)": np.float16,
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
}
TYPES = {**FLOATS, "tensor(uint8)": np.uint8}


def read(path: pathlib.Path) -> "OnnxNetwork":
    """Reads a classifier, as this library or PyTorch writes it, for example.

    ONNX Runtime computes it on the processor. It has one input, images of the
    type float16, float32 or float64 in [0, 1], or uint8; with the channels last
    or first. Its logits are the output `logits`, or the only output, or the
    only one of the shape `(batch, classes)`.

    Args:
        path: Path of the file. Files that hold its weights lie beside it or
            below.

    Returns:
        An `OnnxNetwork`.

    Raises:
        InputError: If ONNX Runtime is not installed, if it cannot read the
            file, or if this is not such a classifier.

    Example:

    >>> read(pathlib.Path("exported/model.onnx"))(images[:8]).shape
    (8, 10)
    """
    path = pathlib.Path(path)
    runtime = _import_runtime()
    options = runtime.SessionOptions()
    options.log_severity_level = 4  # Errors are raised, too.
    # Otherwise it takes all processors, also those that it may not use.
    options.intra_op_num_threads = hardware.cores()
    # It does not read weights outside of the directory of the file.
    with _one_line("The ONNX file cannot be read", f"model_path={path}"):
        session = runtime.InferenceSession(
            os.fspath(path), options, providers=["CPUExecutionProvider"]
        )
    return OnnxNetwork(session, _find_input(session), _find_output(session))


def _import_runtime() -> Any:
    try:
        return importlib.import_module("onnxruntime")
    except ImportError as error:
        raise InputError(
            "ONNX files need onnxruntime; install the extra export: "
            'pip install "fastbat_tf[export]". Received: no onnxruntime'
        ) from error


@contextlib.contextmanager
def _one_line(message: str, received: str):
    """Raises an `InputError` for what ONNX Runtime raises."""
    try:
        yield
    except Exception as error:  # Its classes have no base of their own.
        reason = re.sub(r"^\[ONNXRuntimeError\] : \d+ : ", "", str(error))
        line = reason.partition("\n")[0][:300]
        raise InputError(f"{message}. Received: {received} ({line})") from error


def _find_input(session):
    inputs = session.get_inputs()
    if (
        len(inputs) != 1
        or len(inputs[0].shape) != 4
        or inputs[0].type not in TYPES
    ):
        raise InputError(
            "An ONNX file is expected to have one input, images of the type "
            "float16, float, double or uint8, with 4 sizes. "
            f"Received: inputs={_describe(inputs)}"
        )
    return inputs[0]


def _find_output(session):
    """Returns the name of the logits."""
    outputs = [x for x in session.get_outputs() if x.type in FLOATS]
    flat = [x for x in outputs if len(x.shape) == 2]
    named = [x for x in outputs if x.name == "logits"]
    for candidates in (named, outputs, flat):
        if len(candidates) == 1:
            return candidates[0].name
    raise InputError(
        "An ONNX file is expected to have an output logits, or a single one of "
        "the shape (batch, classes). "
        f"Received: outputs={_describe(session.get_outputs())}"
    )


def _describe(values):
    """Names, types and shapes, for a message."""
    return ", ".join(f"{x.name}: {x.type} {x.shape}" for x in values) or "none"


class OnnxNetwork:
    """An ONNX file as a function of NumPy arrays.

    Args:
        session: An `onnxruntime.InferenceSession`.
        images: Its input.
        logits: String, the name of its output.
    """

    def __init__(self, session: Any, images: Any, logits: str):
        self._session = session
        self._images, self._logits = images, logits
        # The size of a batch is a number if it is fixed, a name if it is not.
        sizes = [n if isinstance(n, int) else None for n in images.shape]
        self._batch, self._sizes = sizes[0], tuple(sizes[1:])

    def __call__(self, images: Any) -> np.ndarray:
        """Computes logits.

        Args:
            images: Array of floats in [0, 1], `(batch, height, width,
                channels)`.

        Returns:
            float32 array of logits, `(batch, classes)`.

        Raises:
            InputError: If the file does not take images of this shape.
        """
        try:
            images = np.asarray(images)
        except NotImplementedError:
            raise NotImplementedError(
                "ONNX Runtime computes it, without derivatives; attack it by "
                "square, or by transfer from a --surrogate"
            ) from None
        given = self._convert(images)
        if self._batch is None:
            return self._ask(given)
        # The last part is filled with copies of the first image.
        copies = np.repeat(given[:1], -len(given) % self._batch, axis=0)
        filled = np.concatenate([given, copies])
        parts = filled.reshape(-1, self._batch, *given.shape[1:])
        return np.concatenate([self._ask(part) for part in parts])[
            : len(images)
        ]

    def _convert(self, images):
        """Images as the file takes them."""
        if self._takes_channels_first(images):
            images = np.transpose(images, (0, 3, 1, 2))
        dtype = TYPES[self._images.type]
        if dtype == np.uint8:
            images = np.rint(255 * images)
        return np.ascontiguousarray(images, dtype)

    def _takes_channels_first(self, images):
        if images.ndim != 4 or not len(images):
            self._refuse(images, "four sizes and at least one image")
        height, width, channels = images.shape[1:]
        last, first = (
            all(n in (None, m) for n, m in zip(self._sizes, sizes, strict=True))
            for sizes in ((height, width, channels), (channels, height, width))
        )
        if not (last or first):
            self._refuse(images, "images of this shape")
        if last and first:
            # Convolutions fix the number of channels, and little else.
            last = self._sizes[2] is not None and self._sizes[0] is None
            first = self._sizes[0] is not None and self._sizes[2] is None
        if last == first:
            self._refuse(
                images,
                "a file whose input tells whether channels are first or last",
            )
        return first

    def _refuse(self, images, expected):
        raise InputError(
            f"The ONNX file takes {self._images.name} of the shape "
            f"{self._images.shape}; expected {expected}. "
            f"Received: images.shape={images.shape}"
        )

    def _ask(self, images):
        with _one_line(
            "The ONNX file cannot classify these images",
            f"{self._images.name}.shape={images.shape}",
        ):
            (logits,) = self._session.run(
                [self._logits], {self._images.name: images}
            )
        return np.asarray(logits, np.float32)
