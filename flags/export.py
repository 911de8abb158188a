"""Flags of --mode=export; --format is that of --mode=report, too."""

from absl import flags as absl_flags

from fastbat_tf.errors import InputError
from fastbat_tf.experiment.export_request import SAVED_MODEL, ExportRequest
from fastbat_tf.saving.formats import registry

from . import data, report

INT8 = "tflite_int8"

EXPORT_DIR = absl_flags.DEFINE_string(
    "export_dir",
    None,
    "export: directory of the model (default: in --run_dir). A SavedModel gets "
    "the next version number there, as TensorFlow Serving expects.",
)
LICENSE = absl_flags.DEFINE_string(
    "license",
    None,
    "export: the licence of the model, for its card, such as apache-2.0.",
)
EXPORT_BATCH_SIZE = absl_flags.DEFINE_integer(
    "export_batch_size",
    None,
    "export: the size of the batches of --format=stablehlo (default 1).",
)


def get_request(has_run):
    """Makes the `ExportRequest` of the flags.

    Args:
        has_run: Whether `--run_dir` is given.

    Raises:
        InputError: If a flag is missing, has a wrong value, or does not apply.
    """
    form = report.FORMAT.value or SAVED_MODEL
    registry.get(form)
    if EXPORT_BATCH_SIZE.value is not None and form != "stablehlo":
        raise InputError(
            f"--export_batch_size does not apply to --format={form}. "
            f"Received: export_batch_size={EXPORT_BATCH_SIZE.value}"
        )
    size = EXPORT_BATCH_SIZE.value
    if size is not None and size < 1:
        raise InputError(
            "`export_batch_size` is expected to be at least 1. "
            f"Received: export_batch_size={size}"
        )
    if has_run and data.DATA_DIR.present and form != INT8:
        raise InputError(
            f"--data_dir does not apply to --format={form}, which reads no "
            f"images, as {INT8} does. Received: data_dir={data.DATA_DIR.value}"
        )
    if not (has_run or EXPORT_DIR.value):
        raise InputError(
            "--mode=export of --init_weights expects --export_dir. "
            f"Received: export_dir={EXPORT_DIR.value}"
        )
    return ExportRequest(
        form,
        EXPORT_DIR.value or None,
        LICENSE.value or None,
        size or 1,
        data.DATA_DIR.value,
    )
