"""Refuses files that expand to far more than they hold."""

import os
from typing import BinaryIO

from fastbat_tf.errors import InputError
from fastbat_tf.npz import MAX_EXPANSION, is_bomb


def refuse_expansion(declared: int, size: int, received: str) -> None:
    """Refuses a file that declares far more bytes than it holds.

    Args:
        declared: Integer, the bytes that its content takes in memory.
        size: Integer, the bytes of the file.
        received: String, `name=value`, which setting names the file.

    Raises:
        InputError: If it does.
    """
    if is_bomb(declared, size):
        raise InputError(
            f"A file of {size} bytes declares {declared} bytes of content, as "
            "a decompression bomb does; expected at most "
            f"{MAX_EXPANSION} times its size. Received: {received}"
        )


def size_of(file: BinaryIO) -> int:
    """Returns the bytes of an open file."""
    position = file.tell()
    size = file.seek(0, os.SEEK_END)
    file.seek(position)
    return size
