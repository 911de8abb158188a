"""What an evaluation keeps on disk, so that it can be interrupted."""

import contextlib
import json
import pathlib
import time
import zipfile
import zlib

import numpy as np

from fastbat_tf.attacks.records import Record
from fastbat_tf.errors import InputError
from fastbat_tf.files import locked, make_directory, replacing, write_json

SECONDS_BETWEEN_WRITES = 5.0
SECONDS_TO_LOOK = 0.5  # For the lock of a process that is about to end.
LOGITS_TOLERANCE = 1e-2  # Another batch size or device rounds otherwise.
FIELDS = ("robust", "rounds", "loss", "perturbation")


class EvaluationState:
    """The records of the attacks, in memory and perhaps in a directory.

    A context: until it ends, other processes are kept from the directory.

    Args:
        directory: Where they are kept; None for nowhere.
        settings: Dict of JSON's types, all that the outcome depends on.
        keep_perturbations: Whether perturbations are kept on disk as well.

    Attributes:
        keeps_perturbations: As given.

    Raises:
        InputError: If the directory holds another evaluation, another process
            works on it, or it cannot be written.
    """

    def __init__(self, directory, settings, keep_perturbations=False):
        self.directory = directory and pathlib.Path(directory)
        self.keeps_perturbations = keep_perturbations
        self._fields = FIELDS if keep_perturbations else FIELDS[:-1]
        self._written = 0.0
        self._closing = contextlib.ExitStack()
        if self.directory is None:
            return
        with self._closing as closing:
            self._open(settings, closing)
            self._closing = closing.pop_all()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._closing.close()

    def _open(self, settings, closing):
        known = self.directory / "settings.json"
        try:
            make_directory(self.directory / "state")
            closing.enter_context(
                locked(self.directory / ".lock", SECONDS_TO_LOOK)
            )
            before = None
            if known.exists():
                before = dict(json.loads(known.read_text()))
            else:
                write_json(known, settings)
        except (TypeError, ValueError) as error:
            raise InputError(
                "The directory's settings.json cannot be read; expected that "
                "of an evaluation, or a new directory. "
                f"Received: results_dir={self.directory} ({error})"
            ) from error
        except TimeoutError:
            raise InputError(
                "Another process works on this evaluation; expected one at a "
                f"time. Received: results_dir={self.directory}"
            ) from None
        except OSError as error:
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

    def clean_logits(self, logits, deterministic):
        """The clean logits that the evaluation began with.

        An interrupted evaluation goes on with them: an answer that rounding
        has turned would change what was attacked.

        Args:
            logits: float32 array `(examples, classes)`, the model's today.
            deterministic: Whether the model must answer as it did.

        Returns:
            An array like `logits`.

        Raises:
            InputError: If another model began the evaluation.
        """
        path = self._path("clean")
        if path is None or not path.exists():
            if path is not None:
                self._write(path, logits=logits)
            return logits
        (before,) = _read(path, {"logits": logits.shape}).values()
        tolerance = LOGITS_TOLERANCE * np.nanmax(np.abs(before), initial=0)
        if deterministic and not np.allclose(
            before, logits, LOGITS_TOLERANCE, tolerance, equal_nan=True
        ):
            raise InputError(
                "The directory holds another evaluation; expected the same "
                "settings, or a new directory. "
                f"Received: results_dir={self.directory}, other=model"
            )
        return before

    def open(self, name, standing, images):
        """The record of an attack, as far as it got, and its seconds."""
        record = Record.start(standing, images, self.keeps_perturbations)
        path = self._path(name)
        if path is None or not path.exists():
            return record, 0.0
        fields = {name: getattr(record, name).shape for name in self._fields}
        content = _read(path, {**fields, "seconds": ()})
        seconds = float(content.pop("seconds"))
        return Record(**{"perturbation": None, **content}), seconds

    def save(self, name, record, seconds, now=True):
        """Writes a record down; unless `now`, not more often than is cheap."""
        path = self._path(name)
        start = time.perf_counter()
        if path is None or not (
            now or start - self._written > SECONDS_BETWEEN_WRITES
        ):
            return
        content = {field: getattr(record, field) for field in self._fields}
        self._write(path, seconds=seconds, **content)
        # A write that takes long makes the next one wait longer.
        end = time.perf_counter()
        self._written = end + 10 * (end - start)

    def write_npz(self, name, **content):
        """Writes arrays to a file of the directory."""
        self._write(self.directory / name, **content)

    def write_results(self, results):
        """Writes `results.json`: the evaluation has ended."""
        path = self.directory / "results.json"
        with _refuse_unwritable(path):
            write_json(path, results)

    def _write(self, path, **content):
        with _refuse_unwritable(path):
            write_npz(path, **content)

    def _path(self, name):
        if self.directory is None:
            return None
        return self.directory / "state" / f"{name}.npz"


@contextlib.contextmanager
def _refuse_unwritable(path):
    try:
        yield
    except OSError as error:
        raise InputError(
            "The state of the evaluation cannot be written; expected room on "
            f"the disk. Received: path={path} ({error})"
        ) from error


def _read(path, shapes):
    """The arrays of a file by name, if they have these shapes."""
    try:
        with np.load(path) as file:
            content = {name: file[name] for name in shapes}
        for name, shape in shapes.items():
            if content[name].shape != shape:
                raise ValueError(f"{name} has the shape {content[name].shape}.")
    except (
        EOFError,
        KeyError,
        OSError,
        ValueError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise InputError(
            "The state of the evaluation cannot be read; expected a file that "
            "this program wrote; without it, its attack starts anew. "
            f"Received: path={path}"
        ) from error
    return content


def write_npz(path, **arrays):
    """Writes arrays, whole or not at all."""
    with replacing(path) as file:
        np.savez_compressed(file, **arrays)
