"""The mean and the deviation of the pixels in PyTorch's files."""

import pathlib

import numpy as np

from fastbat_tf.errors import InputError
from fastbat_tf.saving.pytorch import files, names


def read(
    contents: names.Contents,
    tensors: files.Tensors,
    received: str,
) -> tuple[np.ndarray, np.ndarray] | None:
    """Reads the constants of a normalization.

    Args:
        contents: What the tensors of the file are.
        tensors: The tensors.
        received: String, `name=value` for errors.

    Returns:
        float64 arrays of the mean and the standard deviation, `(channels,)`;
        None if the file has none.

    Raises:
        InputError: If they are no numbers by which pixels are normalized.
    """
    if not contents.constants:
        return None
    tensor_names = contents.constants["mean"], contents.constants["std"]
    for name in tensor_names:
        if np.prod(tensors.shapes[name]) > 4096:  # Of an image, not a channel.
            raise InputError(
                "The mean and the deviation of pixels are expected to be one "
                f"number per channel, but {name} has the shape "
                f"{tensors.shapes[name]}. Received: {received}"
            )
    mean, std = (
        np.reshape(tensors.read(name), -1).astype(np.float64)
        for name in tensor_names
    )
    is_valid = np.isfinite(mean).all() and np.isfinite(std).all()
    if mean.shape != std.shape or not is_valid or not (std > 0).all():
        raise InputError(
            f"Expected a mean per channel and as many positive deviations in "
            f"{tensor_names[0]} and {tensor_names[1]}, not {mean} and {std}. "
            f"Received: {received}"
        )
    return mean, std


def read_file(
    path: str | pathlib.Path, received: str
) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Reads the constants of the normalization of a file.

    Returns:
        Tuples of floats; None if the file has none.

    Raises:
        InputError: If the file cannot be read, or they are invalid.
    """
    tensors = files.open_tensors(path, received)
    contents = names.sort(tensors.shapes, received)
    found = read(contents, tensors, received)
    if found is None:
        return None
    mean, std = found
    return tuple(mean.tolist()), tuple(std.tolist())
