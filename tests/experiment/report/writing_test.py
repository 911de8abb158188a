"""Tests of the files of a report, and of runs of every kind."""

import errno
import json
import pathlib
import re
import shutil
import tempfile
from unittest import mock

import pytest
from absl.testing import absltest, parameterized

from fastbat_tf import files
from fastbat_tf.errors import InputError
from fastbat_tf.experiment.report import record, request, writing
from fastbat_tf.runtime import display
from tests.support import written_runs
from tests.support.report_pages import Page

MEGABYTES = 3  # For three runs.
# What Python writes for a value that is missing, and no word of a sentence.
HOLE = r"\b(None(?! more)|nan|NaN|inf)\b"
NASTY = "<run>&\"'{{ 7 * 7 }} $x$"


def write_without_arrays(path):
    written_runs.write_run(path)
    for file in path.glob("evaluations/*/*.npz"):
        file.unlink()


def write_unfinished_with_results(path):
    """It was measured while it trains."""
    written_runs.write_run(path)
    (path / "ended.json").unlink()


def write_a_seed_without_results(path):
    written_runs.write_seeds(path)
    written_runs.write_run(path / "seed-3", seed=3, unfinished=True)


def write_killed_at_once(path):
    written_runs.write_run(path, unfinished=True)
    for name in ("history.csv", "timing.csv"):
        (path / name).unlink()


def write_after_one_epoch(path):
    written_runs.write_run(path, epochs=1)


def write_of_the_version_before(path):
    written_runs.write_run(path, "fastat", old=True, rollback=True)
    written_runs.measure(path, "more", old=True, attacks=("autoattack",))


def write_in_another_norm(path):
    options = {"epsilon": 0.5, "norm": "l2"}
    radii = (0.25, 0.5, 1.0)
    written_runs.write_run(
        path, options=options, norm="l2", epsilons=radii, attacks=("apgd-ce",)
    )
    written_runs.measure(path, "linf", attacks=("square", "fgsm"))


def write_measured_often(path):
    written_runs.write_run(path)
    for seed in range(3):
        written_runs.measure(path, f"m{seed}", seed=seed, examples=30 + seed)
    ensemble = "apgd-ce+square"
    written_runs.measure(path, "e", attacks=(ensemble,), epsilons=(64 / 255,))


def write_with_few_classes(path):
    names = [f"{NASTY} {k}" for k in range(10)]
    written_runs.write_run(path, class_names=names, examples=3)


KINDS = {
    "plain": written_runs.write_run,
    "standard": lambda path: written_runs.write_run(path, "standard"),
    "of the version before": write_of_the_version_before,
    "killed": lambda path: written_runs.write_run(path, unfinished=True),
    "killed at once": write_killed_at_once,
    "one epoch": write_after_one_epoch,
    "unfinished with results": write_unfinished_with_results,
    "seeds": written_runs.write_seeds,
    "a seed without results": write_a_seed_without_results,
    "alone": written_runs.write_evaluation,
    "alone before": lambda path: written_runs.write_evaluation(path, old=True),
    "surface": lambda path: written_runs.write_run(path, surface=True),
    "without arrays": write_without_arrays,
    "another norm": write_in_another_norm,
    "measured often": write_measured_often,
    "odd names": write_with_few_classes,
    "never broken": lambda path: written_runs.write_run(path, robustness=1e9),
    "broken": lambda path: written_runs.write_run(path, robustness=1e-9),
}


class WritingTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        directory = self.enterContext(tempfile.TemporaryDirectory())
        self.directory = pathlib.Path(directory)
        self.run = self.directory / "run"

    def write(self, *paths, report="report"):
        directory = self.directory / report
        return writing.write(record.read(paths or [self.run]), directory)

    @parameterized.parameters(*KINDS)
    @pytest.mark.quick(
        "odd names",
        "a seed",
        "of the version before",
        "killed at once",
        "alone before",
        "another norm",
    )
    def test_has_no_holes(self, kind):
        path = self.directory / NASTY.replace("/", "")
        KINDS[kind](path)
        written = self.write(path)
        found = Page(written.html.read_text())
        self.assertEqual(found.title, path.name)
        self.assertLen(found.sections, 11)
        for question, section in found.sections.items():
            self.assertNotEmpty(section.text.strip(), question)
            self.assertNotRegex(section.text, HOLE, question)
            self.assertNotIn("TODO", section.text)
            for table in section.tables:
                self.assertLen({len(row) for row in table}, 1)
        text = written.markdown.read_text()
        self.assertEqual(len(re.findall("^## ", text, re.MULTILINE)), 11)
        for name in re.findall(r"\]\((report_files/[^)]*)\)", text):
            self.assertTrue((written.markdown.parent / name).exists(), name)

    def test_kinds_together(self):
        paths = []
        kinds = ("plain", "killed", "seeds", "alone", "without arrays")
        for kind in kinds:
            paths.append(self.directory / kind)
            KINDS[kind](paths[-1])
        found = Page(self.write(*paths).html.read_text())
        self.assertEqual(found.title, "plain, killed, seeds, alone and 1 more")

    def test_the_same_files_give_the_same_bytes(self):
        written_runs.write_run(self.run, surface=True)
        first = self.write(report="first")
        again = self.write(report="again")
        for one, other in zip(first, again, strict=True):
            self.assertEqual(one.read_bytes(), other.read_bytes())
        names = self.names(first.html.parent / "report_files")
        self.assertEqual(names, self.names(again.html.parent / "report_files"))
        for name in names:
            one, other = (
                (written.html.parent / "report_files" / name).read_bytes()
                for written in (first, again)
            )
            self.assertEqual(one, other, name)

    def names(self, directory):
        return sorted(path.name for path in directory.iterdir())

    def test_is_small(self):
        paths = [self.directory / name for name in ("a", "b", "c")]
        for path in paths:
            written_runs.write_run(path, surface=True, examples=1000)
        size = self.write(*paths).html.stat().st_size
        self.assertLess(size, MEGABYTES * 10**6)

    def test_pictures_of_an_earlier_report_are_removed(self):
        written_runs.write_run(self.run)
        files_of = self.write().html.parent / "report_files"
        mine = files_of / "notes.txt"
        for path in (files_of / "old.svg", files_of / "old.png", mine):
            path.write_text("old")
        self.write()
        self.assertTrue(mine.exists())
        self.assertEqual(list(files_of.glob("old.*")), [])

    def test_a_full_disk(self):
        written_runs.write_run(self.run)
        full = OSError(errno.ENOSPC, "No space left on device")
        with mock.patch.object(files, "replacing", side_effect=full):
            with self.assertRaisesRegex(
                InputError, "free space.*report_dir=.*No space left"
            ):
                self.write()
            lines = self.at_end()
        self.assertLen(lines, 1)
        self.assertRegex(lines[0], "There is no report.*No space left")
        self.assertIn(f"--mode=report --runs={self.run}", lines[0])

    def at_end(self):
        lines = []
        with mock.patch.object(display, "say", lines.append):
            request.write_at_end(self.run)
        return lines

    def test_at_the_end(self):
        written_runs.write_run(self.run)
        self.assertEqual(self.at_end(), [f"Report: {self.run}/report.html"])
        self.assertTrue((self.run / "report.md").exists())

    def test_whatever_fails_at_the_end_is_a_line(self):
        written_runs.write_run(self.run)
        broken = mock.Mock(QUESTION="?")
        broken.blocks.side_effect = ZeroDivisionError("two\nlines")
        with mock.patch.object(writing, "PARTS", (broken,)):
            lines = self.at_end()
        self.assertLen(lines, 1)
        self.assertStartsWith(
            lines[0], "There is no report (ZeroDivisionError: two lines)."
        )

    def test_two_processes_write_the_same_report(self):
        written_runs.write_run(self.run)
        lock = files.lock(self.run / ".report.lock", 1)
        self.addCleanup(lock.release)
        with mock.patch.object(writing, "SECONDS_TO_WRITE", 0.1):
            (line,) = self.at_end()
        self.assertStartsWith(line, "There is no report")

    def test_the_newest_result(self):
        written_runs.write_run(self.run)
        text = writing.subtitle(record.read([self.run]))
        self.assertRegex(text, r"Newest result: \d{4}-\d\d-\d\d\.")

    def test_a_copy_says_the_same(self):
        """Also of several evaluations, elsewhere."""
        written_runs.write_run(self.run)
        written_runs.measure(self.run, "more", attacks=("autoattack",))
        first = self.write().html.read_text()
        moved = self.directory / "moved" / "run"
        shutil.copytree(self.run, moved)
        again = self.write(moved, report="again").html.read_text()
        self.assertEqual(first, again.replace(str(moved), str(self.run)))
        self.assertIn("autoattack", json.dumps(first))


if __name__ == "__main__":
    absltest.main()
