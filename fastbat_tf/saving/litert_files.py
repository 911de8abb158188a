"""Reads a TFLite file as a function from images to logits."""

import importlib.util
import pathlib
import subprocess
import sys
import threading

import numpy as np

from fastbat_tf.errors import InputError
from fastbat_tf.runtime import environment

IDENTIFIER = b"TFL3"  # From the fifth byte on.
MAX_BYTES = 2**31  # FlatBuffers cannot be larger.

# LiteRT aborts the process on some damaged files.
TRIAL = """\
import sys
from ai_edge_litert.interpreter import Interpreter
interpreter = Interpreter(sys.argv[1])
interpreter.allocate_tensors()
interpreter.invoke()
"""


def read(path: pathlib.Path) -> "LiteRTNetwork":
    """Reads a TFLite file of a classifier.

    Args:
        path: `pathlib.Path` of the file.

    Returns:
        A `LiteRTNetwork`.

    Raises:
        InputError: If LiteRT is not installed, if it is no such file, or if it
            does not classify images.
    """
    if importlib.util.find_spec("ai_edge_litert") is None:
        raise InputError(
            "A TFLite file needs LiteRT; install the extra export: "
            'pip install "fastbat_tf[export]". '
            f"Received: model_path={path}"
        )
    if path.stat().st_size > MAX_BYTES:
        raise InputError(
            f"A TFLite file is expected to have at most {MAX_BYTES} bytes. "
            f"Received: model_path={path}"
        )
    content = path.read_bytes()
    if content[4:8] != IDENTIFIER:
        raise InputError(
            "A TFLite file is expected, which has the letters TFL3 from its "
            f"fifth byte on. Received: model_path={path}"
        )
    if _aborts(path):
        raise InputError(
            "The TFLite file is damaged: LiteRT aborts while it reads it. "
            f"Received: model_path={path}"
        )
    try:
        return LiteRTNetwork(content)
    except InputError:
        raise
    except (RuntimeError, ValueError) as error:
        raise InputError(
            "The model is expected to be a complete TFLite file, of "
            "operations that LiteRT has. "
            f"Received: model_path={path} ({_first_line(error)})"
        ) from error


