"""How the workers of a run begin together, and end together."""

import contextlib
import hashlib
import platform
import re
from collections.abc import Iterator
from importlib import metadata
from typing import Any

import numpy as np
import tensorflow as tf

from fastbat_tf import distribution
from fastbat_tf.data import sources
from fastbat_tf.data.extra import WithExtra
from fastbat_tf.errors import InputError, WorkerLostError
from fastbat_tf.experiment.config import Config
from fastbat_tf.runtime.options import parse_timeout
from fastbat_tf.workers import Workers

VERSIONED = ("fastbat_tf", "tensorflow", "keras", "numpy")


def start(config: Config) -> tf.distribute.Strategy:
    """Makes the strategy of a run, before TensorFlow runs an operation.

    Args:
        config: The `Config` of the run.

    Returns:
        A `tf.distribute.Strategy`, the same one in each call.

    Raises:
        InputError: If there is no such strategy here.
        WorkerLostError: If not all workers come up.
    """
    if config.runtime.deterministic:
        distribution.make_deterministic()
    timeout = parse_timeout(config.runtime.collective_timeout)
    return distribution.get_strategy(config.runtime.strategy, timeout)


def agree_on_program(everyone: Workers, config: Config) -> None:
    """Refuses workers with other versions or another configuration.

    Raises:
        InputError: On all workers, with what differs.
    """
    if everyone.count == 1:
        return
    versions = {name: _version(name) for name in VERSIONED}
    versions["python"] = platform.python_version()
    everyone.agree("version", versions)
    settings = config.to_dict()
    # Each host has its own paths.
    settings["data"].pop("data_dir", None)
    settings["data"].pop("extra_data", None)  # The fingerprints are equal.
    settings["model"].pop("init_weights", None)
    everyone.agree("configuration", settings)


def _version(name):
    try:
        return metadata.version(name.replace("_", "-"))
    except metadata.PackageNotFoundError:  # A clone, not installed.
        return None


def agree_on_data(everyone: Workers, splits: Any) -> None:
    """Refuses workers that have read other images or labels.

    Args:
        everyone: The `Workers`.
        splits: NamedTuple of the splits of a data set.

    Raises:
        InputError: On all workers, with the split that differs.
    """
    if everyone.count == 1:
        return
    prints = {
        f"fingerprint of the {name} split": fingerprint(split)
        for name, split in splits._asdict().items()
    }
    everyone.agree("data set", prints)


def fingerprint(split: Any) -> str:
    """Returns a checksum of the images and labels of a split.

    Of a data set that is too large for memory, it is a checksum of the labels
    and of the first and last images.

    Args:
        split: `Examples`, `Files` or `TFRecords`; or a `WithExtra`, whose extra
            images the configuration has a checksum of.
    """
    if isinstance(split, WithExtra):
        split = split.split
    digest = hashlib.sha256(str(split.size).encode())
    if isinstance(split, sources.Examples):
        images = split.images
    else:
        ends = {0, split.size - 1} if split.size else set()
        images = split.read(sorted(ends)).images
    for array in (images, split.labels):
        array = np.ascontiguousarray(array)
        digest.update(f"{array.dtype}{array.shape}".encode())
        digest.update(array)
    return digest.hexdigest()[:16]


@contextlib.contextmanager
def refuse_lost(everyone: Workers) -> Iterator[None]:
    """Turns TensorFlow's error about another worker into one line.

    A worker that has done all leaves together with the others.

    Raises:
        WorkerLostError: If a worker has ended, or does not answer.
    """
    try:
        yield
        everyone.part()
    except InputError:
        raise
    except Exception as error:
        reason = _reason(error) if everyone.count > 1 else None
        if reason is None:
            raise
        raise WorkerLostError(
            "Another worker has ended, or has not answered within "
            f"`collective_timeout`; expected all {everyone.count} until the "
            "end. The same command on all hosts resumes from the last "
            f"checkpoint. Received: {reason}"
        ) from error


def _reason(error):
    """What TensorFlow says about a lost worker; None of another error."""
    if not isinstance(error, distribution.LOST):
        return None
    text = str(error)
    if not re.search(r"(?i)collective|worker|coordinat|unhealthy", text):
        return None
    tasks = re.findall(r"/job:(\w+)/(?:replica:\d+/)?task:(\d+)", text)
    said = re.search(r"(?i)aborted by: (.*)", text)
    line = said[1] if said else text.splitlines()[0]
    where = f"{tasks[-1][0]} {tasks[-1][1]}: " if tasks else ""
    return f"{where}{line[:200]}"
