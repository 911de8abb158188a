"""Exports the best weights of a run, or weights without a run."""

import dataclasses

import numpy as np
import tensorflow as tf

from fastbat_tf import files
from fastbat_tf.data import loading
from fastbat_tf.errors import InputError
from fastbat_tf.experiment import building, model_info
from fastbat_tf.experiment.export_request import SAVED_MODEL, ExportRequest
from fastbat_tf.experiment.preemption import Preemption
from fastbat_tf.experiment.run_directory import RunDirectory
from fastbat_tf.runtime import display
from fastbat_tf.saving import destination
from fastbat_tf.saving.card import model_card
from fastbat_tf.saving.export import export
from fastbat_tf.saving.formats.registry import FORMATS
from fastbat_tf.saving.served import serve
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
            request.check(directory)
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
        request.check()
        with preemption.interruptible():
            robust = building.build_initial(config, build_model)
            info = model_info.of_weights(config, request.license)
            path = _export(config, robust, info, request, request.place())
        _tell(request, path)


def export_best(config, robust, directory, request=None, is_ending=False):
    """Exports the classifier of a run, which has its best weights.

    Args:
        config: The `Config` of the run.
        robust: Its `RobustClassifier`.
        directory: Its `RunDirectory`.
        request: The `ExportRequest`. Defaults to `None`: a SavedModel, in the
            run directory.
        is_ending: Boolean, whether the run ends with this export. Defaults to
            `False`.

    Returns:
        The `pathlib.Path` of what a server loads.

    Raises:
        InputError: If it cannot be exported, or not written.
    """
    request = request or ExportRequest()
    info = model_info.of_run(
        config, directory, license=request.license, is_ending=is_ending
    )
    return _export(config, robust, info, request, request.place(directory))


def renew_cards(config, classifier, directory):
    """Writes the cards of a run's exports anew, after it was measured.

    Those of other weights, and files that are no cards, are left as they are.

    Args:
        config: The `Config` of the run.
        classifier: Its `keras.Model`, whose weights do not matter.
        directory: Its `RunDirectory`.

    Raises:
        InputError: If a file of the run cannot be read.
        OSError: If a card cannot be written.
    """
    sha256 = files.sha256(directory.best)
    for form in FORMATS:
        path = ExportRequest(form).place(directory)
        card = destination.read_card(path)
        if card is None or card.get("weights_sha256") != sha256:
            continue
        info = model_info.of_run(config, directory, license=card.get("license"))
        served = serve(classifier, config.data.spec.reading, info)
        model_card.renew(served, path, form)


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
    folder = path if request.format == SAVED_MODEL else path.parent
    display.result(f"Model card: {folder / destination.CARD}")


def _export(config, robust, info, request, path):
    def write(path):
        return export(
            robust.classifier,
            path,
            request.format,
            reading=config.data.spec.reading,
            info=info,
            calibration=_calibration(config, request),
            batch_size=request.batch_size,
            warm_up=request.has_versions,
        )

    if request.format == "tflite_int8":  # It reads images.
        loading.import_libraries(config.data)
    try:
        with display.task("exporting"):
            if request.has_versions:
                return add_version(path, write)
            return write(path)
    except (OSError, tf.errors.OpError) as error:
        raise InputError(
            "The model cannot be exported; expected a writable directory. "
            f"Received: directory={path} ({error})"
        ) from error
