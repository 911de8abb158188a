"""Writes `history.csv`."""

import pathlib
from typing import Any

import keras

from fastbat_tf.training import records


class History(keras.callbacks.Callback):
    """Appends the logs of each epoch to a file.

    Its columns are `epoch`, counted from 1, and the logs, sorted by name.
    After an interruption the file continues. A file of an earlier version gets
    the columns of today with the first new row. List this callback after all
    that add to the logs.

    Args:
        path: A `pathlib.Path` of the file, such as `history.csv`.
        has_attack: Boolean, whether the method perturbs the images. Defaults to
            `True`.
    """

    def __init__(self, path: pathlib.Path, has_attack: bool = True) -> None:
        super().__init__()
        self.path = path
        self.has_attack = has_attack

    def on_train_begin(self, logs=None):
        self.path.touch()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None):
        row = {"epoch": epoch + 1, **dict(sorted((logs or {}).items()))}
        records.append(self.path, row, self.has_attack)
