"""Random changes of training images, stateless and keyed by `Draws`."""

import math

import tensorflow as tf

ATTEMPTS = 10  # To draw a box that fits in the image.
AREA = (0.08, 1.0)
RATIO = (3 / 4, 4 / 3)


def to_pixels(images):
    """Converts uint8 images to float32 in [0, 1]."""
    return tf.cast(images, tf.float32) / 255.0


def augment(images, draws, augmentation):
    """Crops, flips and rotates a batch.

    Args:
        images: Tensor `(batch, height, width, channels)` of static shape.
        draws: The `Draws` of the batch.
        augmentation: A `fastbat_tf.data.Augmentation`, or None. With
            `resized_crop`, nothing is done here: those images are cropped when
            they are decoded.

    Returns:
        A tensor like `images`.
    """
    if augmentation is None or augmentation.resized_crop:
        return images
    images = random_crop_and_flip(images, draws, augmentation.padding)
    if augmentation.degrees:
        images = random_rotation(images, draws, augmentation.degrees)
    return images


def random_crop_and_flip(images, draws, padding):
    """Pads with zeros, crops to the original size, and flips half of them.

    Args:
        images: Tensor `(batch, height, width, channels)` of any dtype.
        draws: The `Draws` of the batch.
        padding: Integer, the pixels added on each side.

    Returns:
        A tensor like `images`.
    """
    batch, height, width, _ = images.shape
    top, left = (
        draws.uniform(name, (batch, 1), 0, 2 * padding + 1, tf.int32)
        for name in ("top", "left")
    )
    flip = draws.uniform("flip", (batch, 1), 0, 2, tf.int32) == 1
    sides = [[0, 0], [padding, padding], [padding, padding], [0, 0]]
    padded = tf.pad(images, sides)
    columns = tf.range(width)[tf.newaxis]
    columns = left + tf.where(flip, width - 1 - columns, columns)
    rows = top + tf.range(height)[tf.newaxis]
    cropped = tf.gather(padded, rows, axis=1, batch_dims=1)
    return tf.gather(cropped, columns, axis=2, batch_dims=1)


def random_rotation(images, draws, degrees):
    """Rotates each image about its center by a random angle.

    Like torchvision's `RandomRotation` by default, it takes the nearest pixel,
    and 0 outside of the image.

    Args:
        images: Tensor `(batch, height, width, channels)` of any dtype.
        draws: The `Draws` of the batch.
        degrees: Number; angles are uniform in [-degrees, degrees).

    Returns:
        A tensor like `images`.
    """
    batch, height, width, channels = images.shape
    # In float32, cosines and so pixels would differ between devices.
    angle = draws.uniform("angle", (batch, 1), -degrees, degrees, tf.float64)
    cosine, sine = (f(angle * (math.pi / 180)) for f in (tf.cos, tf.sin))
    rows, columns = (
        tf.reshape(tf.cast(grid, tf.float64), (1, -1))
        for grid in tf.meshgrid(
            tf.range(height), tf.range(width), indexing="ij"
        )
    )
    y, x = rows - (height - 1) / 2, columns - (width - 1) / 2
    # The source of each pixel: counterclockwise, with rows from top to bottom.
    source_x = cosine * x - sine * y + (width - 1) / 2
    source_y = sine * x + cosine * y + (height - 1) / 2
    source_row, source_column = (
        tf.cast(tf.floor(source + 0.5), tf.int32)
        for source in (source_y, source_x)
    )
    inside = (
        (source_row >= 0)
        & (source_row < height)
        & (source_column >= 0)
        & (source_column < width)
    )
    source = tf.where(inside, source_row * width + source_column, 0)
    flat = tf.reshape(images, (batch, height * width, channels))
    rotated = tf.gather(flat, source, axis=1, batch_dims=1)
    rotated = tf.where(inside[..., tf.newaxis], rotated, tf.zeros_like(rotated))
    return tf.reshape(rotated, (batch, height, width, channels))


