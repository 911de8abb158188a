"""Decodes image files."""

import concurrent.futures
import os

import numpy as np
import tensorflow as tf
from PIL import Image

from fastbat_tf import display
from fastbat_tf.data.augmentation import resize
from fastbat_tf.errors import InputError

# What Pillow and TensorFlow raise for files that are no images, are cut short,
# or are broken.
UNREADABLE = (
    OSError,
    ValueError,
    SyntaxError,
    EOFError,
    TypeError,
    OverflowError,
    MemoryError,
    Image.DecompressionBombError,
    tf.errors.OpError,
)


def decode(encoded, size):
    """Decodes an image as RGB and resizes it.

    PNG, JPEG, WebP, GIF (its first frame) and BMP, as the exported model
    decodes them: palettes and gray levels become RGB; of 16 bits the upper 8
    are kept; transparency is left out.

    Args:
        encoded: Scalar string tensor, the file.
        size: `(height, width)`; an image of another size is resized
            bilinearly, with antialiasing, whatever its aspect ratio.

    Returns:
        A uint8 tensor `(height, width, 3)`.
    """
    image = tf.io.decode_image(encoded, 3, expand_animations=False)
    image.set_shape((None, None, 3))
    return resize(image, size)


def read_file(path, size):
    """`decode` of a file, as an array; raises one of `UNREADABLE`."""
    # First by Pillow: TensorFlow writes to stderr about what is broken.
    with Image.open(path) as image:
        image.load()
    return decode(tf.io.read_file(str(path)), size).numpy()


def read_ppm(path, size):
    """Likewise for a format that TensorFlow does not know."""
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB"))
    return resize(tf.constant(pixels), size).numpy()


def read(paths, size, skip_unreadable=False, keep=True, read_one=read_file):
    """Decodes images in parallel.

    Args:
        paths: Sequence of paths.
        size: `(height, width)`.
        skip_unreadable: Whether images that cannot be read are left out.
        keep: Whether the images are returned; if not, they are only checked.
        read_one: `read_file` or `read_ppm`.

    Returns:
        The images, uint8 `(readable, height, width, 3)` or None, and a bool
        array `(len(paths),)`: which ones could be read.

    Raises:
        InputError: If one cannot be read; names it.
    """
    images = np.empty((len(paths), *size, 3), np.uint8) if keep else None
    readable = np.ones(len(paths), bool)

    def read_into(place):
        try:
            image = read_one(paths[place], size)
        except UNREADABLE as error:
            if not skip_unreadable:
                reason = " ".join(str(error).split()) or type(error).__name__
                raise InputError(
                    "An image cannot be read; expected a whole file of PNG, "
                    "JPEG, WebP, GIF or BMP. "
                    f"Received: file={paths[place]} ({reason})"
                ) from error
            readable[place] = False
            return
        if keep:
            images[place] = image

    # The decoders release the interpreter's lock.
    pool = concurrent.futures.ThreadPoolExecutor(os.cpu_count())
    try:
        with display.task(
            "reading images",
            len(paths),
            slow=f"Reading {len(paths):,} images ...",
        ) as task:
            for done, _ in enumerate(pool.map(read_into, range(len(paths))), 1):
                task.update(done, count=f"{done}/{len(paths)}")
    finally:
        pool.shutdown(cancel_futures=True)
    if keep and not readable.all():
        images = images[readable]
    return images, readable
