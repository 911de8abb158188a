"""Checks the members of a `.keras` archive."""

import pathlib
import stat
import zipfile

from fastbat_tf.errors import InputError
from fastbat_tf.saving.trust.bounds import refuse_expansion

CONFIG = "config.json"
WEIGHTS = "model.weights.h5"
MEMBERS = (CONFIG, "metadata.json", WEIGHTS)  # What Keras writes ...
ASSETS = "assets/"  # ... with a folder for the tables of layers of text.

# Keras reads it whole. The config of WideResNet-70-16 has half a megabyte.
MAX_CONFIG_BYTES = 64 * 2**20

# The names alone of more would fill the memory; Keras writes three.
MAX_MEMBERS = 10_000


def check_members(archive: zipfile.ZipFile, size: int, received: str) -> None:
    """Refuses an archive that Keras has not written.

    Args:
        archive: An open `zipfile.ZipFile`.
        size: Integer, the bytes of the file.
        received: String, `name=value`, which setting names the file.

    Raises:
        InputError: If a member leads out of the archive, is a link, is there
            twice, is encrypted, or has an unexpected name; if one is missing;
            or if the content is far larger than the file.
    """
    members = archive.infolist()
    if len(members) > MAX_MEMBERS:
        raise InputError(
            f"A .keras file is expected to have at most {MAX_MEMBERS} members. "
            f"Received: {received}, members={len(members)}"
        )
    seen = set()
    for member in members:
        fault = _find_fault(member, seen)
        if fault:
            raise InputError(
                "The file cannot be read: a .keras file is expected to have "
                f"the members {', '.join(MEMBERS)} and {ASSETS} alone, but one "
                f"{fault}. "
                f"Received: {received}, member={member.filename!r}"
            )
        seen.add(member.filename)
    missing = [name for name in (CONFIG, WEIGHTS) if name not in seen]
    if missing:
        raise InputError(
            "The model cannot be read: a .keras file is expected to have the "
            f"members {CONFIG} and {WEIGHTS}. "
            f"Received: {received}, members={sorted(seen)[:6]}"
        )
    refuse_expansion(sum(m.file_size for m in members), size, received)
    config = archive.getinfo(CONFIG).file_size
    if config > MAX_CONFIG_BYTES:
        raise InputError(
            f"The {CONFIG} of a .keras file is expected to have at most "
            f"{MAX_CONFIG_BYTES} bytes. Received: {received}, bytes={config}"
        )


def _find_fault(member, seen):
    name = member.filename
    path = pathlib.PurePosixPath(name)
    if name in seen:
        return "is there twice"
    if stat.S_ISLNK(member.external_attr >> 16):
        return "is a link"
    if member.flag_bits & 1:
        return "is encrypted"
    if path.is_absolute() or ".." in path.parts or "\\" in name or ":" in name:
        return "leads out of the archive"
    if name not in MEMBERS and not name.startswith(ASSETS):
        return "is not expected"
    return None
