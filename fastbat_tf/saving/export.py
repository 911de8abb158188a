"""Exports a classifier to what serves it."""

import os
import pathlib
import shutil
from typing import Any

from fastbat_tf.data import Reading
from fastbat_tf.errors import InputError
from fastbat_tf.files import (
    flush,
    flush_tree,
    make_directory,
    replace_directory,
)
from fastbat_tf.saving import destination
from fastbat_tf.saving.card import model_card
from fastbat_tf.saving.formats import registry
from fastbat_tf.saving.model_info import ModelInfo
from fastbat_tf.saving.served import FormatOptions, serve
from fastbat_tf.saving.turns import taking_turns

PARTIAL = ".export.partial"


def export(
    model: Any,
    path: str | os.PathLike[str],
    format: str = "saved_model",
    *,
    reading: Reading | None = None,
    info: ModelInfo | None = None,
    calibration: Any = None,
    batch_size: int = 1,
    warm_up: bool = False,
) -> pathlib.Path:
    """Exports a classifier, without its training state.

    The answers of every format are `logits` and `probabilities`, float32
    `(batch, classes)`, and `classes`, int64 `(batch,)`, also if the classifier
    returns probabilities; a Keras file answers what the classifier returns. The
    formats are

    * `"saved_model"`, for TensorFlow alone. Its signatures differ in their
      inputs: `serving_default` takes `images`, float32 `(batch, height, width,
      channels)` in [0, 1]; `serve_uint8` takes `images`, uint8 of the same
      shape; `serve_bytes` takes `encoded`, strings `(batch,)`, each the content
      of a PNG, JPEG, WebP, GIF, BMP or PPM file, which is read like the test
      images. It exists if the images have a fixed size and 1 or 3 channels.
      Other input is rejected with a `tf.errors.InvalidArgumentError` that says
      what was expected: a wrong shape, an empty batch, pixels that are not
      finite or not in [0, 1], and files that cannot be read (named by their
      index in the batch) or have more than `formats.MAX_PIXELS` pixels. The
      checks are assertions in the graph, which XLA drops inside a
      `tf.function(jit_compile=True)`.

      `info` takes nothing, and says what the model is; see
      `fastbat_tf.saving.serving_info.describe`. `info_rest` says the same once
      for each entry of `requests`, int32 `(batch,)`, whose values do not
      matter: TensorFlow Serving wants an input from clients of REST, and from
      all clients if it joins requests;
    * `"keras"`, `"tflite"`, `"tflite_int8"`, `"onnx"` and `"stablehlo"`.

    A model card, `README.md`, lies beside the model.

    Args:
        model: A built `keras.Model` from images in [0, 1] to logits or
            probabilities `(batch, classes)`, or `(batch, 1)` for two classes;
            or a `RobustClassifier`, to whose `pixel_range` images in [0, 1]
            are mapped.
        path: The directory to write. A SavedModel replaces it, if it is an
            earlier one; the file of any other format is added to it.
        format: String, a key of `fastbat_tf.saving.formats.registry.FORMATS`.
            Defaults to `"saved_model"`.
        reading: The `fastbat_tf.data.Reading` of image files. Defaults to
            `None`, which resizes whole images to the size that the classifier
            takes.
        info: The `ModelInfo`, what the model says about itself. Defaults to
            `None`: nothing is known.
        calibration: float32 array of images `(examples, height, width,
            channels)` in [0, 1], such as 200 of the training split, on which
            `"tflite_int8"` measures the ranges of activations. Defaults to
            `None`.
        batch_size: Integer, the size of the batches of `"stablehlo"`. Defaults
            to `1`.
        warm_up: Whether a SavedModel has requests with which TensorFlow Serving
            warms it up, which takes the package `tensorflow-serving-api`.
            Without it, a line says that there are none. Defaults to `False`.

    Returns:
        The `pathlib.Path` of what a server loads.

    Raises:
        InputError: If the classifier does not take images, if their shape
            differs from that of the reading, if the format needs a package
            that is not installed, or if it cannot express the model; or if
            the directory holds files that would be lost.

    Example:

    ```python
    import fastbat_tf as fb
    import tensorflow as tf

    path = fb.export(model, "exported", info=fb.ModelInfo("my-model"))
    served = tf.saved_model.load(path)
    served.signatures["serving_default"](images=images)["classes"]
    ```
    """
    spec = registry.get(format)
    if calibration is not None and format != "tflite_int8":
        raise InputError(
            "`calibration` applies only to the format tflite_int8. "
            f"Received: format={format}"
        )
    if warm_up and format != "saved_model":
        raise InputError(
            "`warm_up` applies only to the format saved_model. "
            f"Received: format={format}"
        )
    write_model = registry.load_module(format).write
    path = pathlib.Path(path)
    destination.check(path, format)
    served = serve(model, reading, info)
    options = FormatOptions(calibration, batch_size, warm_up)

    def write(folder):
        write_model(served, folder, options)
        model_card.write(served, folder, format)

    if spec.file is None:
        _replace(path, write)
        return path
    _add_files(path, write)
    return path / spec.file


def _replace(path, write):
    """Replaces a directory; a failure keeps the old one."""
    place = pathlib.Path(os.path.abspath(path))  # It has a name.
    working = pathlib.Path.cwd()
    if place == working or place in working.parents:
        raise InputError(
            "A SavedModel replaces its directory, which the working directory "
            "must not lie in; expected another one. "
            f"Received: directory={path}"
        )
    partial = place.with_name(f"{place.name}.partial")
    if partial.exists():  # From a killed process.
        shutil.rmtree(partial)
    make_directory(place.parent)
    write(partial)
    replace_directory(partial, place)


def _add_files(path, write):
    """Adds files to a directory, which may hold others, once all are there."""
    with taking_turns(path):
        # Inside, since the directory may be another file system.
        partial = path / PARTIAL
        shutil.rmtree(partial, ignore_errors=True)  # From a killed process.
        partial.mkdir()
        try:
            write(partial)
            flush_tree(partial)
            for file in sorted(partial.iterdir()):
                file.replace(path / file.name)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        flush(path)
