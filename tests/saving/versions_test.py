"""Tests directories of versions, also while a server looks into them."""

import contextlib
import errno
import pathlib
import shutil
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from unittest import mock

from absl.testing import absltest, parameterized

from fastbat_tf.errors import InputError
from fastbat_tf.files import replace_directory
from fastbat_tf.saving import turns, versions
from tests.support.command_line import TOP
from tests.support.disk import Disk, Killed


def write(path):
    """Stands for an export."""
    path.mkdir(exist_ok=True)
    (path / "saved_model.pb").write_text("model")
    (path / "variables").mkdir(exist_ok=True)
    (path / "variables/variables.index").write_text("index")


def export(path):
    """Stands for an export that replaces its directory, as the real one."""
    partial = path.with_name(path.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    write(partial)
    replace_directory(partial, path)


# Another process, which adds versions at the same time as others.
ADD_MANY = """
    import pathlib
    import sys
    from fastbat_tf.saving import versions

    base = pathlib.Path(sys.argv[1])
    print("ready", flush=True)
    sys.stdin.readline()
    for _ in range(9):
        versions.add_version(base, pathlib.Path.mkdir)
    assert "tensorflow" not in sys.modules
"""


class VersionsTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        top = self.enterContext(tempfile.TemporaryDirectory())
        self.base = pathlib.Path(top, "served/colors")

    def names(self):
        return sorted(path.name for path in self.base.iterdir())

    @parameterized.parameters(
        ((), 1),
        (("1",), 2),
        (("1", "3"), 4),
        (("9", "10"), 11),
        (("007",), 8),
        (("0",), 1),
        (("1733000000",), 1733000001),
        # Not a number, or not for TensorFlow Serving.
        (("2.partial", "3x", "v4", "-5", "six", "\u0667", str(2**63)), 1),
    )
    def test_next(self, names, expected):
        self.assertEqual(versions.next_version(self.base), 1)
        for name in names:
            (self.base / name).mkdir(parents=True)
        self.assertEqual(versions.next_version(self.base), expected)

    def test_after_the_largest(self):
        (self.base / str(versions.LARGEST)).mkdir(parents=True)
        with self.assertRaisesRegex(InputError, "Received: directory="):
            versions.next_version(self.base)

    def test_a_file_takes_a_number(self):
        self.base.mkdir(parents=True)
        (self.base / "4").touch()
        path = versions.add_version(self.base, write)
        self.assertEqual(path, self.base / "5")

    def test_adds(self):
        for number in (1, 2, 3):
            path = versions.add_version(self.base, write)
            self.assertEqual(path, self.base / str(number))
            self.assertTrue((path / "variables/variables.index").exists())
        self.assertEqual(self.names(), ["1", "2", "3"])
        with self.subTest("relative"):
            path = versions.add_version(str(self.base), write)
            self.assertEqual(path, self.base / "4")

    def test_a_server_sees_no_part(self):
        def is_number(name):
            try:
                return int(name) >= 0
            except ValueError:
                return False

        seen = []

        def look(path):
            write(path)
            seen.extend(self.names())

        versions.add_version(self.base, look)
        self.assertLen(seen, 2)  # The part, and the lock.
        self.assertFalse(any(is_number(name) for name in seen), seen)

    def test_killed_before_each_renaming(self):
        self.base.mkdir(parents=True)
        write(self.base / "1")
        disk, kills = Disk(self.base), 0
        while not (self.base / "2").exists():
            with disk.watch(), contextlib.suppress(Killed):
                versions.add_version(self.base, export)
            kills += disk.is_dead
            for number in filter(str.isdecimal, self.names()):
                index = self.base / number / "variables/variables.index"
                self.assertEqual(index.read_text(), "index")
        self.assertEqual(kills, 2)
        self.assertEqual(disk.wrong, [])
        self.assertEqual(self.names(), ["1", "2"])

    def test_what_was_killed(self):
        self.base.mkdir(parents=True)
        part = self.base / versions.PARTIAL
        for folder in (part, part.with_name(f"{part.name}.partial")):
            (folder / "variables").mkdir(parents=True)
            (folder / "old").touch()
        (self.base / turns.LOCK).touch()
        path = versions.add_version(self.base, export)
        self.assertEqual(self.names(), ["1"])
        self.assertFalse((path / "old").exists())

    def test_failure(self):
        def fail(path):
            write(path)
            raise OSError(errno.ENOSPC, "No space left on device")

        with self.assertRaises(OSError):
            versions.add_version(self.base, fail)
        self.assertEqual(versions.next_version(self.base), 1)
        versions.add_version(self.base, write)
        self.assertEqual(self.names(), ["1"])

        def refuse(path):
            raise InputError("no images")

        other = self.base.with_name("other")
        with self.assertRaises(InputError):
            versions.add_version(other, refuse)
        self.assertFalse(other.exists())

    def test_another_program_takes_the_number(self):
        """One that does not know the lock."""

        def take(path):
            write(path)
            write(self.base / "1")

        # The number that was free when it was looked up.
        numbers = mock.Mock(side_effect=[1, 2])
        with mock.patch.object(versions, "next_version", numbers):
            path = versions.add_version(self.base, take)
        self.assertEqual(path, self.base / "2")
        self.assertEqual(self.names(), ["1", "2"])
        self.assertEqual(numbers.call_count, 2)

    def test_processes(self):
        command = [sys.executable, "-c", textwrap.dedent(ADD_MANY), self.base]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        each = [subprocess.Popen(command, cwd=TOP, **pipes) for _ in range(2)]
        for process in each:
            process.stdout.readline()
        for process in each:
            process.stdin.write(b"go\n")
            process.stdin.flush()
        for process in each:
            process.communicate()
        self.assertEqual([process.returncode for process in each], [0, 0])
        expected = [str(number) for number in range(1, 19)]
        self.assertEqual(self.names(), sorted(expected))

    def test_waits_for_another(self):
        began, events = threading.Event(), []

        def slow(path):
            began.set()
            time.sleep(0.2)
            write(path)
            events.append("slow")

        def quick(path):
            events.append("quick")
            write(path)

        thread = threading.Thread(
            target=versions.add_version, args=(self.base, slow)
        )
        thread.start()
        began.wait()
        versions.add_version(self.base, quick)
        thread.join()
        self.assertEqual(events, ["slow", "quick"])
        with (
            turns.taking_turns(self.base),
            mock.patch.object(turns, "SECONDS_TO_WAIT", 0.1),
            self.assertRaisesRegex(InputError, "wait for it.*Received: dir"),
        ):
            versions.add_version(self.base, quick)

    def test_refused(self):
        self.base.parent.mkdir()
        self.base.touch()
        with self.assertRaisesRegex(InputError, r"\(it is a file\)$"):
            versions.add_version(self.base, write)
        self.base.unlink()
        write(self.base)
        before = self.names()
        with self.assertRaisesRegex(InputError, r"\(it is a SavedModel\)$"):
            versions.add_version(self.base, write)
        self.assertEqual(self.names(), before)


if __name__ == "__main__":
    absltest.main()
