"""Reads files of arrays that may come from anyone."""

import math
import os
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.lib import format as npy

# Any file may expand to this much, which every machine that holds TensorFlow
# has: masks and small networks are full of zeros, and compress well.
FREE_BYTES = 256 * 2**20

# Above that, to this many times its size. Weights are stored as they are, and
# compressed floats shrink to half; a network of which 95 % were pruned shrinks
# to a tenth. A decompression bomb expands a thousandfold.
MAX_EXPANSION = 20


def is_bomb(declared: int, size: int) -> bool:
    """Whether a file declares far more content than it can hold.

    Args:
        declared: Integer, the bytes that its content takes in memory.
        size: Integer, the bytes of the file.
    """
    return declared > max(FREE_BYTES, MAX_EXPANSION * size)


def read(
    path: str | os.PathLike[str],
    shapes: Mapping[str, Sequence[int]] | None = None,
) -> dict[str, np.ndarray]:
    """Reads the arrays of a file that `numpy.savez` has written.

    What a member declares is checked before memory is allocated for it, and
    nothing is unpickled.

    Args:
        path: Path of the file.
        shapes: Dict from the names of the arrays to read to their shapes.
            Defaults to `None`: all arrays, if they do not expand to far more
            than the file has.

    Returns:
        Dict of arrays by name.

    Raises:
        ValueError: If it holds something else than arrays of numbers and
            strings, arrays of other shapes, or a decompression bomb.
        KeyError, OSError, RuntimeError, zipfile.BadZipFile, zlib.error: If it
            cannot be read.

    Example:

    >>> np.savez("outcomes.npz", robust=np.ones(3, bool))
    >>> int(read("outcomes.npz")["robust"].sum())
    3
    """
    loaded = np.load(path, allow_pickle=False)
    if not isinstance(loaded, np.lib.npyio.NpzFile):
        raise ValueError("expected the arrays of numpy.savez")
    with loaded as file:
        declared = 0
        for name in file.files if shapes is None else shapes:
            expected = None if shapes is None else shapes[name]
            declared += _check(file, name, expected)
        if shapes is None and is_bomb(declared, os.path.getsize(path)):
            raise ValueError(
                f"it declares {declared} bytes, as a decompression bomb does"
            )
        names = file.files if shapes is None else shapes
        return {name: file[name] for name in names}


def _check(file, name, expected):
    """Checks what a member declares, and returns its bytes in memory."""
    info = file.zip.getinfo(f"{name}.npy")
    with file.zip.open(info) as member:
        version = npy.read_magic(member)
        header = (
            npy.read_array_header_1_0
            if version == (1, 0)
            else npy.read_array_header_2_0
        )
        shape, _, dtype = header(member)
    if expected is not None and shape != tuple(expected):
        raise ValueError(f"{name} has the shape {shape}.")
    declared = math.prod(shape) * dtype.itemsize
    # Memory is allocated for what it declares, before what it has is read.
    if dtype.hasobject or declared > info.file_size:
        raise ValueError(f"{name} is not an array of numbers")
    return declared
