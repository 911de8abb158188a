"""A directory in which XLA keeps what it has compiled, between processes.

This module does not import TensorFlow, which reads the variable once.
"""

import hashlib
import importlib.metadata
import json
import os
import pathlib
import platform

from fastbat_tf import files
from fastbat_tf.errors import InputError

FLAGS = "TF_XLA_FLAGS"
SUMS = "SHA256SUMS.json"
SECONDS = 30.0  # For another process that checks the same directory.
# What XLA's programs are made for, besides the version of TensorFlow.
PROCESSOR = pathlib.Path("/proc/cpuinfo")
GPUS = pathlib.Path("/proc/driver/nvidia")


def use(directory):
    """Lets XLA keep its programs in a directory, and use those that are there.

    Each version of TensorFlow on each kind of machine has a directory of its
    own in it: XLA would run a program that was made for another processor.
    Files that have changed since they were last used are removed, and those
    that are not whole: TensorFlow would end at them. Call this before
    TensorFlow is imported.

    Args:
        directory: Path. It is created if it is missing.

    Returns:
        The `pathlib.Path` of the directory of this version and machine.

    Raises:
        InputError: If it cannot be written.
    """
    path = pathlib.Path(directory).expanduser().absolute() / _kind()
    try:
        path.mkdir(parents=True, exist_ok=True)
        with files.locked(path / ".lock", SECONDS):
            _check(path)
    except (OSError, TimeoutError) as error:
        raise InputError(
            "The compilation cache is expected to be a writable directory. "
            f"Received: compilation_cache={directory} ({error})"
        ) from error
    given = os.environ.get(FLAGS, "")
    flag = f"--tf_xla_persistent_cache_directory={path}"
    os.environ[FLAGS] = f"{given} {flag}".strip()
    return path


def _kind():
    """A name of TensorFlow's version and of the kind of the machine."""
    described = [platform.machine()]
    if PROCESSOR.exists():
        lines = PROCESSOR.read_text().splitlines()
        names = "model name", "flags", "Features", "CPU part"
        described += sorted({x for x in lines if x.startswith(names)})
    driver = [GPUS / "version", *sorted(GPUS.glob("gpus/*/information"))]
    for path in filter(pathlib.Path.exists, driver):
        # The other lines name a card, not its kind.
        lines = path.read_text().splitlines()
        described += [x for x in lines if x.startswith(("Model", "NVRM"))]
    digest = hashlib.sha256("\n".join(described).encode()).hexdigest()[:12]
    return f"tensorflow-{importlib.metadata.version('tensorflow')}-{digest}"


def _check(path):
    """Removes damaged programs, and notes the sums of the others."""
    file = path / SUMS
    try:
        known = json.loads(file.read_text())
    except (OSError, ValueError):
        known = {}
    sums = {}
    for program in sorted(path.glob("*.pb")):
        total = files.sha256(program)
        if known.get(program.name, total) == total and _is_whole(program):
            sums[program.name] = total
        else:
            program.unlink(missing_ok=True)
    if sums != known:
        files.write_json(file, sums)


def _is_whole(program):
    """Whether the fields of a protocol buffer end where the file ends."""
    content = memoryview(program.read_bytes())
    place, size = 0, len(content)
    while place < size:
        kind, place = _varint(content, place)
        length, place = _varint(content, place)
        if place > size or not kind >> 3:
            return False
        if kind & 7 == 2:  # A field with a length; 0 is an integer.
            place += length
        elif kind & 7 != 0:
            return False
    return size > 0 and place == size


def _varint(content, place):
    value = shift = 0
    while place < len(content):
        byte = content[place]
        value |= (byte & 127) << shift
        place, shift = place + 1, shift + 7
        if byte < 128:
            return value, place
    return value, len(content) + 1
