"""Decodes image files."""

import concurrent.futures
import functools
import io
import os
import pathlib
import stat
import warnings

import numpy as np
import tensorflow as tf
from PIL import Image, UnidentifiedImageError

from fastbat_tf.data import formats
from fastbat_tf.data.augmentation import (
    center_crop,
    random_resized_crop,
    resize,
)
from fastbat_tf.errors import InputError
from fastbat_tf.runtime import display

# The errors of Pillow and TensorFlow for files that are truncated, damaged, or
# not images.
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


# Larger files are rejected before they are read. A pixel has at most four
# channels of 16 bits.
MAX_BYTES = 8 * formats.MAX_PIXELS
# Images with a greater ratio of the sides are rejected if the short side is
# resized, which would take too much memory.
MOST_NARROW = 100
# The number of files of a batch that are decoded in parallel; each may take
# 200 MB.
DECODED_AT_A_TIME = 4
SHOWN = 5  # The number of unreadable files that a message names.


def decode(encoded, reading):
    """Decodes a file to an image, as test images and served images are.

    The formats are PNG, JPEG, WebP, GIF (the first frame), BMP and PPM.
    Palettes and gray levels are converted to RGB; if the reading has one
    channel, colors are converted to gray levels (ITU-R BT.601). 16-bit images
    keep their upper 8 bits. Transparency and EXIF rotation are ignored. An
    image has at most `formats.MAX_PIXELS` pixels.

    Args:
        encoded: String scalar tensor, the content of the file.
        reading: A `fastbat_tf.data.Reading`.

    Returns:
        A uint8 tensor `(height, width, channels)`.

    Raises:
        tf.errors.InvalidArgumentError: If the file cannot be read.
    """
    return _decode_or_raise(encoded, reading, _fit)


def decode_resized_crop(encoded, reading, draws):
    """Decodes a file, and resizes and flips a random box of the image.

    Args:
        encoded: String scalar tensor, the content of the file.
        reading: A `fastbat_tf.data.Reading`. If it has a short side, files
            that are too narrow are rejected.
        draws: The `Draws` of the image.

    Returns:
        A uint8 tensor `(height, width, channels)`.

    Raises:
        tf.errors.InvalidArgumentError: If the file cannot be read.
    """

    # Not `decode_and_crop_jpeg`, whose last columns differ from the image's.
    def fit(image, reading):
        size = reading.shape[:2]
        return random_resized_crop(image, size, draws, reading.antialias)

    return _decode_or_raise(encoded, reading, fit)


def _decode_or_raise(encoded, reading, fit):
    image, refusal = _try_decode(encoded, reading, fit)
    message = tf.strings.join(["An image cannot be read: ", refusal])
    with formats.asserting(tf.equal(refusal, ""), message):
        return tf.identity(image)


def decode_batch(encoded, reading):
    """Decodes a batch of files.

    Args:
        encoded: String tensor `(batch,)`, the contents of the files.
        reading: A `fastbat_tf.data.Reading`.

    Returns:
        A uint8 tensor `(batch, height, width, channels)`.

    Raises:
        tf.errors.InvalidArgumentError: If files cannot be read; names them.
    """
    count = tf.size(encoded, tf.int64)

    def decode_one(index, file):
        return index, *_try_decode(file, reading)

    # A failing decoder would stop a graph; a `tf.data.Dataset` can ignore it.
    files = tf.data.Dataset.from_tensor_slices(encoded).enumerate()
    files = files.map(decode_one, DECODED_AT_A_TIME).ignore_errors()
    # One more element, since no elements could not be batched.
    last = tf.zeros(reading.shape, tf.uint8)
    last = tf.data.Dataset.from_tensors((count, last, ""))
    decoded = files.concatenate(last).batch(count + 1)
    indices, images, refusals = decoded.get_single_element()
    refusals = tf.tensor_scatter_nd_update(
        tf.fill([count + 1], formats.BROKEN), indices[:, tf.newaxis], refusals
    )
    refused = tf.where(tf.not_equal(refusals, ""))[:, 0]
    message = _name_some(refused, refusals)
    with formats.asserting(tf.equal(tf.size(refused), 0), message):
        return tf.ensure_shape(images[:-1], (None, *reading.shape))


def _name_some(refused, refusals):
    """The message about the files at the indices `refused`."""
    lines = tf.strings.join(
        [
            "encoded[",
            tf.as_string(refused),
            "]: ",
            tf.gather(refusals, refused),
        ]
    )
    return tf.strings.join(
        [
            "Each image is expected as a whole file of PNG, JPEG, WebP, GIF, "
            "BMP or PPM. Received: ",
            tf.strings.reduce_join(lines[:SHOWN], separator=", "),
        ]
    )


def _fit(image, reading):
    size = reading.shape[:2]
    if reading.short_side is None:
        return resize(image, size, reading.antialias)
    return center_crop(image, size, reading.short_side, reading.antialias)


