"""Reads models from Keras files, SavedModels, and files of other runtimes."""

import contextlib
import importlib
import os
import pathlib
import zipfile
from typing import Any

import keras
import tensorflow as tf

from fastbat_tf.attacks.models import logits_of
from fastbat_tf.errors import InputError
from fastbat_tf.saving import saved_models, trust
from fastbat_tf.training import loading

# The errors of Keras and TensorFlow for files that are truncated, are not
# models, or hold unknown layers.
UNREADABLE = (
    AttributeError,
    ImportError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    tf.errors.OpError,
    zipfile.BadZipFile,
)

# The modules whose function `read(path)` reads the files of other runtimes.
READERS = {".onnx": "onnx_files", ".tflite": "litert_files"}

# The ends of the names for which Keras opens a file.
KERAS_FILES = (".keras", ".h5", ".hdf5")


def load(path: str | os.PathLike[str], *, allow_code: bool = False) -> Any:
    """Reads a model as a function from images to logits.

    The file may come from anyone: what could do more than compute is refused
    before it is opened, unless `allow_code` is True.

    Args:
        path: Path of a `.keras`, `.h5`, `.onnx` or `.tflite` file, or of the
            directory of a SavedModel. The signature `serving_default` of a
            SavedModel has one input, and a single output or one named `logits`.
        allow_code: Whether the model may bring Python code, or operations that
            reach files. Defaults to `False`.

    Returns:
        A callable from float32 images `(batch, height, width, channels)` in
        [0, 1] to logits `(batch, classes)`. For a `RobustClassifier`, images
        are in its `pixel_range`, which is an attribute of the callable.

    Raises:
        InputError: If there is no such file, if it is not such a model, or if
            it could do more than compute.

    Example:

    >>> load("runs/demo/saved_model")(images[:8]).shape
    TensorShape([8, 10])
    """
    held = check(path, allow_code=allow_code)
    path = pathlib.Path(path)
    with _refuse_unreadable(path):
        if path.is_dir():
            return saved_models.read(path)
        if path.suffix in READERS:
            reader = importlib.import_module(
                f"fastbat_tf.saving.{READERS[path.suffix]}"
            )
            return reader.read(path)
        with trust.bounded_variables(held, f"model_path={path}"):
            model = keras.models.load_model(
                path, compile=False, safe_mode=not allow_code
            )
    return logits_of(model)


def check(path: str | os.PathLike[str], *, allow_code: bool = False) -> int:
    """Refuses what `load` refuses of a file of others, and opens nothing.

    Args:
        path: Path of a model.
        allow_code: As for `load`. Defaults to `False`.

    Returns:
        Integer, the bytes of the weights in a Keras file.

    Raises:
        InputError: If there is no such file, or it could do more than compute.
    """
    path = pathlib.Path(path)
    received = f"model_path={path}"
    if not path.exists():
        raise InputError(
            "The model is expected to be a .keras, .onnx or .tflite file or "
            "the directory of a SavedModel, but there is none. "
            f"Received: {received}"
        )
    if path.is_dir():
        _expect_saved_model(path, received)
    elif not path.name.endswith((*KERAS_FILES, *READERS)):
        raise InputError(
            "The model cannot be read; expected a .keras, .onnx or .tflite "
            "file, by the end of its name, or the directory of a SavedModel. "
            f"Received: {received}"
        )
    with _refuse_unreadable(path):
        if path.is_dir() and not allow_code:
            trust.check_saved_model(path, received)
        if path.is_file() and path.name.endswith(KERAS_FILES):
            return trust.check_keras_file(path, received, allow_code=allow_code)
    return 0


def _expect_saved_model(path, received):
    """Refuses another directory, and names a model that is in it."""
    if any(path.glob("saved_model.pb*")):
        return
    inside = [p.parent for p in sorted(path.glob("*/saved_model.pb"))]
    for end in (*KERAS_FILES[:1], *READERS):
        inside += sorted(path.glob(f"*{end}"))
    example = f", such as {inside[0]}" if inside else ""
    raise InputError(
        "The model cannot be read; expected a .keras, .onnx or .tflite file or "
        "the directory of a SavedModel, with its saved_model.pb"
        f"{example}. Received: {received}"
    )


@contextlib.contextmanager
def _refuse_unreadable(path):
    try:
        yield
    except InputError:
        raise
    except UNREADABLE as error:
        raise InputError(
            "The model cannot be read; expected a .keras, .onnx or .tflite "
            "file or the directory of a SavedModel. "
            f"Received: model_path={path} ({_reason(error)})"
        ) from error


def _reason(error):
    """Returns the reason without the config of the model, which Keras adds."""
    undefined = loading.find_undefined(error)
    if undefined:
        kind, name = undefined
        return f"the {kind} {name} is not defined; import or define it before"
    reason = str(error).rpartition("Exception encountered: ")[2]
    return reason.partition(" Full object config:")[0]
