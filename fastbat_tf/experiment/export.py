"""Exports the best weights of a run, or weights without a run."""

import dataclasses
import pathlib

import numpy as np
import tensorflow as tf

from fastbat_tf.data import loading
from fastbat_tf.data.class_names import class_names
from fastbat_tf.errors import InputError
from fastbat_tf.experiment import building, results_file
from fastbat_tf.experiment.export_request import SAVED_MODEL, ExportRequest
from fastbat_tf.experiment.preemption import Preemption
from fastbat_tf.experiment.run_directory import RunDirectory
from fastbat_tf.runtime import display
from fastbat_tf.saving.export import export
from fastbat_tf.saving.model_info import ModelInfo
from fastbat_tf.saving.versions import add_version

CALIBRATION_IMAGES = 200


def export_run(run_dir, build_model, request=None, verbosity=0):
    """Exports the best weights of a run once more.

    Args:
        run_dir: Path of a run directory.
        build_model: Function that builds the network; see
            `fastbat_tf.experiment.building.build_robust`.
        request: The `ExportRequest`. Defaults to `None`: a SavedModel, in the
            run directory.
        verbosity: Integer; see `fastbat_tf.experiment.train.train`. Defaults
            to `0`.

    Raises:
        InputError: If there is no run, it has no weights yet, another process
            is training or exporting it, or it cannot be exported like this.
    """
    request = request or ExportRequest()
    with display.shown(verbosity), Preemption(tells=True) as preemption:
        directory = RunDirectory(run_dir)
        config = directory.load_config()
        directory.lock()  # A training ends with an export, too.
        try:
            with preemption.interruptible():
                robust = building.load_best(directory, config, build_model)
                path = export_best(config, robust, directory, request)
        finally:
            directory.unlock()
        _tell(request, path)


def export_weights(config, build_model, request, verbosity=0):
    """Exports initial weights, without a run.

    Args:
        config: A `Config` with `init_weights`.
        build_model: Function that builds the network; see
            `fastbat_tf.experiment.building.build_robust`.
        request: The `ExportRequest`, with a directory.
        verbosity: Integer; see `export_run`. Defaults to `0`.

    Raises:
        InputError: If the weights cannot be read, do not fit, or cannot be
            exported like this.
    """
    with display.shown(verbosity), Preemption(tells=True) as preemption:
        with preemption.interruptible():
            robust = building.build_initial(config, build_model)
            info = ModelInfo(name=pathlib.Path(config.model.init_weights).stem)
            path = _export(config, robust, info, request, request.directory)
        _tell(request, path)


def export_best(config, robust, directory, request=None):
    """Exports the classifier of a run, which has its best weights.

    Args:
        config: The `Config` of the run.
        robust: Its `RobustClassifier`.
        directory: Its `RunDirectory`.
        request: The `ExportRequest`. Defaults to `None`: a SavedModel, in the
            run directory.

    Returns:
        The `pathlib.Path` of what a server loads.

    Raises:
        InputError: If it cannot be exported, or not written.
    """
    request = request or ExportRequest()
    info = ModelInfo(
        name=directory.path.name,
        class_names=class_names(config.data),
        results=results_file.read(directory.results) or None,
    )
    path = request.directory
    if path is None and request.format == SAVED_MODEL:
        path = directory.saved_model
    elif path is None:
        path = directory.path / "exports" / request.format
    return _export(config, robust, info, request, path)


def _calibration(config, request):
    """Images of the training split; None for formats that need none."""
    if request.format != "tflite_int8":
        return None
    data = config.data
    if request.data_dir is not None:
        data = dataclasses.replace(data, data_dir=request.data_dir)
    images = loading.load_sample(data, CALIBRATION_IMAGES).images
    return images / np.float32(255)


def _tell(request, path):
    what = "SavedModel" if request.format == SAVED_MODEL else "Model"
    display.result(f"{what}: {path}")


def _export(config, robust, info, request, path):
    # A directory that TensorFlow Serving polls.
    has_versions = bool(request.directory) and request.format == SAVED_MODEL

    def write(path):
        return export(
            robust.classifier,
            path,
            request.format,
            reading=config.data.spec.reading,
            info=info,
            calibration=_calibration(config, request),
            batch_size=request.batch_size,
            warm_up=has_versions,
        )

    try:
        with display.task("exporting"):
            return add_version(path, write) if has_versions else write(path)
    except (OSError, tf.errors.OpError) as error:
        raise InputError(
            "The model cannot be exported; expected a writable directory. "
            f"Received: directory={path} ({error})"
        ) from error
