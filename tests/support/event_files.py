"""Reads the event files of TensorBoard."""

import io
import pathlib
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from PIL import Image
from tensorboard.backend.event_processing import (
    data_provider,
    event_file_loader,
    plugin_event_multiplexer,
)
from tensorboard.context import RequestContext
from tensorboard.plugins import base_plugin
from tensorboard.plugins.hparams import (
    api_pb2,
    backend_context,
    list_session_groups,
)


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


def hparams(directory: str | pathlib.Path) -> dict[str, Any]:
    """Returns the rows of TensorBoard's page "HParams".

    Args:
        directory: Path of a directory of runs.

    Returns:
        Dict from the name of each row to a dict from names of
        hyperparameters, and of metrics, to values.
    """
    multiplexer = plugin_event_multiplexer.EventMultiplexer(
        tensor_size_guidance={"scalars": 0}
    )
    multiplexer.AddRunsFromDirectory(str(directory)).Reload()
    provider = data_provider.MultiplexerDataProvider(multiplexer, "")
    context = backend_context.Context(
        base_plugin.TBContext(data_provider=provider)
    )
    request = api_pb2.ListSessionGroupsRequest(
        slice_size=1000, allowed_statuses=api_pb2.Status.values()
    )
    handler = list_session_groups.Handler(
        RequestContext(), context, "", request
    )
    rows = {}
    for group in handler.run().session_groups:
        if len(group.sessions) != 1:
            raise AssertionError(f"{group.name}: {len(group.sessions)}")
        row = {
            name: getattr(value, value.WhichOneof("kind"))
            for name, value in group.hparams.items()
        }
        for metric in group.metric_values:
            row[metric.name.tag] = metric.value
        rows[group.name] = row
    return rows
