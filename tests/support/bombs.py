"""Small files of huge images."""

import numpy as np
from PIL import Image

from tests.support.image_data import encode, png


def bombs():
    """Small files of huge images, by name."""
    image = Image.fromarray(np.zeros((9, 7, 3), np.uint8))

    def changed(kind, position, numbers):
        content = bytearray(encode(image, kind))
        content[position : position + len(numbers)] = numbers
        return bytes(content)

    side = 20_000
    high, low = divmod(side, 256)
    jpeg = encode(image, "JPEG")
    gif = encode(Image.new("L", (1000, 1000)), "GIF")
    frame = gif.index(b"\x2c\0\0\0\0")
    return {
        "png": png(side, side, 1, side * [bytes(side // 8 + 1)]),
        "jpeg": changed(
            "JPEG", jpeg.index(b"\xff\xc0") + 5, [high, low, high, low]
        ),
        "gif": changed(
            "GIF",
            encode(image, "GIF").index(b"\x2c\0\0\0\0") + 5,
            [low, high, low, high],
        ),
        "bmp": changed("BMP", 18, [low, high, 0, 0, low, high, 0, 0]),
        "webp": b"RIFF\xff\0\0\0WEBPVP8L\xf0\0\0\0\x2f\xff\xff\xff\x0f"
        + bytes(99),
        # Few pixels, which take much memory when they are resized.
        "long": png(40_000, 2, 1, 2 * [bytes(5001)]),
        # 500 MB, if all frames are decoded.
        "frames": gif[:-1] + 500 * gif[frame:-1] + gif[-1:],
    }
