"""Inspects and decodes image files inside a graph.

The header of a file is read first. A file that is not an image, or would take
too much memory, is rejected before it is decoded.
"""

import functools
from typing import NamedTuple

import numpy as np
import tensorflow as tf

NAMES = ("PNG", "JPEG", "GIF", "BMP", "WebP", "PPM")
# Larger images are rejected. This many pixels take 200 MB as RGB.
MAX_PIXELS = 2**26
# The memory for resizing also depends on the longer side.
MAX_SIDE = 2**15

# The first bytes of a file, in the order of `NAMES`; "?" is any byte.
_MAGIC = (
    b"\x89PNG\r\n\x1a\n",
    b"\xff\xd8\xff",
    b"GIF8?a",
    b"BM",
    b"RIFF????WEBP",
    b"P",
    b"",
)
_HEADER = 128  # Bytes that hold the format, and mostly the size.
BROKEN = "it is truncated or damaged"
_UNKNOWN = "it is not a PNG, JPEG, WebP, GIF, BMP or PPM file"
_SIZE = (
    f"it is expected to have at most {MAX_PIXELS} pixels and at most "
    f"{MAX_SIDE} on a side, but has "
)

# The decoder that other libraries use, not the fastest one; its results are
# bitwise equal on every machine.
_EXACT = {"dct_method": "INTEGER_ACCURATE"}

# A GIF file may have any number of frames. All after the first one are replaced
# with a frame of one pixel, which is decoded only if the first one is whole.
_LAST_FRAME = (
    b"\x2c" + bytes(4) + b"\1\0\1\0\x80" + bytes(6) + b"\2\2\x44\1\0" + b"\x3b"
)
_MOST_EXTENSIONS = 1000
_MOST_PARTS = 2**18  # Each of at most 255 bytes.

_SPACE = r"(?:\s|#[^\n]*\n)+"
_NUMBER = r"(\d{1,9})"
_PPM = rf"^(P([56]){_SPACE}{_NUMBER}{_SPACE}{_NUMBER}{_SPACE}{_NUMBER}\s)\C*$"


# Branches that are not taken then cost nothing, which matters when reading
# millions of images.
_apart = functools.partial(
    tf.function,
    autograph=False,
    experimental_attributes={"_noinline": True},
)


class FileInfo(NamedTuple):
    """What is known about a file before it is decoded, as scalar tensors.

    Attributes:
        kind: int32, the index in `NAMES`, or `len(NAMES)`.
        height: int64, the height of the image.
        width: int64, the width of the image.
        start: int64, the position where the pixels of a PPM file start.
        end: int64, the position where the first frame of a GIF file ends.
        refusal: String, why the file cannot be read; empty if it can.
    """

    kind: tf.Tensor
    height: tf.Tensor
    width: tf.Tensor
    start: tf.Tensor
    end: tf.Tensor
    refusal: tf.Tensor


def inspect(encoded):
    """Reads the format and the size of an image, without decoding it.

    Args:
        encoded: String scalar tensor, the content of the file.

    Returns:
        A `FileInfo`.

    Raises:
        tf.errors.InvalidArgumentError: If it is a damaged JPEG file.
    """
    header = tf.cast(
        tf.io.decode_raw(encoded, tf.uint8, fixed_length=_HEADER), tf.int64
    )
    kind = _kind(header)
    branches = [
        lambda: _answer(_big(header, 20, 4), _big(header, 16, 4)),
        lambda: _answer(*tf.unstack(tf.io.extract_jpeg_shape(encoded)[:2])),
        lambda: _inspect_gif(encoded, header),
        lambda: _inspect_bmp(header),
        lambda: _inspect_webp(header),
        lambda: _inspect_ppm(encoded),
        lambda: _answer(0, 0, refusal=_UNKNOWN),
    ]
    height, width, start, end, refusal = tf.switch_case(kind, branches)
    refusal = _first(
        (tf.equal(tf.strings.length(encoded), 0), "it is empty"),
        (refusal != "", refusal),
        ((height < 1) | (width < 1), BROKEN),
        (
            (tf.maximum(height, width) > MAX_SIDE)
            | (height * width > MAX_PIXELS),
            tf.strings.join(
                [_SIZE, tf.as_string(height), " x ", tf.as_string(width)]
            ),
        ),
    )
    return FileInfo(kind, height, width, start, end, refusal)


