"""Writes `history.csv`, and continues that of an earlier version."""

import csv
import io

import keras

from fastbat_tf.files import replacing
from fastbat_tf.training.callbacks import columns


class History(keras.callbacks.CSVLogger):
    """Keras' `CSVLogger`, which appends a row for each epoch.

    If the file is of an earlier version of the program, its columns first get
    the names and the order that they have now.

    Args:
        path: A `pathlib.Path` of the file.
    """

    def __init__(self, path):
        super().__init__(str(path), append=True)
        self.path = path

    def on_train_begin(self, logs=None):
        if self.path.exists():
            self._rename_columns()
        super().on_train_begin(logs)

    def _rename_columns(self):
        with self.path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        if not rows:
            return
        reports = self.model.method.reports
        now = {name: columns.current(name, reports) for name in rows[0]}
        if all(old == new for old, new in now.items()):
            return
        # `CSVLogger` sorts the columns after the first, `epoch`.
        order = ["epoch", *sorted(set(now.values()) - {"epoch"})]
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, order)
        writer.writeheader()
        for row in rows:
            writer.writerow({now[name]: row[name] for name in row})
        with replacing(self.path) as file:
            file.write(text.getvalue().encode())
