"""Reads the event files of TensorBoard."""

import io
import pathlib
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from PIL import Image
from tensorboard.backend.event_processing import event_file_loader


class Series(NamedTuple):
    """What one tag of a run holds, over all files of the run, in order.

    Attributes:
        plugin: The name of the plugin that shows it.
        content: Bytes, what the plugin itself keeps beside it.
        steps: List of integers.
        values: List of arrays: scalars, or what the plugin makes of tensors.
    """

    plugin: str
    content: bytes
    steps: list
    values: list


def read(directory: str | pathlib.Path) -> dict[str, Series]:
    """Returns the series of a run by their tags."""
    found = {}
    for path in sorted(pathlib.Path(directory).glob("events.*")):
        for event in event_file_loader.EventFileLoader(str(path)).Load():
            for value in event.summary.value:
                plugin = value.metadata.plugin_data
                series = found.setdefault(
                    value.tag,
                    Series(plugin.plugin_name, plugin.content, [], []),
                )
                series.steps.append(event.step)
                series.values.append(tf.make_ndarray(value.tensor))
    return found


def scalars(directory: str | pathlib.Path) -> dict[str, dict[int, float]]:
    """Returns the points of each scalar; a step that is there twice fails."""
    found = {}
    for tag, series in read(directory).items():
        if series.plugin == "scalars":
            if len(set(series.steps)) < len(series.steps):
                raise AssertionError(f"{tag}: {series.steps}")
            values = map(float, series.values)
            found[tag] = dict(zip(series.steps, values, strict=True))
    return found


def picture(value: Any) -> np.ndarray:
    """Returns the uint8 array of an image: width, height, and the PNG."""
    return np.asarray(Image.open(io.BytesIO(value[2])))
