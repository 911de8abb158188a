"""Gives TensorBoard's curves of an earlier version today's epochs and names.

Earlier versions counted epochs from 0.
"""

# The classes of protocol buffers are made when they are imported.
# pyright: reportAttributeAccessIssue=false

import pathlib

from tensorboard.backend.event_processing import event_file_loader
from tensorboard.compat.proto import event_pb2
from tensorboard.summary.writer.record_writer import RecordWriter

from fastbat_tf.files import replacing
from fastbat_tf.training import records
from fastbat_tf.training.callbacks.panel import TAG

EPOCH = "epoch_"
PREFIXES = {"train": "", "validation": "val_"}  # Of the logs in each run.


def update(directory: pathlib.Path, has_attack: bool = True) -> None:
    """Updates the event files that a checkpoint has put back.

    A process that is killed meanwhile leaves some of them as they were; the
    next one gets all of them from the checkpoint again.

    Args:
        directory: Path of TensorBoard's directory of a training.
        has_attack: Boolean; see `fastbat_tf.training.records.read`. Defaults
            to `True`.
    """
    for run, prefix in PREFIXES.items():
        files = {
            path: _read(path) for path in (directory / run).glob("events.*")
        }
        everything = [event for events in files.values() for event in events]
        if not any(e.step == 0 and _is_of_epoch(e) for e in everything):
            continue
        for path, events in files.items():
            if any(map(_is_of_epoch, events)):
                with replacing(path) as file:
                    writer = RecordWriter(file)
                    for event in events:
                        _update(event, prefix, has_attack)
                        writer.write(event.SerializeToString())


def _read(path):
    loader = event_file_loader.RawEventFileLoader(str(path))
    return [event_pb2.Event.FromString(record) for record in loader.Load()]


def _is_of_epoch(event):
    return any(
        value.tag.startswith(EPOCH) or value.tag == TAG
        for value in event.summary.value
    )


def _update(event, prefix, has_attack):
    if not _is_of_epoch(event):
        return
    event.step += 1
    for value in event.summary.value:
        if value.tag.startswith(EPOCH):
            name = prefix + value.tag.removeprefix(EPOCH)
            name = records.current(name, has_attack).removeprefix(prefix)
            value.tag = f"{EPOCH}{name}"
