"""Decodes image files."""

import concurrent.futures
import functools
import io
import os
import pathlib
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


# So many times as long as wide, an image of which the short side is resized
# takes too much memory.
MOST_NARROW = 100
# Of a batch of files; each may take 200 MB.
DECODED_AT_A_TIME = 4
SHOWN = 5  # Of files that cannot be read.


def decode(encoded, reading):
    """Turns a file into an image, as in the test and in the exported model.

    PNG, JPEG, WebP, GIF (its first frame), BMP and PPM: palettes and gray
    levels become RGB, or colors gray levels (ITU-R BT.601) where the reading
    has one channel; of 16 bits the upper 8 are kept; transparency is left
    out; EXIF rotation is not applied. At most `formats.MAX_PIXELS`.

    Args:
        encoded: Scalar string tensor, the file.
        reading: A `fastbat_tf.data.Reading`.

    Returns:
        A uint8 tensor `(height, width, channels)`.

    Raises:
        tf.errors.InvalidArgumentError: If it cannot be read.
    """
    return _decode_or_raise(encoded, reading, _fit)


def decode_resized_crop(encoded, reading, draws):
    """Likewise, but a random box, resized, and half of them flipped.

    Args:
        encoded: Scalar string tensor, the file.
        reading: A `fastbat_tf.data.Reading`; its short side only says which
            files are too narrow.
        draws: The `Draws` of the image.

    Returns:
        A uint8 tensor `(height, width, channels)`.

    Raises:
        tf.errors.InvalidArgumentError: If `decode` raises.
    """

    # Not `decode_and_crop_jpeg`: its last columns differ from the image's.
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
    """Likewise, of many files; names those that cannot be read.

    Args:
        encoded: String tensor `(batch,)`.
        reading: A `fastbat_tf.data.Reading`.

    Returns:
        A uint8 tensor `(batch, height, width, channels)`.

    Raises:
        tf.errors.InvalidArgumentError: If one cannot be read.
    """
    count = tf.size(encoded, tf.int64)

    def decode_one(place, file):
        return place, *_try_decode(file, reading)

    # A decoder that fails ends a graph, but not one of a data set.
    files = tf.data.Dataset.from_tensor_slices(encoded).enumerate()
    files = files.map(decode_one, DECODED_AT_A_TIME).ignore_errors()
    # Of no file nothing could be made a batch.
    last = tf.zeros(reading.shape, tf.uint8)
    last = tf.data.Dataset.from_tensors((count, last, ""))
    decoded = files.concatenate(last).batch(count + 1)
    places, images, refusals = decoded.get_single_element()
    refusals = tf.tensor_scatter_nd_update(
        tf.fill([count + 1], formats.BROKEN), places[:, tf.newaxis], refusals
    )
    refused = tf.where(tf.not_equal(refusals, ""))[:, 0]
    message = _name_some(refused, refusals)
    with formats.asserting(tf.equal(tf.size(refused), 0), message):
        return tf.ensure_shape(images[:-1], (None, *reading.shape))


def _name_some(refused, refusals):
    """The message about the files at the places `refused`."""
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
    """The image, or zeros, and why it cannot be read; empty if it can.

    Fails if the file breaks off later.
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
    """The `formats.File`, and why it cannot be read."""
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
    """As a graph: eagerly, the looking at a file takes longer than decoding."""
    file = tf.TensorSpec((), tf.string)
    return tf.function(
        lambda encoded: function(encoded, reading), [file], autograph=False
    )


def read_file(path, reading):
    """`decode` of a file, as an array; raises one of `UNREADABLE`."""
    encoded = pathlib.Path(path).read_bytes()
    # Pillow first: TensorFlow writes to stderr about what is broken. It is
    # stricter, but with GIF files, and decides.
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


def _open(encoded):
    try:
        return Image.open(io.BytesIO(encoded))
    except UnidentifiedImageError as error:  # Names an object in memory.
        raise ValueError(formats.BROKEN) from error


def _refuse(refusal):
    if refusal.numpy():
        raise ValueError(refusal.numpy().decode())


def read(paths, reading, skip_unreadable=False, keep=True):
    """Decodes images in parallel.

    Args:
        paths: Sequence of paths.
        reading: A `fastbat_tf.data.Reading`.
        skip_unreadable: Whether images that cannot be read are left out.
        keep: Whether the images are returned; if not, they are only checked.

    Returns:
        The images, uint8 `(readable, height, width, channels)` or None, and a
        bool array `(len(paths),)`: which ones could be read.

    Raises:
        InputError: If one cannot be read; names it.
    """
    images = np.empty((len(paths), *reading.shape), np.uint8) if keep else None
    readable = np.ones(len(paths), bool)

    def read_into(place):
        try:
            image = read_file(paths[place], reading)
        except UNREADABLE as error:
            if not skip_unreadable:
                reason = " ".join(str(error).split()) or type(error).__name__
                if isinstance(error, tf.errors.OpError):
                    reason = formats.BROKEN  # Not the place in a graph.
                raise InputError(
                    "An image cannot be read; expected a whole file of PNG, "
                    "JPEG, WebP, GIF, BMP or PPM. "
                    f"Received: file={paths[place]} ({reason})"
                ) from error
            readable[place] = False
            return
        if keep:
            images[place] = image

    # The decoders release the interpreter's lock.
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
            # A large image is refused; that says enough.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            for done, _ in enumerate(pool.map(read_into, range(len(paths))), 1):
                task.update(done, count=f"{done}/{len(paths)}")
    finally:
        pool.shutdown(cancel_futures=True)
    if keep and not readable.all():
        images = images[readable]
    return images, readable
