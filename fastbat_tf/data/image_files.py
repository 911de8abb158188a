"""Decodes image files of any format that Pillow knows."""

import concurrent.futures
import os

import numpy as np
from PIL import Image

from fastbat_tf.errors import InputError

# What Pillow raises for files that are no images, are cut short, or are broken.
UNREADABLE = (
    OSError,
    ValueError,
    SyntaxError,
    EOFError,
    TypeError,
    OverflowError,
    MemoryError,
    Image.DecompressionBombError,
)


def decode(path, size):
    """Reads an image as RGB and resizes it.

    Palettes and gray levels become RGB; of 16 bits the upper 8 are kept;
    transparency is left out, as by TensorFlow's decoders, which serve the
    exported model. Of several frames the first is taken.

    Args:
        path: Of the file.
        size: `(height, width)`; an image of another size is resized
            bilinearly, with antialiasing, whatever its aspect ratio.

    Returns:
        uint8 array `(height, width, 3)`.
    """
    with Image.open(path) as image:
        if image.mode.startswith("I;16"):
            image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
        elif image.mode in ("I", "F"):  # Of what range?
            raise ValueError(f"no image of 8 or 16 bits: mode {image.mode}")
        image = image.convert("RGB")
    return np.asarray(
        image.resize(size[::-1], Image.Resampling.BILINEAR), np.uint8
    )


def read(paths, size, skip_unreadable=False, keep=True):
    """Decodes images in parallel.

    Args:
        paths: Sequence of paths.
        size: `(height, width)`.
        skip_unreadable: Whether images that cannot be read are left out.
        keep: Whether the images are returned; if not, they are only checked.

    Returns:
        The images, uint8 `(readable, height, width, 3)` or None, and a bool
        array `(len(paths),)`: which ones could be read.

    Raises:
        InputError: If one cannot be read; names it.
    """
    images = np.empty((len(paths), *size, 3), np.uint8) if keep else None
    readable = np.ones(len(paths), bool)

    def read_one(place):
        try:
            image = decode(paths[place], size)
        except UNREADABLE as error:
            if not skip_unreadable:
                reason = " ".join(str(error).split()) or type(error).__name__
                raise InputError(
                    "An image cannot be read; expected a whole file of a "
                    "format such as PNG or JPEG. "
                    f"Received: file={paths[place]} ({reason})"
                ) from error
            readable[place] = False
            return
        if keep:
            images[place] = image

    # Pillow's decoders release the interpreter's lock.
    pool = concurrent.futures.ThreadPoolExecutor(os.cpu_count())
    try:
        for _ in pool.map(read_one, range(len(paths))):
            pass
    finally:
        pool.shutdown(cancel_futures=True)
    if keep and not readable.all():
        images = images[readable]
    return images, readable
