"""Watches what is flushed and renamed, and kills the process between."""

import contextlib
import os
import pathlib
from unittest import mock


class Killed(BaseException):
    """Stands for SIGKILL."""


class Disk:
    """Watches flushing and renaming, and ends the process before a renaming.

    Attributes:
        flushed: Dict from inode to the size and time of the last change.
        wrong: List of what was renamed before it was flushed, or whose
            directory was not flushed.
        targets: List of the targets of the renamings.
    """

    def __init__(self, root):
        self.root = root
        self.survived = set()
        self.is_dead = False
        self.flushed, self.wrong, self.targets = {}, [], []
        self._waiting = None  # A directory that has to be flushed next.
        self._real = {
            name: getattr(os, name)
            for name in ("fsync", "replace", "rename", "unlink", "rmdir")
        }

    @contextlib.contextmanager
    def watch(self, kill=True):
        self.is_dead, self._kills = False, kill
        ours = {"fsync": self._fsync}
        for name in ("replace", "rename"):
            ours[name] = self._rename
        for name in ("unlink", "rmdir"):
            ours[name] = self._unless_dead(self._real[name])
        with mock.patch.multiple(os, **ours):
            yield

    def _unless_dead(self, call):
        def guarded(*args, **kwargs):
            if self.is_dead:
                raise Killed
            return call(*args, **kwargs)

        return guarded

    def _fsync(self, descriptor):
        if self.is_dead:
            raise Killed
        self._real["fsync"](descriptor)
        status = os.fstat(descriptor)
        self.flushed[status.st_ino] = status.st_size, status.st_mtime_ns
        if status.st_ino == self._waiting:
            self._waiting = None

    def _rename(self, source, target):
        name = str(pathlib.Path(target).relative_to(self.root))
        if self._kills and name not in self.survived:
            self.survived.add(name)
            self.is_dead = True
        if self.is_dead:
            raise Killed
        if self._waiting is not None:
            self.wrong.append(f"{self.targets[-1]}: its directory")
        self.targets.append(name)
        source = pathlib.Path(source)
        if not source.name.startswith("saved_model") or "partial" in str(
            source
        ):
            self.wrong += self.unflushed(source)
        self._real["replace"](source, target)
        self._waiting = pathlib.Path(target).parent.stat().st_ino

    def unflushed(self, path):
        """The files at or below a path that a power failure may damage."""
        return [
            str(each)
            for each in (path, *path.rglob("*"))
            if each.is_file()
            and self.flushed.get(each.stat().st_ino)
            != (each.stat().st_size, each.stat().st_mtime_ns)
        ]