def _try_decode(encoded, reading, fit=_fit):
    """Returns the image, and why it cannot be read, which is empty if it can.

    Files that cannot be read give zeros; truncated files raise an error.
    """

    def decode_colors():
        image = formats.decode(encoded, file)
        return fit(_to_gray(image) if reading.channels == 1 else image, reading)

    file, refusal = _inspect(encoded, reading)
    image = tf.cond(
        tf.equal(refusal, ""),
        decode_colors,
        lambda: tf.zeros(reading.shape, tf.uint8),
    )
    return tf.ensure_shape(image, reading.shape), refusal


def _inspect(encoded, reading):
    """Returns the `formats.FileInfo`, and why it cannot be read, or empty."""
    file = formats.inspect(encoded)
    if reading.short_side is None:
        return file, file.refusal
    short = tf.minimum(file.height, file.width)
    narrow = tf.maximum(file.height, file.width) > MOST_NARROW * short
    message = f"a side is more than {MOST_NARROW} times as long as the other"
    narrow &= tf.equal(file.refusal, "")
    return file, tf.where(narrow, message, file.refusal)


def _to_gray(image):
    weights = tf.constant([299, 587, 114])
    image = tf.reduce_sum(tf.cast(image, tf.int32) * weights, -1, True)
    return tf.cast((image + 500) // 1000, tf.uint8)


@functools.cache
def _compiled(function, reading):
    """Compiles a graph: run eagerly, `inspect` is slower than decoding."""
    file = tf.TensorSpec((), tf.string)
    return tf.function(
        lambda encoded: function(encoded, reading), [file], autograph=False
    )


def read_file(path, reading):
    """Decodes a file.

    Args:
        path: Path of the file.
        reading: A `fastbat_tf.data.Reading`.

    Returns:
        A uint8 array `(height, width, channels)`.

    Raises:
        One of `UNREADABLE`: If the file cannot be read.
    """
    _refuse_large(path)
    encoded = pathlib.Path(path).read_bytes()
    # Pillow checks the file first, since TensorFlow writes to stderr about
    # damaged files. Except for GIF files, Pillow is the stricter one.
    if encoded.startswith(b"\xff\xd8\xff"):
        _open(encoded).close()
    file, refusal = _compiled(_inspect, reading)(encoded)
    _refuse(refusal)
    with _open(encoded) as image:
        if formats.NAMES[file.kind] != "GIF":
            image.load()
    image, refusal = _compiled(_try_decode, reading)(encoded)
    _refuse(refusal)
    return image.numpy()


def _refuse_large(path):
    """Refuses a file that would not fit into memory, or has no end."""
    found = os.stat(path)
    if not stat.S_ISREG(found.st_mode):
        raise ValueError("it is a device or a pipe, not a file")
    if found.st_size > MAX_BYTES:
        raise ValueError(
            f"it is expected to have at most {MAX_BYTES} bytes, but has "
            f"{found.st_size}"
        )


def _open(encoded):
    try:
        return Image.open(io.BytesIO(encoded))
    except UnidentifiedImageError as error:  # It names an object in memory.
        raise ValueError(formats.BROKEN) from error


def _refuse(refusal):
    if refusal.numpy():
        raise ValueError(refusal.numpy().decode())


def read(paths, reading, skip_unreadable=False, keep=True):
    """Decodes files in parallel.

    Args:
        paths: Sequence of paths.
        reading: A `fastbat_tf.data.Reading`.
        skip_unreadable: Whether to skip files that cannot be read. Defaults to
            False.
        keep: Whether to return the images rather than only check the files.
            Defaults to True.

    Returns:
        The images, a uint8 array `(readable, height, width, channels)` or
        None, and a bool array `(len(paths),)`, which files could be read.

    Raises:
        InputError: If a file cannot be read, and is not skipped; names it.
    """
    images = np.empty((len(paths), *reading.shape), np.uint8) if keep else None
    readable = np.ones(len(paths), bool)

    def read_into(index):
        try:
            image = read_file(paths[index], reading)
        except UNREADABLE as error:
            if not skip_unreadable:
                reason = " ".join(str(error).split()) or type(error).__name__
                if isinstance(error, tf.errors.OpError):
                    reason = formats.BROKEN  # Its text locates it in a graph.
                raise InputError(
                    "An image cannot be read; expected a whole file of PNG, "
                    "JPEG, WebP, GIF, BMP or PPM. "
                    f"Received: file={paths[index]} ({reason})"
                ) from error
            readable[index] = False
            return
        if keep:
            images[index] = image

    # The decoders release Python's global interpreter lock.
    pool = concurrent.futures.ThreadPoolExecutor(os.cpu_count())
    try:
        with (
            warnings.catch_warnings(),
            display.task(
                "reading images",
                len(paths),
                slow=f"Reading {len(paths):,} images ...",
            ) as task,
        ):
            # Large images are rejected anyway.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            for done, _ in enumerate(pool.map(read_into, range(len(paths))), 1):
                task.update(done, count=f"{done}/{len(paths)}")
    finally:
        pool.shutdown(cancel_futures=True)
    if keep and not readable.all():
        images = images[readable]
    return images, readable