def resized_crop_box(height, width, draws):
    """Draws a box of random area and aspect ratio inside an image.

    Like torchvision's `RandomResizedCrop`, it draws ten boxes, with an area
    uniform in 8 % to 100 % of the image and the logarithm of the aspect ratio
    uniform between 3:4 and 4:3. The first box that fits gets a uniform random
    position. If none fits, the result is the largest centered box with an
    aspect ratio in that range.

    Args:
        height: int32 scalar tensor, the height of the image.
        width: int32 scalar tensor, the width of the image.
        draws: The `Draws` of the image.

    Returns:
        An int32 tensor `(4,)`: top, left, height and width.
    """
    sides = [tf.cast(side, tf.float64) for side in (height, width)]
    logarithms = [math.log(ratio) for ratio in RATIO]
    area = draws.uniform("area", (ATTEMPTS,), *AREA, tf.float64)
    area *= sides[0] * sides[1]
    ratio = tf.exp(draws.uniform("ratio", (ATTEMPTS,), *logarithms, tf.float64))
    heights, widths = (
        _round(tf.sqrt(square)) for square in (area / ratio, area * ratio)
    )
    fits = (0 < heights) & (heights <= height)
    fits &= (0 < widths) & (widths <= width)
    first, found = tf.argmax(tf.cast(fits, tf.int32)), tf.reduce_any(fits)
    largest = (
        tf.minimum(height, _round(sides[1] / RATIO[0])),
        tf.minimum(width, _round(sides[0] * RATIO[1])),
    )
    box_height = tf.where(found, heights[first], largest[0])
    box_width = tf.where(found, widths[first], largest[1])
    free = height - box_height, width - box_width
    top, left = (
        tf.where(
            found, draws.uniform(name, (), 0, room + 1, tf.int32), room // 2
        )
        for name, room in zip(("top", "left"), free, strict=True)
    )
    return tf.stack([top, left, box_height, box_width])


def _round(values):
    return tf.cast(tf.round(values), tf.int32)


def random_resized_crop(image, size, draws, antialias=True):
    """Resizes a random box of an image, and flips it with probability 1/2.

    Args:
        image: uint8 tensor `(height, width, channels)`.
        size: `(height, width)` of the result.
        draws: The `Draws` of the image.
        antialias: Whether downscaling averages over pixels. Defaults to True.

    Returns:
        A uint8 tensor `(*size, channels)`.
    """
    box = resized_crop_box(tf.shape(image)[0], tf.shape(image)[1], draws)
    top, left, height, width = tf.unstack(box)
    crop = image[top : top + height, left : left + width]
    crop = resize(crop, size, antialias)
    flip = draws.uniform("flip", (), 0, 2, tf.int32) == 1
    return tf.where(flip, crop[:, ::-1], crop)


def center_crop(image, size, short_side, antialias=True):
    """Resizes the short side of an image, and crops the center.

    Args:
        image: uint8 tensor `(height, width, channels)`.
        size: `(height, width)` of the result, at most `short_side`.
        short_side: Integer, the new size of the short side.
        antialias: Whether downscaling averages over pixels. Defaults to True.

    Returns:
        A uint8 tensor `(*size, channels)`.
    """
    shape = tf.shape(image)[:2]
    sides = short_side * shape // tf.reduce_min(shape)
    image = resize(image, sides, antialias)
    top, left = tf.unstack(_round(tf.cast(sides - size, tf.float64) / 2))
    return image[top : top + size[0], left : left + size[1]]


def resize(image, size, antialias=True):
    """Resizes an image bilinearly, whatever its aspect ratio.

    Args:
        image: uint8 tensor `(height, width, channels)`.
        size: `(height, width)` of the result.
        antialias: Whether downscaling averages over pixels. Defaults to True.

    Returns:
        A uint8 tensor `(*size, channels)`.
    """
    image = tf.image.resize(image, size, antialias=antialias)
    return tf.cast(tf.round(image), tf.uint8)
