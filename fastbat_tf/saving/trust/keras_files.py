"""Checks `.keras` and `.h5` files before Keras opens them."""

import contextlib
import io
import json
import os
import pathlib
import zipfile
from collections.abc import Iterator

import h5py

from fastbat_tf.saving.trust.archives import CONFIG, WEIGHTS, check_members
from fastbat_tf.saving.trust.bounds import size_of
from fastbat_tf.saving.trust.configs import check_code
from fastbat_tf.saving.trust.hdf5_files import check_content


def check_keras_file(
    path: str | os.PathLike[str], received: str, *, allow_code: bool = False
) -> int:
    """Refuses the file of a model that could do more than compute.

    Args:
        path: Path of a `.keras` or `.h5` file.
        received: String, `name=value`, which setting names the file.
        allow_code: Boolean, whether the model may bring Python code. Defaults
            to `False`.

    Returns:
        Integer, the bytes of its weights in memory.

    Raises:
        InputError: If it has code, reads other files, or is a bomb.
        OSError, ValueError, zipfile.BadZipFile: If it cannot be read.
    """
    with _open(path, received) as (_, config, held):
        if not allow_code and config is not None:
            check_code(json.loads(config), received)
    return held


def weigh(path: str | os.PathLike[str], received: str) -> int:
    """Returns the bytes that the weights of a file take in memory.

    Args:
        path: Path of a `.keras` or `.weights.h5` file.
        received: String, `name=value`, which setting names the file.

    Raises:
        InputError: If it reads other files, or is a bomb.
        OSError, ValueError, zipfile.BadZipFile: If it cannot be read.
    """
    with _open(path, received) as (*_, held):
        return held


@contextlib.contextmanager
def open_weights(
    path: str | os.PathLike[str], received: str
) -> Iterator[h5py.File]:
    """Opens the weights of a `.keras`, `.h5` or `.weights.h5` file, checked.

    Args:
        path: Path of the file.
        received: String, `name=value`, which setting names the file.

    Yields:
        An open `h5py.File`.

    Raises:
        InputError: If it reads other files, or is a bomb.
        OSError, ValueError, zipfile.BadZipFile: If it cannot be read.
    """
    with _open(path, received) as (weights, *_):
        yield weights


@contextlib.contextmanager
def _open(path, received):
    """Opens a checked file: its weights, its config or None, and bytes."""
    path = pathlib.Path(path)
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(path.open("rb"))
        size = size_of(file)
        config = None
        if path.name.endswith(".keras"):
            archive = stack.enter_context(zipfile.ZipFile(file))
            check_members(archive, size, received)
            config = archive.read(CONFIG)
            file = stack.enter_context(archive.open(WEIGHTS))
            # To move in a compressed member is to decompress it again.
            if archive.getinfo(WEIGHTS).compress_type != zipfile.ZIP_STORED:
                file = io.BytesIO(file.read())
        weights = stack.enter_context(h5py.File(file, "r"))
        held = check_content(weights, size, received)
        if config is None:
            config = weights.attrs.get("model_config")
            if isinstance(config, bytes):
                config = config.decode()
        yield weights, config, held
