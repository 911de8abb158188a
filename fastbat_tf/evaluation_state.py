"""What an evaluation keeps on disk, so that it can be interrupted."""

import json
import pathlib
import time
import zipfile
import zlib

import numpy as np

from fastbat_tf.attacks.base import Record
from fastbat_tf.errors import InputError
from fastbat_tf.run_directory import write_json

SECONDS_BETWEEN_WRITES = 5.0
FIELDS = ("robust", "rounds", "loss", "perturbation")


class EvaluationState:
    """The records of the attacks, in memory and perhaps in a directory.

    Args:
        directory: Where they are kept; None for nowhere.
        settings: Dict of JSON's types, all that the outcome depends on.
        keep_perturbations: Whether perturbations are kept on disk as well.

    Raises:
        InputError: If the directory holds another evaluation, or cannot be
            written.
    """

    def __init__(self, directory, settings, keep_perturbations=False):
        self.directory = directory and pathlib.Path(directory)
        self._keep_perturbations = keep_perturbations
        self._written = 0.0
        if self.directory is None:
            return
        known = self.directory / "settings.json"
        try:
            (self.directory / "state").mkdir(parents=True, exist_ok=True)
            before = None
            if known.exists():
                before = dict(json.loads(known.read_text()))
            else:
                write_json(known, settings)
        except (OSError, TypeError, ValueError) as error:
            raise InputError(
                "The results are expected to go to a directory that can be "
                f"written. Received: results_dir={self.directory} ({error})"
            ) from error
        if before not in (None, settings):
            differing = sorted(
                name
                for name in {*before, *settings}
                if before.get(name) != settings.get(name)
            )
            raise InputError(
                "The directory holds another evaluation; expected the same "
                f"settings, or a new directory. Received: "
                f"results_dir={self.directory}, other={', '.join(differing)}"
            )

    def open(self, name, standing, images):
        """The record of an attack, as far as it got, and its seconds."""
        record, seconds = Record.start(standing, images), 0.0
        path = self._path(name)
        if path is not None and path.exists():
            try:
                with np.load(path) as file:
                    for field in file.files:
                        if field in FIELDS:
                            array = file[field]
                            if array.shape != getattr(record, field).shape:
                                raise ValueError("Of other examples.")
                            setattr(record, field, array)
                    seconds = float(file["seconds"])
            except (
                EOFError,
                KeyError,
                OSError,
                ValueError,
                zipfile.BadZipFile,
                zlib.error,
            ) as error:
                raise InputError(
                    "The state of the evaluation cannot be read; expected a "
                    f"file that this program wrote. Received: path={path}"
                ) from error
        return record, seconds

    def save(self, name, record, seconds, now=True):
        """Writes a record down; unless `now`, not more often than is cheap."""
        path = self._path(name)
        start = time.perf_counter()
        if path is None or not (
            now or start - self._written > SECONDS_BETWEEN_WRITES
        ):
            return
        fields = FIELDS if self._keep_perturbations else FIELDS[:-1]
        content = {field: getattr(record, field) for field in fields}
        write_npz(path, seconds=seconds, **content)
        # A write that takes long makes the next one wait longer.
        end = time.perf_counter()
        self._written = end + 10 * (end - start)

    def _path(self, name):
        if self.directory is None:
            return None
        return self.directory / "state" / f"{name}.npz"


def write_npz(path, **arrays):
    """Writes arrays to the side and renames, so that the file is whole."""
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("wb") as file:
        np.savez_compressed(file, **arrays)
    partial.replace(path)
