"""Whole states of a run on disk, the last three, each checked when read."""

import json
import pathlib
import re
import shutil
from typing import Any, NamedTuple

import numpy as np

from fastbat_tf.errors import InputError
from fastbat_tf.files import flush, flush_tree, make_directory, sha256
from fastbat_tf.runtime import display

SUMS = "SHA256SUMS"


class Saved(NamedTuple):
    """What `Backup.restore` found.

    Attributes:
        arrays: List of arrays, as they were given.
        state: Dict of JSON's types, as it was given.
        files: Path of a directory that holds the copied files, by their path
            relative to the root.
    """

    arrays: list
    state: Any
    files: pathlib.Path


class Backup:
    """Checkpoints `<directory>/<number>`, of which the last three are kept.

    A checkpoint is a directory with `variables.npz`, `state.json`, copies of
    files that grow with the run, and the checksums of them all, as `sha256sum`
    writes them. It is written to the side and renamed: it is whole or not
    there, whenever the process is killed. Numbers rise from one to the next.
    The copies of TensorBoard's event files have other names, so that it does
    not show each checkpoint as further runs.

    Args:
        directory: Where the checkpoints are.
        root: The directory whose files are copied.
        files: Paths relative to `root`, of files and directories; those that
            do not exist are left out.
        kept: Integer, how many checkpoints are kept.
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
            state: Anything that JSON can hold.

        Raises:
            InputError: If it cannot be written; the others stay as they were.
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
            _write(partial, arrays, state, self._root, self._files)
            partial.rename(target)
            flush(self._directory)
            for old in [*before, target][: -self._kept]:
                shutil.rmtree(old)
        except OSError as error:
            shutil.rmtree(partial, ignore_errors=True)
            raise InputError(
                "The run cannot be saved; expected room on the disk, and the "
                "right to write. The checkpoints before are whole. "
                f"Received: path={target} ({error.strerror or error})"
            ) from error

    def restore(self):
        """Reads the newest whole checkpoint, and puts its files back.

        A damaged one is named in a line on the standard output.

        Returns:
            A `Saved`, or None if there is no checkpoint.

        Raises:
            InputError: If there are checkpoints, but no whole one.
        """
        checkpoints = self._checkpoints()
        for checkpoint in reversed(checkpoints):
            try:
                saved = _read(checkpoint)
            except (KeyError, OSError, ValueError) as error:
                display.say(
                    f"The checkpoint {checkpoint} is damaged and left out; "
                    f"the one before is looked at. ({error})"
                )
                continue
            self._put_back(saved.files)
            return saved
        if checkpoints:
            raise InputError(
                "No checkpoint of the run is whole; expected one, or a new "
                f"directory for a new run. Received: path={self._directory}"
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
    """A name that TensorBoard, which looks for "tfevents", passes over."""
    return re.sub("tf(-*)events", r"tf-\1events", name)


def _reveal(name):
    """What `_hide` was given; a name of older checkpoints stays."""
    return re.sub("tf-(-*)events", r"tf\1events", name)


def _copy(source, target, rename):
    if source.is_dir():  # `copytree` would go on after an error.
        target.mkdir(parents=True)
        for path in source.iterdir():
            _copy(path, target / rename(path.name), rename)
    elif source.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)


def _write(directory, arrays, state, root, files):
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
            raise ValueError(f"{SUMS} does not name {name}")
    for name, expected in sums.items():
        if sha256(directory / name) != expected:
            raise ValueError(f"{name} does not have its checksum")
    with np.load(directory / "variables.npz") as file:
        arrays = [file[name] for name in file.files]
    state = json.loads((directory / "state.json").read_text())
    return Saved(arrays, state, directory / "files")