def decode(encoded, file):
    """Decodes an image to RGB.

    A GIF file gives its first frame. Palettes and gray levels are converted to
    RGB. 16-bit images keep their upper 8 bits. Transparency and EXIF rotation
    are ignored.

    Args:
        encoded: String scalar tensor, the content of the file.
        file: Its `FileInfo`, without a refusal.

    Returns:
        A uint8 tensor `(height, width, 3)`.

    Raises:
        tf.errors.InvalidArgumentError: If the file is damaged.
    """
    branches = [
        lambda: tf.io.decode_png(encoded, 3),
        lambda: tf.io.decode_jpeg(encoded, 3, **_EXACT),
        lambda: _decode_gif(encoded, file),
        lambda: _decode_bmp(encoded),
        lambda: tf.io.decode_webp(encoded)[0, ..., :3],
        lambda: _decode_ppm(encoded, file),
    ]
    image = tf.switch_case(file.kind, branches)
    return tf.ensure_shape(image, (None, None, 3))


def asserting(holds, message):
    """A context whose operations run only if a condition holds.

    Args:
        holds: bool scalar tensor.
        message: String or string scalar tensor, the message of the error.
    """
    check = tf.debugging.Assert(holds, [message])
    # When run eagerly, an assertion raises, or returns None.
    return tf.control_dependencies([] if check is None else [check])


def _kind(header):
    known = np.array([[*text.ljust(12, b"?")] for text in _MAGIC])
    same = (header[:12] == known) | (known == ord("?"))
    return tf.argmax(tf.reduce_all(same, axis=1), output_type=tf.int32)


def _answer(height, width, start=0, end=0, refusal=""):
    numbers = [tf.cast(n, tf.int64) for n in (height, width, start, end)]
    return (*numbers, tf.convert_to_tensor(refusal))


def _first(*cases):
    """The text of the first case that holds; empty if none does."""
    result = tf.constant("")
    for holds, text in reversed(cases):
        result = tf.where(holds, text, result)
    return result


def _little(numbers, at, count):
    """A little-endian integer of `count` bytes at a position."""
    weights = tf.constant([256**n for n in range(count)], tf.int64)
    return tf.reduce_sum(numbers[at : at + count] * weights)


def _big(numbers, at, count):
    """A big-endian integer of `count` bytes at a position."""
    weights = tf.constant([256**n for n in reversed(range(count))], tf.int64)
    return tf.reduce_sum(numbers[at : at + count] * weights)


@_apart
def _inspect_gif(encoded, header):
    """Follows the blocks to the end of the first frame."""
    size = tf.strings.length(encoded)
    # A truncated file is read beyond its end, where zeros end every block.
    numbers = tf.pad(tf.io.decode_raw(encoded, tf.uint8), [[0, 300]])
    numbers = tf.cast(numbers, tf.int32)

    def table(flags):
        """The number of bytes of a color table."""
        return tf.where(flags >= 128, 3 * 2 ** (flags % 8 + 1), 0)

    def skip(position):
        """The position after a block, whose last part is empty."""
        (position,) = tf.while_loop(
            lambda position: numbers[position] > 0,
            lambda position: (position + 1 + numbers[position],),
            (tf.minimum(position, size),),
            maximum_iterations=_MOST_PARTS,
        )
        return position + 1

    begin = 13 + table(tf.cast(header[10], tf.int32))
    (frame,) = tf.while_loop(
        lambda position: numbers[position] == 0x21,  # An extension.
        lambda position: (tf.minimum(skip(position + 2), size),),
        (tf.minimum(begin, size),),
        maximum_iterations=_MOST_EXTENSIONS,
    )
    # Kind, left, top, width, height, flags; then a table and the code size.
    start = tf.cast(numbers[frame : frame + 10], tf.int64)
    end = skip(frame + 11 + table(numbers[frame + 9]))
    whole = (start[0] == 0x2C) & (end <= size) & (numbers[end - 1] == 0)
    return _answer(
        _little(start, 7, 2),
        _little(start, 5, 2),
        end=end,
        refusal=tf.where(whole, "", BROKEN),
    )


@_apart
def _decode_gif(encoded, file):
    first = tf.strings.substr(encoded, 0, tf.cast(file.end, tf.int32))
    frames = tf.io.decode_gif(tf.strings.join([first, _LAST_FRAME]))
    with asserting(tf.equal(tf.shape(frames)[0], 2), BROKEN):
        return tf.identity(frames[0])


