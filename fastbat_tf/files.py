"""Files that are written completely or not at all, even in a crash."""

import contextlib
import errno
import hashlib
import json
import os
import pathlib
import shutil

from fastbat_tf.errors import InputError

# The errors of file systems that cannot flush a directory.
NOT_FLUSHED = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS)


@contextlib.contextmanager
def replacing(path):
    """Opens a binary file that replaces `path` at the end of a `with` block.

    It is written to a temporary file, flushed to the disk, and renamed; then
    the directory is flushed. A killed process, a full disk or a power failure
    leaves either the old file or the complete new one.

    Args:
        path: Path of the file. Its directory must exist.

    Raises:
        OSError: If it cannot be written; `path` is then left as it was.

    Example:

    ```python
    with replacing("outcomes.npz") as file:
        np.savez(file, labels=labels)
    ```
    """
    path = pathlib.Path(path)
    partial = path.with_name(f"partial.{path.name}")
    try:
        with partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        flush(path.parent)
    finally:
        partial.unlink(missing_ok=True)


def write_json(path, content):
    """Writes JSON to a file, completely or not at all; see `replacing`."""
    text = json.dumps(content, indent=2) + "\n"
    with replacing(path) as file:
        file.write(text.encode())


def make_directory(path):
    """Creates a directory with its parents, and flushes them to the disk."""
    path = pathlib.Path(path)
    missing = [p for p in (path, *path.parents) if not p.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for new in reversed(missing):
        flush(new.parent)


def replace_directory(partial, path):
    """Replaces a directory by another one, flushed to the disk.

    Two directories cannot be swapped at once. A process that is killed in
    between leaves nothing at `path`, and both directories beside it, as
    `partial` and `<path>.old`, but never a mixture.

    Args:
        partial: Path of the new directory, beside `path`.
        path: Path of the directory to replace; it need not exist.

    Raises:
        OSError: If it cannot be replaced, or is not a directory.
    """
    if path.is_symlink() or (path.exists() and not path.is_dir()):
        raise NotADirectoryError(errno.ENOTDIR, "No directory", str(path))
    flush_tree(partial)
    old = path.with_name(f"{path.name}.old")
    if path.exists():
        if old.exists():  # Left by a process that was killed.
            shutil.rmtree(old)
        path.rename(old)
        flush(path.parent)
    partial.rename(path)
    flush(path.parent)
    if old.exists():
        shutil.rmtree(old)


def flush_tree(path):
    """Flushes a file, or a directory with everything in it."""
    path = pathlib.Path(path)
    for each in (*path.rglob("*"), path):
        # Links may lead anywhere, and pipes would block.
        if not each.is_symlink() and (each.is_file() or each.is_dir()):
            flush(each)


def flush(path):
    """Waits until a file or directory is on the disk, not only in a cache."""
    is_directory = os.path.isdir(path)
    flags = os.O_RDONLY
    if os.name == "nt":
        if is_directory:  # It cannot be opened; the journal keeps names.
            return
        flags = os.O_RDWR  # Only writable files can be flushed.
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if not (is_directory and error.errno in NOT_FLUSHED):
            raise
    finally:
        os.close(descriptor)


def is_inside(path, directory):
    """Whether a file is in a directory, wherever links may lead.

    Args:
        path: Path of a file, which need not exist.
        directory: Path of a directory.

    Example:

    >>> is_inside("runs/demo/../../secret.npz", "runs/demo")
    False
    """
    return (
        pathlib.Path(path)
        .resolve()
        .is_relative_to(pathlib.Path(directory).resolve())
    )


def refuse_links_out(directory, received):
    """Refuses a directory of which a part is elsewhere.

    A run may come from someone else: what continues or measures it must not
    write to, or remove, what a link in it leads to.

    Args:
        directory: Path of the directory.
        received: String, `name=value`, which setting names it.

    Raises:
        InputError: If a link in it leads out of it.
    """
    for parent, directories, names in os.walk(directory):
        for path in (pathlib.Path(parent, x) for x in directories + names):
            if path.is_symlink() and not is_inside(path, directory):
                raise InputError(
                    "A run directory is expected to hold all of the run; a "
                    f"link leads out of it. Received: {received}, link={path}"
                )


def sha256(path):
    """Returns the checksum of a file, as `sha256sum` prints it."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def lock(path, seconds):
    """Acquires a lock between processes, which the end of a process releases.

    Args:
        path: Path of the lock file, which is created, and not removed.
        seconds: Float, how long to wait for another process.

    Returns:
        An object with `release()`.

    Raises:
        TimeoutError: If another process, or another call, holds the lock.
        OSError: If the file cannot be created or locked.
    """
    import filelock  # Not needed by most command lines.

    # Not per thread, because a notebook may release it in another thread.
    held = filelock.FileLock(path, thread_local=False)
    try:
        held.acquire(timeout=seconds)
    except NotImplementedError as error:
        raise OSError(errno.ENOSYS, str(error)) from error
    return held


@contextlib.contextmanager
def locked(path, seconds):
    """Holds a `lock` for a `with` block, and removes its file."""
    held = lock(path, seconds)
    try:
        yield
    finally:
        # In this order, so that a process that has opened the file finds it
        # gone and creates a new one. Windows cannot remove an open file.
        with contextlib.suppress(OSError):
            os.unlink(path)
        held.release()