def _aborts(path):
    """Whether a signal ends a process that runs the file."""
    trial = subprocess.run(
        # -P: modules of the working directory are not imported.
        [sys.executable, "-P", "-c", TRIAL, str(path)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=False,
    )
    return trial.returncode < 0


class LiteRTNetwork:
    """A TFLite file as a function from images to logits.

    Threads may share it: they take turns.

    Args:
        content: Bytes, the content of the file.

    Attributes:
        input_quantization: The scale and the zero point of its input; a scale
            of 0 stands for floats.

    Raises:
        InputError: If it does not classify images.
        RuntimeError, ValueError: If LiteRT cannot run it.
    """

    def __init__(self, content):
        from ai_edge_litert.interpreter import Interpreter

        self._lock = threading.Lock()
        with environment.captured_errors():
            self._interpreter = Interpreter(model_content=content)
        inputs = self._interpreter.get_input_details()
        if len(inputs) != 1:
            raise InputError(
                "A TFLite file is expected to have one input, the images. "
                f"Received: inputs={[each['name'] for each in inputs]}"
            )
        (self._input,) = inputs
        self.input_quantization = self._input["quantization"]
        self._output = self._find_output()
        self._shape = tuple(
            None if size < 0 else int(size)
            for size in self._input["shape_signature"]
        )
        self._check()
        self._allocated = None
        if None not in self._shape[1:]:
            self._allocate((self._shape[0] or 1, *self._shape[1:]))

    def _find_output(self):
        """The details of the output `logits`, or of the only one."""
        outputs = self._interpreter.get_output_details()
        if len(outputs) == 1:
            return outputs[0]
        names = [each["name"] for each in outputs]
        for key, signature in self._interpreter.get_signature_list().items():
            names = signature["outputs"]
            if "logits" in names:
                runner = self._interpreter.get_signature_runner(key)
                index = runner.get_output_details()["logits"]["index"]
                return next(o for o in outputs if o["index"] == index)
        raise InputError(
            "A TFLite file is expected to have a single output, or one that "
            f"its signature calls logits. Received: outputs={names}"
        )

    def _check(self):
        shape, output = self._shape, self._output["shape_signature"]
        if len(shape) != 4 or shape[-1] not in (1, 3, None) or len(output) != 2:
            raise InputError(
                "A TFLite file is expected to take images (batch, height, "
                "width, channels), of 1 or 3 channels, and to give logits "
                f"(batch, classes). Received: input={_described(shape)}, "
                f"output={_described(output)}"
            )
        dtype = self._input["dtype"]
        is_quantized = self.input_quantization[0] > 0
        if dtype != np.float32 and not (
            dtype in (np.uint8, np.int8) and is_quantized
        ):
            raise InputError(
                "A TFLite file is expected to take images as float32, or as "
                "quantized uint8 or int8. "
                f"Received: input={np.dtype(dtype).name}, quantization="
                f"{self.input_quantization}"
            )

    def __call__(self, images):
        """Returns logits, float32 `(batch, classes)`.

        Args:
            images: float32 array `(batch, height, width, channels)` in [0, 1].
        """
        if not isinstance(images, np.ndarray) and hasattr(images, "graph"):
            # TensorFlow asks whether it can trace this.
            raise NotImplementedError(
                "LiteRT runs a TFLite file without gradients; attack it by "
                "square, or by transfer from a --surrogate"
            )
        images = np.asarray(images, np.float32)
        fits = (
            images.ndim == 4
            and len(images)
            and all(
                wanted in (None, size)
                for wanted, size in zip(
                    self._shape[1:], images.shape[1:], strict=True
                )
            )
        )
        if not fits:
            raise InputError(
                "The TFLite file expects images of the shape "
                f"{_described(self._shape)}. "
                f"Received: images.shape={images.shape}"
            )
        given = _quantize(images, self._input)
        with self._lock:
            return self._in_parts(given, self._shape[0] or len(images))

    def _in_parts(self, images, size):
        """Classifies images in batches of one size."""
        answers = [
            self._run(images[first : first + size], size)
            for first in range(0, len(images), size)
        ]
        return np.concatenate(answers)

    def _run(self, images, size):
        count = len(images)
        # The last part is filled with copies of its first image.
        copies = np.repeat(images[:1], size - count, axis=0)
        images = np.concatenate([images, copies])
        interpreter, index = self._interpreter, self._input["index"]
        try:
            if images.shape != self._allocated:
                self._allocate(images.shape)
            interpreter.set_tensor(index, images)
            interpreter.invoke()
        except (RuntimeError, ValueError) as error:
            raise InputError(
                "LiteRT cannot run the TFLite file on these images. Received: "
                f"images.shape={images.shape} ({_first_line(error)})"
            ) from error
        answer = interpreter.get_tensor(self._output["index"])
        return _dequantize(answer, self._output)[:count]

    def _allocate(self, shape):
        self._allocated = None  # Until it has succeeded.
        with environment.captured_errors():  # LiteRT says it uses XNNPACK.
            if None in self._shape:
                self._interpreter.resize_tensor_input(
                    self._input["index"], shape
                )
            self._interpreter.allocate_tensors()
        self._allocated = shape


def _quantize(images, details):
    """Maps pixels in [0, 1] to the numbers that a tensor holds."""
    if details["dtype"] == np.float32:
        return images
    scale, zero = details["quantization"]
    limits = np.iinfo(details["dtype"])
    numbers = np.rint(images / np.float32(scale)) + zero
    return np.clip(numbers, limits.min, limits.max).astype(details["dtype"])


def _dequantize(answer, details):
    scale, zero = details["quantization"]
    if not scale:
        return np.asarray(answer, np.float32)
    return (answer.astype(np.float32) - zero) * np.float32(scale)


def _described(shape):
    sizes = ", ".join("any" if n in (None, -1) else str(n) for n in shape)
    return f"({sizes})"


def _first_line(error):
    return str(error).splitlines()[0] if str(error) else type(error).__name__
