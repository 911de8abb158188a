"""Files that are whole or old, whatever ends the process or the machine."""

import contextlib
import errno
import hashlib
import json
import os
import pathlib
import shutil

# What some file systems answer if a directory is to be flushed.
NOT_FLUSHED = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS)


@contextlib.contextmanager
def replacing(path):
    """A binary file to write, which takes the place of `path` at the end.

    It is written to the side, flushed to the disk, and renamed; then the
    directory is flushed. A process that is killed, a disk that is full, or a
    power failure leaves `path` as it was, or new and whole.

    Args:
        path: Of the file; its directory exists.

    Raises:
        OSError: If it cannot be written; `path` stays as it was.

    Example:

    ```python
    with replacing("run/outcomes.npz") as file:
        np.savez(file, robust=robust)
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
    """Writes JSON, whole or not at all: see `replacing`."""
    text = json.dumps(content, indent=2) + "\n"
    with replacing(path) as file:
        file.write(text.encode())


def make_directory(path):
    """Makes a directory and those above it, and flushes their names."""
    path = pathlib.Path(path)
    missing = [p for p in (path, *path.parents) if not p.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for new in reversed(missing):
        flush(new.parent)


def replace_directory(partial, path):
    """Puts a directory in the place of another, flushed to the disk.

    No system exchanges two directories at once: a process that is killed in
    between leaves none at `path`, and both of them beside it, as `partial` and
    `<path>.old`; never a mixture.

    Args:
        partial: The new directory, beside `path`.
        path: The place; a directory that is there goes.

    Raises:
        OSError: If it cannot be done, or something else is there.
    """
    if path.is_symlink() or (path.exists() and not path.is_dir()):
        raise NotADirectoryError(errno.ENOTDIR, "No directory", str(path))
    flush_tree(partial)
    old = path.with_name(f"{path.name}.old")
    if path.exists():
        if old.exists():  # Of a process that was killed.
            shutil.rmtree(old)
        path.rename(old)
        flush(path.parent)
    partial.rename(path)
    flush(path.parent)
    if old.exists():
        shutil.rmtree(old)


def flush_tree(path):
    """Flushes a file, or a directory with all that it holds."""
    path = pathlib.Path(path)
    for each in (*path.rglob("*"), path):
        # Not links, whose ends may be anywhere, nor pipes, which would wait.
        if not each.is_symlink() and (each.is_file() or each.is_dir()):
            flush(each)


def flush(path):
    """Waits until a file or directory is on the disk, not in its cache."""
    is_directory = os.path.isdir(path)
    flags = os.O_RDONLY
    if os.name == "nt":
        if is_directory:  # Cannot be opened there; its journal keeps names.
            return
        flags = os.O_RDWR  # Nothing else is flushed there.
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if not (is_directory and error.errno in NOT_FLUSHED):
            raise
    finally:
        os.close(descriptor)


def sha256(path):
    """The checksum of a file, as `sha256sum` writes it."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def lock(path, seconds):
    """Takes a lock between processes, which ends with the process.

    Args:
        path: Of the lock's file, which is made, and stays.
        seconds: Float, how long another process is waited for.

    Returns:
        An object with `release()`.

    Raises:
        TimeoutError: If another process, or another call, holds it.
        OSError: If the file cannot be made or locked.
    """
    import filelock  # Not needed by most command lines.

    # Not of a thread: a notebook may end in another one.
    held = filelock.FileLock(path, thread_local=False)
    try:
        held.acquire(timeout=seconds)
    except NotImplementedError as error:
        raise OSError(errno.ENOSYS, str(error)) from error
    return held


@contextlib.contextmanager
def locked(path, seconds):
    """Holds a `lock` for a block, and leaves no file."""
    held = lock(path, seconds)
    try:
        yield
    finally:
        # In this order: who opened it before finds that it is gone, and makes
        # a new one. Windows removes no file that is open.
        with contextlib.suppress(OSError):
            os.unlink(path)
        held.release()
