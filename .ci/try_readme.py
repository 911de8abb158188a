"""Runs the blocks of Python in a page, with a small model and data.

python -I .ci/try_readme.py README.md
"""

import pathlib
import re
import sys

import keras
import numpy as np


def main():
    """Runs the blocks in one namespace, as a reader who pastes them."""
    (page,) = sys.argv[1:]
    blocks = re.findall(
        r"(?ms)^```python\n(.*?)^```$", pathlib.Path(page).read_text()
    )
    random = np.random.default_rng(0)
    images = random.random((8, 8, 8, 3), np.float32)
    labels = random.integers(0, 10, 8)
    namespace = {
        "model": keras.Sequential(
            [
                keras.Input((8, 8, 3)),
                keras.layers.Conv2D(2, 3, activation="relu"),
                keras.layers.GlobalAveragePooling2D(),
                keras.layers.Dense(10),
            ]
        ),
        "images": images,
        "labels": labels,
        "test_images": images,
        "test_labels": labels,
    }
    for block in blocks:
        exec(compile(block, page, "exec"), namespace)
    print("Clean accuracy:", namespace["results"]["clean_accuracy"])


main()
