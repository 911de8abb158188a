"""Checkpoints of a run on disk: the last three, verified when read."""

import json
import pathlib
import re
import shutil
from typing import Any, NamedTuple

import numpy as np

from fastbat_tf import npz
from fastbat_tf.errors import InputError
from fastbat_tf.files import (
    flush,
    flush_tree,
    is_inside,
    make_directory,
    sha256,
)
from fastbat_tf.runtime import display

SUMS = "SHA256SUMS"


class Saved(NamedTuple):
    """The checkpoint that `Backup.restore` has read.

    Attributes:
        arrays: List of the arrays that were saved.
        state: The saved state, of JSON's types.
        files: Path of the directory that holds the copied files, each at its
            path relative to the root.
    """

    arrays: list
    state: Any
    files: pathlib.Path


class Backup:
    """Writes and reads the checkpoints `<directory>/<number>`.

    A checkpoint is a directory with `variables.npz`, `state.json`, copies of
    the files that grow with the run, and their checksums as `sha256sum` writes
    them. It is written to a temporary directory, then renamed, so a killed
    process leaves no partial checkpoint. Numbers increase from one checkpoint
    to the next. Copies of TensorBoard's event files and of its profiles are
    renamed, because TensorBoard would show each checkpoint as another run.

    Args:
        directory: Path of the directory that holds the checkpoints.
        root: Path of the directory whose files are copied.
        files: Paths of files and directories relative to `root`. Those that do
            not exist are skipped. Defaults to `()`.
        kept: Integer, how many checkpoints are kept. Defaults to `3`.
    """

    def __init__(self, directory, root, files=(), kept=3):
        self._directory = pathlib.Path(directory)
        self._root = pathlib.Path(root)
        self._files = files
        self._kept = kept

    def save(self, arrays, state):
        """Writes a checkpoint, and removes the oldest.

        Args:
            arrays: List of arrays.
            state: Any value that JSON can hold.

        Raises:
            InputError: If it cannot be written. The earlier checkpoints are
                not changed.
        """
        before = self._checkpoints()
        number = int(before[-1].name) + 1 if before else 0
        target = self._directory / f"{number:06d}"
        partial = target.with_name(f"{target.name}.partial")
        try:
            for left_over in self._directory.glob("*.partial"):
                shutil.rmtree(left_over)
            make_directory(self._directory)
            partial.mkdir()
            _write(partial, arrays, state, root=self._root, files=self._files)
            partial.rename(target)
            flush(self._directory)
            for old in [*before, target][: -self._kept]:
                shutil.rmtree(old)
        except OSError as error:
            shutil.rmtree(partial, ignore_errors=True)
            raise InputError(
                "The run cannot be saved; check free space and permissions. "
                "Earlier checkpoints are intact. "
                f"Received: path={target} ({error.strerror or error})"
            ) from error

    def restore(self):
        """Reads the newest checkpoint, and puts its files back.

        If it is damaged, a line says so and the previous one is used.

        Returns:
            A `Saved`, or None if there is no checkpoint.

        Raises:
            InputError: If all checkpoints are damaged.
        """
        checkpoints = self._checkpoints()
        for checkpoint in reversed(checkpoints):
            try:
                saved = _read(checkpoint)
            except (KeyError, OSError, ValueError) as error:
                display.warn(
                    f"The checkpoint {checkpoint} is damaged; trying the "
                    f"previous one. ({error})"
                )
                continue
            self._put_back(saved.files)
            return saved
        if checkpoints:
            raise InputError(
                "All checkpoints of the run are damaged; expected an intact "
                "one, or a new directory for a new run. "
                f"Received: path={self._directory}"
            )
        return None

    def _checkpoints(self):
        found = self._directory.glob("[0-9]*")
        return sorted(path for path in found if path.name.isdigit())

    def _put_back(self, copies):
        for name in self._files:
            path = self._root / name
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
            _copy(copies / name, path, _reveal)


def _hide(name):
    """Changes a name that TensorBoard looks for in all folders.

    These are "tfevents" in the name of a file, and the folder "profile".
    """
    name = re.sub("tf(-*)events", r"tf-\1events", name)
    return re.sub("^(-*)profile$", r"-\1profile", name)


def _reveal(name):
    """Undoes `_hide`; does not change names in older checkpoints."""
    name = re.sub("tf-(-*)events", r"tf\1events", name)
    return re.sub("^-(-*)profile$", r"\1profile", name)


def _copy(source, target, rename):
    if source.is_dir():  # `shutil.copytree` continues after an error.
        target.mkdir(parents=True)
        for path in source.iterdir():
            _copy(path, target / rename(path.name), rename)
    elif source.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)


def _write(directory, arrays, state, *, root, files):
    np.savez(directory / "variables.npz", *arrays)
    (directory / "state.json").write_text(json.dumps(state))
    for name in files:
        _copy(root / name, directory / "files" / name, _hide)
    lines = [
        f"{sha256(path)}  {path.relative_to(directory).as_posix()}\n"
        for path in directory.rglob("*")
        if path.is_file()
    ]
    (directory / SUMS).write_bytes("".join(lines).encode())
    flush_tree(directory)


def _read(directory):
    lines = (directory / SUMS).read_bytes().decode().splitlines()
    pairs = [line.split("  ", 1) for line in lines]
    sums = {name: digest for digest, name in pairs}
    for name in ("variables.npz", "state.json"):
        if name not in sums:
            raise ValueError(f"{SUMS} does not list {name}")
    for name, expected in sums.items():
        if not is_inside(directory / name, directory):
            raise ValueError(f"{SUMS} lists {name}, which is not in it")
        if sha256(directory / name) != expected:
            raise ValueError(f"the checksum of {name} does not match")
    arrays = list(npz.read(directory / "variables.npz").values())
    state = json.loads((directory / "state.json").read_text())
    return Saved(arrays, state, directory / "files")
