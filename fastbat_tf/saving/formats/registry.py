"""The formats in which a classifier can be exported, by name.

To add a format, write its function `write(served, folder, options)` in a module
of this folder, and add one entry to `FORMATS`.
"""

import importlib
import importlib.util
from typing import Any, NamedTuple

from fastbat_tf.errors import InputError, look_up


class FormatSpec(NamedTuple):
    """A format.

    Attributes:
        module: Module of this package, whose function `write(served, folder,
            options)` writes files to an empty folder.
        file: Name of the file that a server loads, in that folder; None if it
            loads the folder.
        help: What it is for, in a few words.
        packages: The packages that it needs beyond those of the library.
    """

    module: str
    file: str | None
    help: str
    packages: tuple[str, ...] = ()


# Names of modules instead of functions, so that the flags can list the formats
# without importing TensorFlow.
FORMATS = {
    "saved_model": FormatSpec("saved_model", None, "TensorFlow Serving"),
    "keras": FormatSpec("keras_file", "model.keras", "Keras"),
    "tflite": FormatSpec(
        "tflite", "model.tflite", "LiteRT, float32", ("ai_edge_litert",)
    ),
    "tflite_int8": FormatSpec(
        "tflite_int8",
        "model.tflite",
        "LiteRT, 8-bit integers",
        ("ai_edge_litert",),
    ),
    "onnx": FormatSpec(
        "onnx", "model.onnx", "ONNX Runtime", ("onnx", "tf2onnx")
    ),
    "stablehlo": FormatSpec("stablehlo", "model.mlir", "XLA compilers"),
}


def get(name: str) -> FormatSpec:
    """Looks up a format.

    Args:
        name: A key of `FORMATS`.

    Returns:
        Its `FormatSpec`.

    Raises:
        InputError: If there is no such format, or it needs a package that is
            not installed.
    """
    spec = look_up(FORMATS, "format", format=name)
    missing = [p for p in spec.packages if importlib.util.find_spec(p) is None]
    if missing:
        raise InputError(
            f"The format {name} needs {', '.join(missing)}; install the extra "
            'export: pip install "fastbat_tf[export]". '
            f"Received: format={name}"
        )
    return spec


def load_module(name: str) -> Any:
    """Imports the module of a format.

    Raises:
        InputError: See `get`.
    """
    module = get(name).module
    return importlib.import_module(f"fastbat_tf.saving.formats.{module}")
