"""Lists the user's own images: `DIR/train/<class>/*`, `DIR/test/<class>/*`.

This module does not import TensorFlow, so that a wrong directory is rejected at
once.
"""

import pathlib

from fastbat_tf.errors import InputError

# Files of desktops and archivers, ignored like names that begin with a dot.
IGNORED = ("Thumbs.db", "desktop.ini", "__MACOSX")


def list_classes(data_dir):
    """Lists the classes of `DIR/train`: its directories, sorted by name.

    Args:
        data_dir: The directory DIR.

    Returns:
        A tuple of names; label k stands for the k-th.

    Raises:
        InputError: If there is no such directory, or fewer than two classes.
    """
    classes = tuple(path.name for path in _class_directories(data_dir, "train"))
    if len(classes) < 2:
        raise InputError(
            "The data set folder is expected to hold at least two classes, as "
            "directories in DIR/train. "
            f"Received: data_dir={data_dir}, classes={', '.join(classes)}"
        )
    return classes


def list_files(data_dir, split, classes):
    """Lists the files of a split, class by class, sorted by name.

    Args:
        data_dir: The directory DIR.
        split: `"train"` or `"test"`.
        classes: Sequence of names, as `list_classes` returns them.

    Returns:
        Two lists: paths, and labels.

    Raises:
        InputError: If a class is missing, is empty, or is not in `classes`.
    """
    found = {path.name: path for path in _class_directories(data_dir, split)}
    for name in found:
        if name not in classes:
            raise InputError(
                f"The classes of DIR/{split} are expected to be those of "
                f"DIR/train, {_shorten(classes)}. Received: class={name}, "
                f"data_dir={data_dir}"
            )
    paths, labels = [], []
    for label, name in enumerate(classes):
        files = _visible(found[name]) if name in found else []
        if not files:
            raise InputError(
                f"Each class is expected to have at least one image in "
                f"DIR/{split}. Received: class={name}, data_dir={data_dir}"
            )
        paths += files
        labels += [label] * len(files)
    return paths, labels


def _class_directories(data_dir, split):
    directory = pathlib.Path(data_dir, split)
    if not directory.is_dir():
        raise InputError(
            "The data set folder is expected as DIR/train/<class>/* and "
            "DIR/test/<class>/*, with --data_dir=DIR; there is no "
            f"DIR/{split}. Received: data_dir={data_dir}"
        )
    directories = _visible(directory)
    for path in directories:
        if not path.is_dir():
            raise InputError(
                f"Only directories of classes are expected in DIR/{split}. "
                f"Received: file={path}"
            )
    return directories


def _visible(directory):
    """The entries of a directory, without hidden ones, sorted by name."""
    try:
        paths = sorted(directory.iterdir(), key=lambda path: path.name)
    except OSError as error:
        raise InputError(
            "A directory of images cannot be read; check its permissions. "
            f"Received: directory={directory}"
        ) from error
    return [
        path
        for path in paths
        if not path.name.startswith(".") and path.name not in IGNORED
    ]


def _shorten(classes, shown=5):
    more = f" and {len(classes) - shown} more" if len(classes) > shown else ""
    return ", ".join(classes[:shown]) + more
