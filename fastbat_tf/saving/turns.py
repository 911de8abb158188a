"""Processes that export to the same directory take turns."""

import contextlib
import pathlib
from collections.abc import Iterator

from fastbat_tf import files
from fastbat_tf.errors import InputError

SECONDS_TO_WAIT = 600.0  # An export takes seconds.
LOCK = ".export.lock"


@contextlib.contextmanager
def taking_turns(directory: pathlib.Path) -> Iterator[None]:
    """Waits until no other process exports to a directory.

    The directory is created; if nothing is written to it, it is removed again.

    Args:
        directory: `pathlib.Path` of the directory.

    Raises:
        InputError: If another process does not finish.
        OSError: If the directory cannot be created, or not be locked.
    """
    is_new = not directory.exists()
    files.make_directory(directory)
    try:
        with files.locked(directory / LOCK, SECONDS_TO_WAIT):
            yield
    except TimeoutError as error:
        raise InputError(
            "Another process is exporting to this directory; wait for it, or "
            f"choose another one. Received: directory={directory}"
        ) from error
    finally:
        if is_new:
            with contextlib.suppress(OSError):
                directory.rmdir()  # Only an empty one.
