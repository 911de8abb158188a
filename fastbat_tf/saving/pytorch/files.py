"""Reads the tensors of PyTorch's files, and runs no code of theirs.

A `.safetensors` file holds nothing but tensors. A `.pt` or `.pth` file is a
pickle, which can run any program when it is read: PyTorch itself reads it, with
`weights_only=True`, or nobody does.

This module imports neither TensorFlow nor, before it is needed, PyTorch.
"""

import importlib.util
import pathlib
import re
import warnings
import zipfile
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import ml_dtypes  # noqa: F401  NumPy then knows bfloat16.
import numpy as np
import safetensors

from fastbat_tf.errors import InputError

SAFETENSORS = ".safetensors"
PICKLES = (".pt", ".pth")
SUFFIXES = (SAFETENSORS, *PICKLES)
# Under which a checkpoint keeps its state_dict.
_KEYS = ("state_dict", "model_state_dict", "model", "net", "ema")
_CONVERT = "docs/zoo.md tells how to convert it to .safetensors"


class Tensors(NamedTuple):
    """The tensors of a file.

    Attributes:
        shapes: Dict from their names to their shapes.
        read: Function from a name to the float32 array, which raises
            `InputError` if the tensor is not of floats.
    """

    shapes: dict[str, tuple[int, ...]]
    read: Callable[[str], np.ndarray]


def is_torch_file(path: str | pathlib.Path) -> bool:
    """Whether a path has an extension of PyTorch's world."""
    return pathlib.Path(path).suffix in SUFFIXES


def open_tensors(
    path: str | pathlib.Path, received: str | None = None
) -> Tensors:
    """Reads the names and the shapes of the tensors of a file.

    What a header says is bounded by the file: safetensors refuses a header of
    more than 100 MB, and offsets that do not cover the file exactly; a `.pt`
    file with compressed members is refused.

    Args:
        path: Path of a `.safetensors`, `.pt` or `.pth` file. PyTorch must be
            installed for the last two.
        received: String, `name=value` for errors. Defaults to `None`, which
            names `path`.

    Returns:
        The `Tensors`.

    Raises:
        InputError: If there is no such file, or it cannot be read, or holds
            anything but tensors.

    Example:

    >>> open_tensors("robust.safetensors").shapes["init_conv.weight"]
    (16, 3, 3, 3)
    """
    path = pathlib.Path(path)
    received = received or f"path={path}"
    if not (path.is_file() and is_torch_file(path)):
        raise InputError(
            f"Expected a {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]} file. "
            f"Received: {received}"
        )
    if path.suffix == SAFETENSORS:
        return _open_safetensors(path, received)
    return _open_pickle(path, received)


def _open_safetensors(path, received):
    try:
        file = safetensors.safe_open(path, framework="np")
        shapes = {
            name: tuple(file.get_slice(name).get_shape())
            for name in file.keys()  # noqa: SIM118  It is no dict.
        }
    except (OSError, safetensors.SafetensorError) as error:
        raise InputError(
            "The file cannot be read; expected one of safetensors. "
            f"Received: {received} ({error})"
        ) from error

    def read(name):
        try:
            array = file.get_tensor(name)
        except (
            AttributeError,  # NumPy has no such type.
            OSError,
            TypeError,
            safetensors.SafetensorError,
        ) as error:
            kind = file.get_slice(name).get_dtype()
            raise _not_floats(name, kind, received) from error
        is_float = array.dtype.kind == "f" or array.dtype.name == "bfloat16"
        if not is_float:
            raise _not_floats(name, array.dtype, received)
        return array.astype(np.float32)

    return Tensors(shapes, read)


def _not_floats(name, kind, received):
    return InputError(
        f"The tensor {name} is expected to hold floats, not {kind}. "
        f"Received: {received}"
    )


def expect_reader(
    path: str | pathlib.Path, received: str | None = None
) -> None:
    """Refuses a pickle where PyTorch is not installed.

    Raises:
        InputError: If it is not.
    """
    is_pickle = pathlib.Path(path).suffix in PICKLES
    if is_pickle and importlib.util.find_spec("torch") is None:
        raise InputError(
            "Only PyTorch reads .pt files safely; expected it to be installed "
            "(pip install 'fastbat_tf[torch]'), or a .safetensors file "
            f"({_CONVERT}). Received: {received or f'path={path}'}"
        )


def _open_pickle(path, received):
    expect_reader(path, received)
    _expect_uncompressed(path, received)
    import torch  # pyright: ignore[reportMissingImports]

    try:
        with warnings.catch_warnings(action="ignore"):
            found = torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:  # It has many kinds for damaged files.
        raise InputError(
            "The file cannot be read as one of tensors alone, and nothing "
            f"else in it is run; {_CONVERT}. "
            f"Received: {received} ({_reason(error)})"
        ) from error
    state = _find_state(found, torch.Tensor, received)

    def read(name):
        tensor = state[name].detach()
        if not tensor.is_floating_point():
            raise _not_floats(name, tensor.dtype, received)
        try:
            return tensor.to(torch.float32).contiguous().numpy()
        except (RuntimeError, TypeError) as error:  # Sparse or without values.
            kind = f"{tensor.layout} on {tensor.device}"
            raise _not_floats(name, kind, received) from error

    return Tensors({k: tuple(v.shape) for k, v in state.items()}, read)


def _expect_uncompressed(path, received):
    """Refuses archives that are larger in memory than on the disk."""
    if not zipfile.is_zipfile(path):
        return  # PyTorch before 1.6 wrote no archive.
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise InputError(
            "The file cannot be read; expected one of torch.save. "
            f"Received: {received} ({error})"
        ) from error
    size = path.stat().st_size
    if any(member.compress_type for member in members) or (
        sum(member.file_size for member in members) > size
    ):
        raise InputError(
            "The file is a compressed archive; expected one of torch.save. "
            f"Received: {received}"
        )


def _reason(error):
    """The first thing that PyTorch says, in one short line."""
    text = " ".join(str(error).split())
    refused = re.search(r"GLOBAL ([\w.]+)", text)
    if refused:
        return f"it holds {refused[1]}"
    # Without PyTorch's advice to run what the file holds.
    told = re.search(r"WeightsUnpickler error: (.*?)( Check the|$)", text)
    return f"{type(error).__name__}: {(told[1] if told else text)[:200]}"


def _find_state(found: Any, kind: type, received: str) -> Mapping[str, Any]:
    """Finds the state_dict in what a file holds."""
    for _ in _KEYS:  # No deeper, since a dict may hold itself.
        if not isinstance(found, Mapping):
            break
        others = [
            k
            for k, v in found.items()
            if not (isinstance(k, str) and isinstance(v, kind))
        ]
        if found and not others:
            return found
        inner = [k for k in _KEYS if isinstance(found.get(k), Mapping)]
        if len(inner) != 1:
            keys = ", ".join(map(str, [*inner, *others][:8]))
            raise InputError(
                "Expected a state_dict, a dict of tensors alone, on its own or "
                f"under one of {', '.join(_KEYS)}. Received: {received} (with "
                f"{keys or 'nothing'})"
            )
        found = found[inner[0]]
    raise InputError(
        "Expected a state_dict, a dict of tensors. "
        f"Received: {received} (a {type(found).__name__})"
    )
