"""The checkpoints on disk."""

import contextlib
import io
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
from unittest import mock

import numpy as np
from absl.testing import absltest, parameterized

from fastbat_tf import files
from fastbat_tf.errors import InputError
from fastbat_tf.experiment import backup

# A process that may not write files of more than 30,000 bytes.
LIMITED = """
import resource, sys, numpy as np
from fastbat_tf.experiment.backup import Backup
from fastbat_tf.errors import InputError

resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))
backup = Backup(sys.argv[1] + "/backup", sys.argv[1])
backup.save([np.arange(10)], "small")
try:
    backup.save([np.zeros(100_000, np.uint8)], "large")
except InputError as error:
    print(error)
"""


def truncate(path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def turn_a_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGES = {
    "bit": turn_a_bit,
    "truncated": truncate,
    "empty": lambda path: path.write_bytes(b""),
    "missing": lambda path: path.unlink(),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"x"),
    "unreadable": lambda path: (path.unlink(), path.mkdir()),
}
PARTS = (
    "variables.npz",
    "state.json",
    "SHA256SUMS",
    "files/history.csv",
    "files/curves/train/events.1",
)


class BackupTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        directory = self.enterContext(tempfile.TemporaryDirectory())
        self.root = pathlib.Path(directory)
        (self.root / "curves" / "train").mkdir(parents=True)
        self.backup = self.make()

    def make(self):
        files = ("history.csv", "curves", "not there")
        return backup.Backup(self.root / "backup", self.root, files)

    def save(self, number):
        """Saves a checkpoint in which every value is `number`."""
        (self.root / "history.csv").write_text(f"row {number}\n")
        events = self.root / "curves" / "train" / "events.1"
        events.write_bytes(bytes([number]) * 100)
        self.backup.save([np.full((3, 2), number)], {"epoch": number})

    def restore(self):
        """Returns what is restored, and the printed lines."""
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            saved = self.make().restore()
        return saved, printed.getvalue().splitlines()

    def assert_restores(self, number):
        saved, lines = self.restore()
        np.testing.assert_array_equal(saved.arrays[0], np.full((3, 2), number))
        self.assertEqual(saved.state, {"epoch": number})
        self.assertEqual(
            (self.root / "history.csv").read_text(), f"row {number}\n"
        )
        self.assertEqual(
            (self.root / "curves" / "train" / "events.1").read_bytes(),
            bytes([number]) * 100,
        )
        return lines

    def names(self):
        return sorted(path.name for path in (self.root / "backup").iterdir())

    def test_round_trip_to_the_bit(self):
        arrays = [
            np.array([0.1, -0.0, np.nan, np.inf], np.float32),
            np.array(2**62 + 1),
            np.array([[1, 2]], np.uint32),
            np.zeros((0, 3)),
            np.array([True, False]),
        ] * 5  # More than ten, whose names do not sort as text.
        arrays = [
            array + np.array(i, array.dtype) if array.dtype != bool else array
            for i, array in enumerate(arrays)
        ]
        state = {"epoch": 3, "best": 1 / 3, "column": None, "low": -np.inf}
        self.backup.save(arrays, state)
        saved, lines = self.restore()
        self.assertEqual(lines, [])
        self.assertEqual(saved.state, state)
        self.assertLen(saved.arrays, len(arrays))
        for ours, theirs in zip(saved.arrays, arrays, strict=True):
            self.assertEqual(ours.dtype, theirs.dtype)
            self.assertEqual(ours.shape, theirs.shape)
            self.assertEqual(ours.tobytes(), theirs.tobytes())

    def test_nothing_there(self):
        saved, lines = self.restore()
        self.assertIsNone(saved)
        self.assertEqual(lines, [])

    def test_last_three_are_kept(self):
        for number in range(12):
            self.save(number)
            self.assertLen(self.names(), min(number + 1, 3))
        self.assertEqual(self.names(), ["000009", "000010", "000011"])
        self.assertEqual(self.assert_restores(11), [])

    def test_files_are_put_back(self):
        self.save(1)
        (self.root / "history.csv").write_text("row 1\nrow 2\n")
        (self.root / "curves" / "train" / "events.2").write_text("newer")
        (self.root / "curves" / "train" / "events.1").unlink()
        (self.root / "not there").write_text("Not when it was saved.")
        (self.root / "other").write_text("Not of the checkpoint.")
        self.assert_restores(1)
        found = {path.name for path in self.root.rglob("*") if path.is_file()}
        self.assertNotIn("events.2", found)
        self.assertNotIn("not there", found)
        self.assertIn("other", found)
        # The copies remain, so a kill meanwhile does no harm.
        shutil.rmtree(self.root / "curves")
        self.assert_restores(1)

    def test_names_of_event_files(self):
        """TensorBoard reads them wherever they are.

        These are files named "*tfevents*", and folders named "profile".
        """
        train = self.root / "curves" / "train"
        names = {
            "events.out.tfevents.1.host": "events.out.tf-events.1.host",
            "tf-events": "tf--events",
            "tf--events.tfevents": "tf---events.tf-events",
            "TFevents": "TFevents",
            "profile": "-profile",
            "-profile": "--profile",
            "profiles": "profiles",
        }
        for name in names:
            (train / name).write_text(name)
        self.save(1)
        copies = self.root / "backup" / "000000" / "files" / "curves" / "train"
        found = {path.read_text(): path.name for path in copies.iterdir()}
        for name, hidden in names.items():
            self.assertEqual(found[name], hidden)
            (train / name).write_text("since then")
        self.assert_restores(1)
        for name in names:
            self.assertEqual((train / name).read_text(), name)

    def test_checkpoints_of_older_versions(self):
        """Older copies have the names of the event files."""
        self.save(1)
        directory = self.root / "backup" / "000000"
        names = [
            f"files/curves/train/{name}"
            for name in ("events.out.tfevents.1", "profile")
        ]
        sums = directory / "SHA256SUMS"
        for name in names:
            (directory / name).write_text("old")
            line = f"{backup.sha256(directory / name)}  {name}\n"
            sums.write_text(sums.read_text() + line)
        self.assertEqual(self.assert_restores(1), [])
        for name in names:
            restored = self.root / name.removeprefix("files/")
            self.assertEqual(restored.read_text(), "old")

    def test_sums_are_those_of_sha256sum(self):
        self.save(1)
        process = subprocess.run(
            ["sha256sum", "--check", "SHA256SUMS"],
            cwd=self.root / "backup" / "000000",
            capture_output=True,
            text=True,
        )
        self.assertEqual(process.returncode, 0, process.stderr)
        self.assertCountEqual(
            process.stdout.splitlines(),
            [f"{part}: OK" for part in PARTS if part != "SHA256SUMS"],
        )

    @parameterized.product(damage=tuple(DAMAGES), part=PARTS)
    def test_damaged(self, damage, part):
        for number in range(3):
            self.save(number)
        newest = self.root / "backup" / "000002"
        DAMAGES[damage](newest / part)
        lines = self.assert_restores(1)
        self.assertLen(lines, 1)
        self.assertStartsWith(
            lines[0], f"WARNING: The checkpoint {newest} is damaged"
        )
        # The next number follows that of the damaged one, so it is the newest.
        self.save(7)
        self.assertEqual(self.names(), ["000001", "000002", "000003"])
        self.assertEqual(self.assert_restores(7), [])

    @parameterized.parameters("../../secret", "/dev/zero", "files/../../../x")
    def test_files_outside(self, name):
        """A list of someone else's does not have other files read."""
        self.save(1)
        self.save(2)
        sums = self.root / "backup" / "000001" / "SHA256SUMS"
        sums.write_text(f"{sums.read_text()}{64 * '0'}  {name}\n")
        (line,) = self.assert_restores(1)
        self.assertIn(f"lists {name}, which is not in it", line)

    def test_all_damaged(self):
        for number in range(3):
            self.save(number)
            truncate(self.root / "backup" / f"{number:06d}" / "variables.npz")
        before = (self.root / "history.csv").read_text()
        with self.assertRaisesRegex(
            InputError,
            "^All checkpoints of the run are damaged; .* Received: path="
            f"{self.root}/backup$",
        ):
            self.restore()
        self.assertLen(self.names(), 3)
        self.assertEqual((self.root / "history.csv").read_text(), before)

    def test_killed_while_it_is_written(self):
        """There is always the previous checkpoint, or the whole new one."""
        self.save(1)
        for name in ("savez", "_copy", "sha256", "flush_tree", "rename"):
            with self.subTest(name):
                where = {"savez": np, "rename": pathlib.Path}
                with mock.patch.object(
                    where.get(name, backup), name, side_effect=KeyboardInterrupt
                ):
                    with self.assertRaises(KeyboardInterrupt):
                        self.save(2)
                self.assertEqual(self.names(), ["000000", "000001.partial"])
                self.assertEqual(self.assert_restores(1), [])
        self.save(3)
        self.assertEqual(self.names(), ["000000", "000001"])
        self.assertEqual(self.assert_restores(3), [])

    def test_everything_is_flushed_before_the_renaming(self):
        flushed = []

        def flush(path):
            if path != self.root:
                flushed.append(path.relative_to(self.root / "backup"))

        with (
            mock.patch.object(backup, "flush", flush),
            mock.patch.object(files, "flush", flush),
        ):
            self.save(1)
        partial = pathlib.Path("000000.partial")
        self.assertCountEqual(
            flushed[:-1],
            [
                partial,
                *(partial / part for part in PARTS),
                partial / "files",
                partial / "files" / "curves",
                partial / "files" / "curves" / "train",
            ],
        )
        self.assertEqual(flushed[-1], pathlib.Path("."))

    @parameterized.parameters("savez", "rename")
    def test_error_of_the_disk(self, name):
        self.save(1)
        self.save(2)
        error = OSError(28, "No space left on device")
        where = {"savez": np, "rename": pathlib.Path}
        with mock.patch.object(where[name], name, side_effect=error):
            with self.assertRaisesRegex(
                InputError,
                "^The run cannot be saved; .* Received: path="
                rf"{self.root}/backup/000002 \(No space left on device\)$",
            ):
                self.save(3)
        self.assertEqual(self.names(), ["000000", "000001"])
        self.assertEqual(self.assert_restores(2), [])

    def test_disk_that_is_full(self):
        disk = self.root / "disk"
        disk.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", "size=100k", "tmpfs", disk]
        try:
            subprocess.run(command, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            self.skipTest("No file system can be mounted here.")
        self.addCleanup(subprocess.run, ["umount", disk], check=True)
        full = backup.Backup(disk / "backup", disk, ("curves",))
        for size in (5_000, 200_000):  # The growing file, or the arrays.
            with self.subTest(size=size):
                shutil.rmtree(disk / "curves", ignore_errors=True)
                (disk / "curves").mkdir()
                full.save([np.zeros(10)], "small")
                grown = disk / "curves" / "events"
                grown.write_bytes(bytes(60_000))
                with self.assertRaisesRegex(
                    InputError, r"\(No space left on device\)$"
                ):
                    full.save([np.zeros(size, np.uint8)], "large")
                self.assertEqual(full.restore().state, "small")
                self.assertFalse(grown.exists())
                self.assertEmpty(list(disk.glob("backup/*.partial")))

    def test_file_that_is_too_large(self):
        process = subprocess.run(
            [sys.executable, "-c", LIMITED, self.root],
            cwd=pathlib.Path(__file__).parents[2],
            env={**os.environ},
            capture_output=True,
            text=True,
        )
        self.assertEqual(process.returncode, 0, process.stderr)
        self.assertRegex(
            process.stdout, r"^The run cannot be saved; .*\(File too large\)$"
        )
        self.assertEqual(self.names(), ["000000"])
        self.assertEqual(self.make().restore().state, "small")


if __name__ == "__main__":
    absltest.main()
