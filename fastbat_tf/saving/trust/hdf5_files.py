"""Checks that an HDF5 file holds its weights itself, and no bomb."""

import math
from typing import cast

import h5py

from fastbat_tf.errors import InputError
from fastbat_tf.saving.trust.bounds import refuse_expansion

# The weights of an ensemble of the deepest networks, a hundred times over.
MAX_OBJECTS = 1_000_000


def check_content(file: h5py.File, size: int, received: str) -> int:
    """Refuses a file that reads others, or that is far larger in memory.

    Args:
        file: An open `h5py.File`.
        size: Integer, the bytes of the file.
        received: String, `name=value`, which setting names the file.

    Returns:
        Integer, the bytes of its arrays in memory.

    Raises:
        InputError: If it has links to other places, datasets whose content is
            elsewhere or is not numbers, or if these declare far more bytes
            than the file holds.
    """
    pending, seen, declared = [cast(h5py.Group, file)], set(), 0
    while pending:
        group = pending.pop()
        for name in group:
            link = group.get(name, getlink=True)
            if not isinstance(link, h5py.HardLink):
                _refuse(group, name, "is a link to another place", received)
            item = group[name]
            info = h5py.h5o.get_info(item.id)  # pyright: ignore
            if info.addr in seen:
                continue
            seen.add(info.addr)
            if isinstance(item, h5py.Group):
                pending.append(item)
            elif isinstance(item, h5py.Dataset):
                fault = _find_fault(item)
                if fault:
                    _refuse(group, name, fault, received)
                declared += _bytes(item)
            if len(seen) > MAX_OBJECTS:
                raise InputError(
                    f"A file of weights is expected to have at most "
                    f"{MAX_OBJECTS} objects. Received: {received}"
                )
    refuse_expansion(declared, size, received)
    return declared


def _find_fault(dataset):
    if dataset.external or dataset.is_virtual:
        return "has its content in other files"
    if dataset.dtype.kind == "O":
        return "does not hold numbers"
    return None


def _bytes(dataset):
    """What a read allocates: a chunk may be larger than the dataset."""
    chunk = math.prod(dataset.chunks or ()) * dataset.dtype.itemsize
    return max(dataset.nbytes, chunk)


def _refuse(group, name, fault, received):
    path = f"{group.name}/{name}".replace("//", "/")
    raise InputError(
        "A file of weights is expected to hold all of them itself, as arrays "
        f"of numbers; {path} {fault}. Received: {received}"
    )
