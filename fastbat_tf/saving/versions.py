"""Versions of a model: numbered directories, as TensorFlow Serving polls them.

A directory of versions is what TensorFlow Serving calls a model's base path:

```
served/cifar10/1/saved_model.pb
served/cifar10/2/saved_model.pb
```

The server looks into it again and again, and loads the highest number. So a
version appears in it at once and complete, under a number that is new.
"""

import os
import pathlib
import re
import shutil
from collections.abc import Callable

from fastbat_tf import files
from fastbat_tf.errors import InputError
from fastbat_tf.saving.turns import taking_turns

PARTIAL = ".partial_version"  # No number, so that no server loads it.
# As large as TensorFlow Serving can read.
LARGEST = 2**63 - 1


def next_version(base: str | os.PathLike[str]) -> int:
    """Returns the number of the next version in a directory.

    Args:
        base: Path of the directory of versions; it need not exist.

    Returns:
        An integer: the highest number among its entries plus one, or 1.

    Raises:
        InputError: If there is no higher number.

    Example:

    >>> for version in ("1", "3"):
    ...     pathlib.Path("served/digits", version).mkdir(parents=True)
    >>> next_version("served/digits")
    4
    """
    base = pathlib.Path(base)
    names = [path.name for path in base.iterdir()] if base.is_dir() else []
    numbers = [int(n) for n in names if re.fullmatch(r"[0-9]+", n)]
    version = max((n for n in numbers if n <= LARGEST), default=0) + 1
    if version > LARGEST:
        raise InputError(
            f"A directory of versions below {LARGEST} is expected. "
            f"Received: directory={base}"
        )
    return version


def add_version(
    base: str | os.PathLike[str], write: Callable[[pathlib.Path], object]
) -> pathlib.Path:
    """Adds a version to a directory, which no server sees half-written.

    Several processes take turns. What a killed process left is removed.

    Args:
        base: Path of the directory of versions. It is created if it is missing.
        write: Function that writes the version to the path that it is given,
            which does not exist.

    Returns:
        The `pathlib.Path` of the version.

    Raises:
        InputError: If `base` is a file or itself a model, or if another process
            does not finish.
        OSError: If it cannot be written.

    Example:

    ```python
    import fastbat_tf as fb

    add_version("served/cifar10", lambda path: fb.export(model, path))
    ```
    """
    base = pathlib.Path(base)
    check(base)
    with taking_turns(base):
        partial = base / PARTIAL
        shutil.rmtree(partial, ignore_errors=True)  # From a killed process.
        write(partial)
        return _publish(partial, base)


def check(base: str | os.PathLike[str]) -> None:
    """Rejects a path that is no directory of versions.

    Args:
        base: Path of the directory of versions; it need not exist.

    Raises:
        InputError: If it is a file, or itself a model.
    """
    base = pathlib.Path(base)
    wrong = None
    if base.exists() and not base.is_dir():
        wrong = "it is a file"
    elif (base / "saved_model.pb").exists():
        wrong = "it is a SavedModel"
    if wrong:
        raise InputError(
            "A directory of numbered versions is expected, or one that does "
            f"not exist yet. Received: directory={base} ({wrong})"
        )


def _publish(partial, base):
    """Gives a complete version the next number that is free."""
    while True:
        path = base / str(next_version(base))
        try:
            partial.rename(path)  # Fails if something else has taken it.
        except OSError:
            if not path.exists():
                raise
        else:
            files.flush(base)
            return path
