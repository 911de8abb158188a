"""The directory of an export: what may be replaced in it.

This module does not import TensorFlow, so a wrong directory is refused at once.
"""

import os
import pathlib

from fastbat_tf.errors import InputError
from fastbat_tf.saving.formats import registry

CARD = "README.md"
# What tells a card from a file of the user.
MARK = "<!-- Written by fastbat_tf: the next export or evaluation replaces it."
SAVED_MODEL = "saved_model.pb"


def check(path: str | os.PathLike[str], format: str) -> None:
    """Rejects a directory in which an export would destroy files of others.

    An earlier export is replaced: its model and its card.

    Args:
        path: Path of the directory, which need not exist.
        format: A key of `fastbat_tf.saving.formats.registry.FORMATS`.

    Raises:
        InputError: If the directory is rejected.
    """
    path = pathlib.Path(path)
    check_writable(path)
    card = path / CARD
    if card.exists() and not is_card(card):
        raise InputError(
            f"The directory holds a {CARD} that no export has written, and "
            "that a model card would replace; expected another directory, or "
            f"that this file is moved. Received: directory={path}"
        )
    is_replaced = registry.FORMATS[format].file is None
    if is_replaced and path.is_dir() and not (path / SAVED_MODEL).exists():
        others = sorted(p.name for p in path.iterdir())
        if others:
            raise InputError(
                "The directory holds other files, which a SavedModel would "
                "replace; expected a new or empty directory, or that of an "
                f"earlier SavedModel. Received: directory={path} (it has "
                f"{', '.join(others[:3])})"
            )


def check_writable(path: str | os.PathLike[str]) -> None:
    """Rejects a path that is not, or cannot become, a writable directory.

    Args:
        path: Path of the directory, which need not exist.

    Raises:
        InputError: If it is rejected.
    """
    path = pathlib.Path(path)
    parents = (path, *path.absolute().parents)
    existing = next((p for p in parents if os.path.lexists(p)), path)
    if not (existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)):
        reason = "it is no directory"
        if existing != path:
            reason = f"{existing} is no directory"
        if existing.is_dir():
            reason = f"{existing} is not writable"
        raise InputError(
            "A directory that can be written is expected. "
            f"Received: directory={path} ({reason})"
        )


def is_card(path: pathlib.Path) -> bool:
    """Whether a file is a card that this program wrote, and may replace.

    Args:
        path: Path of the file.
    """
    return MARK in _read(path)


def is_card_of(path: pathlib.Path, sha256: str) -> bool:
    """Whether a file is a card of a model with these weights.

    Args:
        path: Path of the file.
        sha256: String, the checksum of the file of the weights.
    """
    text = _read(path)
    return MARK in text and sha256 in text


def _read(path):
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