@_apart
def _inspect_bmp(header):
    width, height = _little(header, 18, 4), _little(header, 22, 4)
    # A negative height means that rows are stored from top to bottom.
    height = tf.where(height >= 2**31, 2**32 - height, height)
    bits, packing = _little(header, 28, 2), _little(header, 30, 4)
    masks = tf.constant([0, 0, 255, 0, 0, 255, 0, 0, 255, 0, 0, 0], tf.int64)
    # Bit fields are supported if they are the default ones of 32 bits.
    plain = (packing == 0) | (
        (packing == 3) & (bits == 32) & tf.reduce_all(header[54:66] == masks)
    )
    known = plain & ((bits == 8) | (bits == 24) | (bits == 32))
    known &= _little(header, 14, 4) >= 40
    message = "a BMP file is expected to have 8, 24 or 32 bits, uncompressed"
    return _answer(height, width, refusal=tf.where(known, "", message))


@_apart
def _decode_bmp(encoded):
    header = tf.cast(
        tf.io.decode_raw(encoded, tf.uint8, fixed_length=_HEADER), tf.int64
    )

    def look_up():
        """Looks up the color table, which TensorFlow ignores."""
        indices = tf.io.decode_bmp(encoded)[..., 0]
        colors = _little(header, 46, 4)
        colors = (colors - 1) % 256 + 1  # 0 stands for 256.
        begin = 14 + _little(header, 14, 4)
        table = tf.strings.substr(encoded, begin, 4 * colors)
        table = tf.reshape(tf.io.decode_raw(table, tf.uint8), (-1, 4))
        return tf.gather(table[:, 2::-1], tf.cast(indices, tf.int32))

    return tf.cond(
        _little(header, 28, 2) == 8,
        look_up,
        lambda: tf.io.decode_bmp(encoded)[..., :3],
    )


@_apart
def _inspect_webp(header):
    def begins(kind):
        expected = tf.constant(list(kind), tf.int64)
        return tf.reduce_all(header[12:16] == expected)

    bits = _little(header, 21, 4)
    animated = begins(b"VP8X") & (header[20] // 2 % 2 == 1)
    height = tf.where(
        begins(b"VP8X"),
        _little(header, 27, 3) + 1,
        tf.where(
            begins(b"VP8L"),
            bits // 2**14 % 2**14 + 1,
            _little(header, 28, 2) % 2**14,
        ),
    )
    width = tf.where(
        begins(b"VP8X"),
        _little(header, 24, 3) + 1,
        tf.where(
            begins(b"VP8L"), bits % 2**14 + 1, _little(header, 26, 2) % 2**14
        ),
    )
    return _answer(
        height,
        width,
        refusal=tf.where(animated, "it is an animated WebP file", ""),
    )


@_apart
def _inspect_ppm(encoded):
    beginning = tf.strings.substr(encoded, 0, 4 * _HEADER)
    known = tf.strings.regex_full_match(beginning, _PPM)

    def find():
        numbers = tf.strings.regex_replace(beginning, _PPM, r"\2 \3 \4 \5")
        numbers = tf.strings.to_number(tf.strings.split(numbers, " "), tf.int64)
        kind, width, height, largest = tf.unstack(numbers, num=4)
        start = tf.strings.length(
            tf.strings.regex_replace(beginning, _PPM, r"\1")
        )
        start = tf.cast(start, tf.int64)
        channels = tf.where(kind == 6, tf.constant(3, tf.int64), 1)
        size = tf.cast(tf.strings.length(encoded), tf.int64)
        refusal = _first(
            (largest != 255, "a PPM file is expected to have 8 bits"),
            (size - start < height * width * channels, BROKEN),
        )
        return _answer(height, width, start, refusal=refusal)

    return tf.cond(known, find, lambda: _answer(0, 0, refusal=_UNKNOWN))


@_apart
def _decode_ppm(encoded, file):
    def pixels(channels):
        size = file.height * file.width * channels
        content = tf.strings.substr(encoded, file.start, size)
        shape = tf.stack([file.height, file.width, channels])
        image = tf.reshape(tf.io.decode_raw(content, tf.uint8), shape)
        return tf.broadcast_to(
            image, tf.stack([file.height, file.width, tf.constant(3, tf.int64)])
        )

    color = tf.equal(tf.strings.substr(encoded, 0, 2), "P6")
    return tf.cond(color, lambda: pixels(3), lambda: pixels(1))
