"""What `--mode=export` is asked for."""

from typing import NamedTuple

SAVED_MODEL = "saved_model"


class ExportRequest(NamedTuple):
    """What `--mode=export` is asked for.

    Attributes:
        format: A key of `fastbat_tf.saving.formats.registry.FORMATS`. Defaults
            to `"saved_model"`.
        directory: Path of the directory. A SavedModel gets a directory of its
            own in it, named by the next version number. Defaults to `None`:
            that of the run.
        license: String, the licence that the model card names. Defaults to
            `None`.
        batch_size: Integer, the size of the batches of `stablehlo`. Defaults
            to `1`.
        data_dir: The directory of the data, from which `tflite_int8` reads
            images. Defaults to `None`: that of the run.
    """

    format: str = SAVED_MODEL
    directory: str | None = None
    license: str | None = None
    batch_size: int = 1
    data_dir: str | None = None
