"""Saves the state of an evaluation, so that it can be resumed."""

import contextlib
import json
import pathlib
import time
import zipfile
import zlib

import numpy as np

from fastbat_tf import npz
from fastbat_tf.attacks.records import Record
from fastbat_tf.attacks.sharding import Sharding
from fastbat_tf.errors import InputError
from fastbat_tf.files import locked, make_directory, replacing, write_json

SECONDS_BETWEEN_WRITES = 5.0
SECONDS_TO_WAIT = 0.5  # For a process that is about to release the lock.
LOGITS_TOLERANCE = 1e-2  # Other batch sizes and devices round differently.
# What NumPy and zipfile raise for a file that is not whole.
DAMAGED = (
    EOFError,
    KeyError,
    OSError,
    RuntimeError,
    ValueError,
    zipfile.BadZipFile,
    zlib.error,
)
# Earlier versions wrote no prediction.
ADDED_FIELDS = ("predicted", "confidence")
FIELDS = ("robust", "rounds", "loss", *ADDED_FIELDS, "perturbation")


class EvaluationState:
    """Saves the records of the attacks in a directory, if there is one.

    It is a context manager that locks the directory against other processes.
    Of several workers, the chief reads and writes for all.

    Args:
        directory: Path, or None to save nothing.
        settings: Dict of JSON types, everything that the outcome depends on.
        keep_perturbations: Whether to save the perturbations. Defaults to
            False.
        sharding: The `Sharding`. Defaults to None: one worker.

    Attributes:
        keeps_perturbations: Whether the perturbations are saved.

    Raises:
        InputError: If the directory holds a different evaluation, is locked by
            another process, or is not writable.
    """

    def __init__(
        self, directory, settings, keep_perturbations=False, *, sharding=None
    ):
        self.sharding = sharding or Sharding()
        if not self.sharding.workers.is_chief:
            directory = None
        self.directory = directory and pathlib.Path(directory)
        self.keeps_perturbations = keep_perturbations
        self._fields = FIELDS if keep_perturbations else FIELDS[:-1]
        self._written = 0.0
        self._closing = contextlib.ExitStack()
        with self._closing as closing:
            self.sharding.on_chief(lambda: self._open(settings, closing))
            self._closing = closing.pop_all()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._closing.close()

    def _open(self, settings, closing):
        if self.directory is None:
            return
        known = self.directory / "settings.json"
        try:
            make_directory(self.directory / "state")
            closing.enter_context(
                locked(self.directory / ".lock", SECONDS_TO_WAIT)
            )
            before = None
            if known.exists():
                before = dict(json.loads(known.read_text()))
            else:
                write_json(known, settings)
        except (TypeError, ValueError) as error:
            raise InputError(
                "The directory's settings.json cannot be read; expected the "
                "directory of an evaluation, or a new one. "
                f"Received: results_dir={self.directory} ({error})"
            ) from error
        except TimeoutError:
            raise InputError(
                "Another process is running this evaluation; wait for it, or "
                "choose a new directory. "
                f"Received: results_dir={self.directory}"
            ) from None
        except OSError as error:
            raise InputError(
                "The directory of the results is not writable; check free "
                "space and permissions. "
                f"Received: results_dir={self.directory} ({error})"
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
        """Returns the clean logits with which the evaluation started.

        A resumed evaluation uses them again: a prediction that changes by
        rounding would change which examples are attacked.

        Args:
            logits: float32 array `(examples, classes)`, computed just now.
            deterministic: Whether they must equal the saved ones up to
                rounding.

        Returns:
            The saved logits, an array like `logits`.

        Raises:
            InputError: If a different model started the evaluation.
        """
        before = self.sharding.on_chief(
            lambda: self._clean_logits(logits, deterministic)
        )
        return self.sharding.workers.from_chief(before)

    def _clean_logits(self, logits, deterministic):
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

    def open(self, name, robust, clean):
        """Loads the record of an attack, or starts one.

        Args:
            name: Name of its file.
            robust: bool array `(examples,)`, the examples to attack.
            clean: The `Clean` examples.

        Returns:
            A `Record`, and the seconds that the attack has taken so far.
        """
        record = Record.start(robust, clean, self.keeps_perturbations)
        content = self.sharding.on_chief(lambda: self._load(name, record))
        everyone = self.sharding.workers
        if not everyone.object_from_chief(bool(content)):
            return record, 0.0
        content = {
            name: everyone.from_chief(content and content[name])
            for name in (*self._fields, "seconds")
        }
        seconds = float(content.pop("seconds"))
        return Record(**{"perturbation": None, **content}), seconds

    def _load(self, name, record):
        """Reads the fields of a record; None if there is no file."""
        path = self._path(name)
        if path is None or not path.exists():
            return None
        fields = {name: getattr(record, name).shape for name in self._fields}
        fields["seconds"] = ()
        added = {name: fields.pop(name) for name in ADDED_FIELDS}
        known = _read(path, fields)
        if _names(path) == set(known):  # Of an earlier version: start again.
            return None
        return {**known, **_read(path, added)}

    def save(self, name, record, seconds, now=True):
        """Saves a record; if not `now`, only when enough time has passed."""
        path = self._path(name)
        start = time.perf_counter()
        if path is None or not (
            now or start - self._written > SECONDS_BETWEEN_WRITES
        ):
            return
        content = {field: getattr(record, field) for field in self._fields}
        self._write(path, seconds=seconds, **content)
        # After a slow write, wait longer before the next one.
        end = time.perf_counter()
        self._written = end + 10 * (end - start)

    def write_npz(self, name, **content):
        """Writes arrays to a file of the directory, on the chief."""
        self.sharding.on_chief(
            lambda: self._write(self.directory / name, **content)
        )

    def complete(self, name, make):
        """Writes a file of the directory on the chief, unless it is there.

        Args:
            name: Name of the file.
            make: Function without arguments that returns a dict of arrays.
        """

        def work():
            path = self.directory / name
            if not path.exists():
                self._write(path, **make())

        self.sharding.on_chief(work)

    def read_npz(self, name):
        """Reads the arrays of a file of the directory, on the chief."""
        path = self.directory / name
        try:
            return npz.read(path)
        except DAMAGED as error:
            raise InputError(
                "A file of the evaluation cannot be read; delete it to have it "
                f"written again. Received: path={path}"
            ) from error

    def write_results(self, results):
        """Writes `results.json`, the last file of an evaluation."""

        def write():
            path = self.directory / "results.json"
            with _refuse_unwritable(path):
                write_json(path, results)

        self.sharding.on_chief(write)

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
            "The state of the evaluation cannot be written; check free space "
            f"and permissions. Received: path={path} ({error})"
        ) from error


def _names(path):
    with np.load(path, allow_pickle=False) as file:
        return set(file.files)


def _read(path, shapes):
    """Reads arrays from a file, by name, and checks their shapes."""
    try:
        return npz.read(path, shapes)
    except DAMAGED as error:
        raise InputError(
            "The state of the evaluation cannot be read; delete the file to "
            "restart its attack. "
            f"Received: path={path}"
        ) from error


def write_npz(path, **arrays):
    """Writes arrays to a file atomically."""
    with replacing(path) as file:
        np.savez_compressed(file, **arrays)
