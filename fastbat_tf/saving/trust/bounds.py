"""How much a file may expand to in memory."""

import os

from fastbat_tf.errors import InputError

# Any file may expand to this much, which every machine that holds TensorFlow
# has: small networks are full of zeros, and compress well.
FREE_BYTES = 256 * 2**20

# Above that, to this many times its size. Keras stores weights as they are,
# and compressed floats shrink to half; a network of which 95 % were pruned
# shrinks to a tenth. A decompression bomb expands a thousandfold.
MAX_EXPANSION = 20


def refuse_expansion(declared, size, received):
    """Refuses a file that declares far more bytes than it holds.

    Args:
        declared: Integer, the bytes that its content takes in memory.
        size: Integer, the bytes of the file.
        received: String, `name=value`, which setting names the file.

    Raises:
        InputError: If it does.
    """
    if declared > max(FREE_BYTES, MAX_EXPANSION * size):
        raise InputError(
            f"A file of {size} bytes declares {declared} bytes of content, as "
            "a decompression bomb does; expected at most "
            f"{MAX_EXPANSION} times its size. Received: {received}"
        )


def size_of(file):
    """Returns the bytes of an open file."""
    position = file.tell()
    size = file.seek(0, os.SEEK_END)
    file.seek(position)
    return size
