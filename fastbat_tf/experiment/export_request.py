"""What `--mode=export` is asked for.

This module does not import TensorFlow.
"""

import pathlib
from typing import NamedTuple

from fastbat_tf.errors import InputError
from fastbat_tf.experiment.run_directory import RunDirectory
from fastbat_tf.saving import destination, versions

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

    @property
    def has_versions(self) -> bool:
        """Whether the directory gets a version, as TensorFlow Serving polls."""
        return self.directory is not None and self.format == SAVED_MODEL

    def place(self, run: RunDirectory | None = None) -> pathlib.Path:
        """Returns the directory to write.

        Args:
            run: The `RunDirectory` that is exported. Defaults to `None`: the
                request has a directory.
        """
        if self.directory is not None or run is None:
            return pathlib.Path(self.directory or ".")
        if self.format == SAVED_MODEL:
            return run.saved_model
        return run.exports / self.format

    def check(self, run: RunDirectory | None = None) -> None:
        """Rejects a directory that cannot be written, before any work.

        Args:
            run: The `RunDirectory` that is exported. Defaults to `None`: the
                request has a directory.

        Raises:
            InputError: If it is rejected, or if there is no run.
        """
        if run is not None:
            _check_run(run)
        place = self.place(run)
        if not self.has_versions:
            destination.check(place, self.format)
            return
        destination.check_writable(place)
        versions.check(place)


def _check_run(run):
    first = min(run.path.glob("seed-*/config.json"), default=None)
    if first is not None and not run.config.exists():
        raise InputError(
            "`run_dir` holds runs of several seeds; expected one of them, such "
            f"as {first.parent}. Received: run_dir={run.path}"
        )
    run.load_config()
    run.expect_weights()
