"""The examples that callbacks measure a classifier on."""

import numpy as np

from fastbat_tf.data.sources import Examples


def in_unit_range(model, examples):
    """Maps images in the range of a model's pixels to [0, 1].

    Args:
        model: The `RobustClassifier`, or any other model, which takes [0, 1].
        examples: Pair of images `(examples, height, width, channels)` and
            labels.

    Returns:
        `Examples` as attacks take them. uint8 images stay as they are: attacks
        divide them by 255.
    """
    images, labels = examples
    pixel_range = getattr(model, "_pixel_range", None)
    images = np.asarray(images)
    if pixel_range is not None and images.dtype != np.uint8:
        images = pixel_range.to_unit(images)
    return Examples(images, labels)
