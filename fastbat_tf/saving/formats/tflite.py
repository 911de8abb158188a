"""Writes a file for LiteRT, in float32."""

import contextlib
import pathlib
import re
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf

from fastbat_tf.errors import InputError
from fastbat_tf.runtime import environment
from fastbat_tf.saving import litert_files
from fastbat_tf.saving.precision import in_float32
from fastbat_tf.saving.served import FormatOptions, Served

FILE = "model.tflite"
# How TensorFlow's errors name what LiteRT does not have.
OPERATION = re.compile(
    r"'?(?:tf|tfl)\.(\w+)'? op|[Oo]p(?:erator)?s?(?: names?)?: '?(\w+)"
)


def write(served: Served, folder: pathlib.Path, options: FormatOptions) -> None:
    """Writes a model with the signature `serving_default`.

    Its input is `images`, float32 `(batch, height, width, channels)` in [0, 1].
    About images that are none, it answers NaN and the class -1.

    Args:
        served: The `Served`.
        folder: `pathlib.Path` of the directory.
        options: The `FormatOptions`, none of which applies.

    Raises:
        InputError: If LiteRT lacks an operation of the model.
    """
    del options
    with converting("tflite"):
        function = trace(served, served.answer_or_nan)
        content = make_converter(served, function).convert()
    write_file(folder, content)


def write_file(
    folder: pathlib.Path, content: bytes
) -> litert_files.LiteRTNetwork:
    """Writes the file, and reads it as a `LiteRTNetwork`.

    Raises:
        InputError: If LiteRT cannot run what was converted.
    """
    path = folder / FILE
    path.write_bytes(content)
    return litert_files.read(path)


@contextlib.contextmanager
def converting(name: str) -> Iterator[None]:
    """Hides what TensorFlow says while it converts a model.

    Args:
        name: The name of the format.

    Raises:
        InputError: If it cannot convert the model.
    """
    with environment.captured_errors(), warnings.catch_warnings():
        # It warns that its own calibration is deprecated.
        warnings.filterwarnings("ignore", r"\s*Warning: tf.lite", UserWarning)
        try:
            yield
        except InputError:
            raise
        # Among others, `ConverterError`, which is not public.
        except Exception as error:
            raise InputError(
                "The model cannot be converted for LiteRT"
                f"{_reason(error, name)}"
            ) from error


def _reason(error, name):
    text = str(error)
    found = OPERATION.search(text)
    if found:
        return (
            ", which lacks one of its operations; expected a format such as "
            "saved_model. "
            f"Received: format={name}, operation={found[1] or found[2]}"
        )
    line = text.splitlines()[0] if text else type(error).__name__
    return f". Received: format={name} ({line})"


def trace(served: Served, answer: Callable[[tf.Tensor], Any]) -> Any:
    """Returns a `tf.function` of float images of any number, in float32."""
    spec = tf.TensorSpec((None, *served.shape), tf.float32, name="images")
    function = tf.function(
        lambda images: answer(_of_one_shape(images)), [spec], autograph=False
    )
    with in_float32(served.classifier):
        function.get_concrete_function()
    return function


def _of_one_shape(images):
    """Returns the images, unless their shape is wrong when LiteRT runs.

    LiteRT resizes the input to whatever it is given, also to other sizes than
    the file says, and computes on. But it concatenates only what fits.
    """
    shape = images.shape[1:]
    if not shape.is_fully_defined():
        return images
    return tf.concat([images, tf.zeros((1, *shape))], axis=0)[:-1]


def make_converter(served: Served, function: Any) -> Any:
    """Returns a `tf.lite.TFLiteConverter` of a function from `trace`."""
    module = tf.Module()
    module.weights = [weight.value for weight in served.classifier.weights]
    module.serve = function
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [function.get_concrete_function()], module
    )
    # Otherwise, LiteRT reads variables that nobody has given values.
    converter.experimental_enable_resource_variables = False
    return converter
