"""Reads models from Keras files, SavedModels, and files of other runtimes."""

import importlib
import pathlib
import zipfile

import keras
import tensorflow as tf

from fastbat_tf.attacks.models import logits_of
from fastbat_tf.errors import InputError
from fastbat_tf.saving import saved_models
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


def load(path):
    """Reads a model as a function from images to logits.

    Args:
        path: Path of a `.keras`, `.h5`, `.onnx` or `.tflite` file, or of the
            directory of a SavedModel. The signature `serving_default` of a
            SavedModel has one input, and a single output or one named `logits`.

    Returns:
        A callable from float32 images `(batch, height, width, channels)` in
        [0, 1] to logits `(batch, classes)`. For a `RobustClassifier`, images
        are in its `pixel_range`, which is an attribute of the callable.

    Raises:
        InputError: If there is no such file, or if it is not such a model.

    Example:

    >>> load("runs/demo/saved_model")(images[:8]).shape
    TensorShape([8, 10])
    """
    path = pathlib.Path(path)
    if not path.exists():
        raise InputError(
            "The model is expected to be a .keras file or the directory of a "
            f"SavedModel, but there is none. Received: model_path={path}"
        )
    try:
        if path.is_dir():
            return saved_models.read(path)
        if path.suffix in READERS:
            reader = importlib.import_module(
                f"fastbat_tf.saving.{READERS[path.suffix]}"
            )
            return reader.read(path)
        model = keras.models.load_model(path, compile=False)
    except InputError:
        raise
    except UNREADABLE as error:
        raise InputError(
            "The model cannot be read; expected a .keras file or the directory "
            f"of a SavedModel. Received: model_path={path} ({_reason(error)})"
        ) from error
    return logits_of(model)


def _reason(error):
    """Returns the reason without the config of the model, which Keras adds."""
    undefined = loading.find_undefined(error)
    if undefined:
        kind, name = undefined
        return f"the {kind} {name} is not defined; import or define it before"
    reason = str(error).rpartition("Exception encountered: ")[2]
    return reason.partition(" Full object config:")[0]
