"""Files of extra training images, such as those that a network has generated.

This module does not import TensorFlow.
"""

import hashlib
import json
import math
import os
import struct
import zipfile
import zlib
from typing import Any, NamedTuple

import numpy as np
from numpy.lib import format as npy

from fastbat_tf import npz
from fastbat_tf.data.registry import MEMORY_LIMIT
from fastbat_tf.errors import InputError

# The names of the arrays: those of the published files, and their plurals.
IMAGES = "image", "images"
LABELS = "label", "labels"
# A member of a zip file begins with a header of this size, which ends with the
# lengths of the two fields that follow: the name, and what has no place else.
LOCAL_HEADER = 30


class Member(NamedTuple):
    """An array of the file.

    Attributes:
        name: String, the name of the array.
        shape: Tuple of integers.
        dtype: The `numpy.dtype`.
        checksum: Integer, the CRC-32 of its bytes.
        offset: Integer, where the first value begins in the file; None if the
            array is compressed.
    """

    name: str
    shape: tuple
    dtype: Any
    checksum: int
    offset: int | None


class ExtraFile(NamedTuple):
    """A file of images and labels, as its headers describe it.

    Attributes:
        path: String, the path of the file.
        images: The `Member` of the images, uint8 `(examples, height, width,
            channels)`.
        labels: The `Member` of the labels, integers `(examples,)`.
    """

    path: str
    images: Member
    labels: Member

    @property
    def size(self) -> int:
        """The number of images."""
        return self.images.shape[0]

    @property
    def fingerprint(self) -> str:
        """A checksum of the contents, which takes no time.

        It is made of the checksums that the file has of its arrays, so that
        another name, place or date of the file does not change it.
        """
        said = [
            [list(member.shape), member.dtype.str, member.checksum]
            for member in (self.images, self.labels)
        ]
        return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:16]


def inspect(path: str | os.PathLike, image_shape: tuple) -> ExtraFile:
    """Reads the headers of a file of extra images, and checks them.

    Args:
        path: Path of a file that `numpy.savez` or `numpy.savez_compressed` has
            written.
        image_shape: Tuple, `(height, width, channels)` of the data set.

    Returns:
        An `ExtraFile`.

    Raises:
        InputError: If there is no such file, or not the arrays it must have.

    Example:

    >>> generated = np.zeros((2, 32, 32, 3), np.uint8)
    >>> np.savez("extra.npz", image=generated, label=[3, 5])
    >>> inspect("extra.npz", (32, 32, 3)).size
    2
    """
    path = os.fspath(path)
    try:
        with zipfile.ZipFile(path) as file:
            found = ExtraFile(
                path, _find(file, path, IMAGES), _find(file, path, LABELS)
            )
    except InputError:
        raise
    except (OSError, RuntimeError, ValueError, zipfile.BadZipFile) as error:
        raise _refuse(
            f"a file of numpy.savez with {IMAGES[0]} and {LABELS[0]}",
            path,
            getattr(error, "strerror", None) or f"{error}",
        ) from error
    _check(found, image_shape)
    return found


def read_labels(file: ExtraFile, num_classes: int) -> np.ndarray:
    """Reads the labels, and checks that they are classes of the data set.

    Args:
        file: The `ExtraFile`.
        num_classes: Integer.

    Returns:
        int32 array `(examples,)`.

    Raises:
        InputError: If a label is out of range, or they cannot be read.
    """
    labels = _read(file, file.labels)
    if not 0 <= labels.min() <= labels.max() < num_classes:
        raise _refuse(
            f"labels in [0, {num_classes})",
            file.path,
            f"with labels from {labels.min()} to {labels.max()}",
        )
    return labels.astype(np.int32)


