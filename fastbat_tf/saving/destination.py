"""The directory of an export: what may be replaced in it.

This module does not import TensorFlow, so a wrong directory is refused at once.
"""

import json
import os
import pathlib
import re

from fastbat_tf.errors import InputError
from fastbat_tf.saving.formats import registry

CARD = "README.md"
# What tells a card from a file of the user.
MARK = "Written by fastbat_tf; an export or an evaluation replaces this file."
COMMENT = re.compile(rf"<!-- {re.escape(MARK)} (\{{.*\}}) -->")
SAVED_MODEL = "saved_model.pb"
# A signature that every export has had, and few models of others have.
SIGNATURE = b"serve_uint8"
# What lies beside it.
PARTS = {CARD, "assets", "assets.extra", "fingerprint.pb", "variables"}


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
    if os.path.lexists(path / CARD) and read_card(path) is None:
        raise InputError(
            f"The directory holds a {CARD} that no export has written, and "
            "that a model card would replace; expected another directory, or "
            f"that this file is moved. Received: directory={path}"
        )
    is_replaced = registry.FORMATS[format].file is None
    others = _list_others(path) if is_replaced else []
    if others:
        raise InputError(
            "The directory holds other files, which a SavedModel would "
            "replace; expected a new or empty directory, or that of an "
            f"exported SavedModel alone. Received: directory={path} (it has "
            f"{', '.join(others[:3])})"
        )


def _list_others(path):
    """Names of what is no part of an exported SavedModel."""
    names = {p.name for p in path.iterdir()} if path.is_dir() else set()
    if SAVED_MODEL in names:
        content = (path / SAVED_MODEL).read_bytes()
        own = PARTS | {SAVED_MODEL} if SIGNATURE in content else set()
        names -= own
    return sorted(names)


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


def mark(**facts: str | None) -> str:
    """Returns a comment of HTML that tells a card from a file of the user.

    Args:
        **facts: Strings, which `read_card` reads again; None is left out.
    """
    known = {name: text for name, text in facts.items() if text is not None}
    # What would end the comment.
    text = json.dumps(known).replace("<", r"\u003c").replace(">", r"\u003e")
    return f"<!-- {MARK} {text} -->"


def read_card(path: str | os.PathLike[str]) -> dict[str, str] | None:
    """Returns what the comment in the card of an export says.

    Args:
        path: Path of the directory of the export.

    Returns:
        The dict that `mark` was given; None if there is no card.
    """
    try:
        text = pathlib.Path(path, CARD).read_text("utf-8", errors="replace")
        found = COMMENT.search(text)
        return json.loads(found[1]) if found else None
    except (OSError, ValueError):
        return None