def read_images(file: ExtraFile) -> np.ndarray:
    """Reads images that are compressed, and so cannot be read one by one.

    Args:
        file: The `ExtraFile`.

    Returns:
        uint8 array `(examples, height, width, channels)`.

    Raises:
        InputError: If they are too large for memory, or cannot be read.
    """
    declared = math.prod(file.images.shape)
    if declared > MEMORY_LIMIT or npz.is_bomb(
        declared, os.path.getsize(file.path)
    ):
        raise _refuse(
            f"compressed images of at most {MEMORY_LIMIT / 1e9:g} GB; those "
            "that numpy.savez writes are not compressed, and are streamed",
            file.path,
            f"with {declared / 1e9:.3g} GB",
        )
    return _read(file, file.images)


def extra_in_batch(batch_size: int, fraction: float) -> int:
    """The number of extra images in a batch.

    Args:
        batch_size: Integer.
        fraction: Float in (0, 1), `extra_fraction`.

    Raises:
        InputError: If a batch would have images of one kind only.
    """
    extra = round(fraction * batch_size)
    if not 0 < extra < batch_size:
        raise InputError(
            "A batch is expected to have original and extra images, "
            "round(extra_fraction * batch_size) of the latter. Received: "
            f"extra_fraction={fraction}, batch_size={batch_size}"
        )
    return extra


def _read(file, member):
    try:
        return npz.read(file.path, {member.name: member.shape})[member.name]
    except (
        EOFError,
        KeyError,
        OSError,
        RuntimeError,
        ValueError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise _refuse(
            "a whole file", file.path, f"{type(error).__name__}: {error}"
        ) from error


def _find(file, path, names):
    """Finds the array of one of some names, and reads its header."""
    held = {info.filename: info for info in file.infolist()}
    name = next((name for name in names if f"{name}.npy" in held), None)
    if name is None:
        arrays = sorted(key.removesuffix(".npy") for key in held)
        raise _refuse(
            f"an array {' or '.join(names)}",
            path,
            f"with {', '.join(arrays[:5]) or 'no arrays'}",
        )
    info = held[f"{name}.npy"]
    with file.open(info) as member:
        version = npy.read_magic(member)
        header = (
            npy.read_array_header_1_0
            if version == (1, 0)
            else npy.read_array_header_2_0
        )
        shape, is_fortran, dtype = header(member)
        begin = member.tell()
    whole = math.prod(shape) * dtype.itemsize
    if dtype.hasobject or is_fortran or begin + whole != info.file_size:
        raise ValueError(f"{name} is not a whole array of numbers by rows")
    offset = None
    if info.compress_type == zipfile.ZIP_STORED:
        offset = _begin(path, info) + begin
        if offset + whole > os.path.getsize(path):
            raise ValueError(f"{name} is truncated")
    return Member(name, shape, dtype, info.CRC, offset)


def _begin(path, info):
    """Where the bytes of a member begin that is not compressed."""
    with open(path, "rb") as file:
        file.seek(info.header_offset)
        header = file.read(LOCAL_HEADER)
    lengths = struct.unpack("<HH", header[-4:])
    return info.header_offset + LOCAL_HEADER + sum(lengths)


def _check(file, image_shape):
    images, labels = file.images, file.labels
    if images.dtype != np.uint8 or images.shape[1:] != tuple(image_shape):
        sizes = ", ".join(map(str, image_shape))
        raise _refuse(
            f"images of uint8 and the shape (examples, {sizes}), as those of "
            "the data set",
            file.path,
            f"with {images.name} of {images.dtype}, shape {images.shape}",
        )
    if labels.dtype.kind not in "iu" or labels.shape != images.shape[:1]:
        raise _refuse(
            f"an integer for each of the {file.size} images",
            file.path,
            f"with {labels.name} of {labels.dtype}, shape {labels.shape}",
        )
    if not file.size:
        raise _refuse("at least one image", file.path, "with none")


def _refuse(expected, path, found):
    return InputError(
        f"`extra_data` is expected to be {expected}. "
        f"Received: extra_data={path}, {found}"
    )
