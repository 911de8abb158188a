"""Tests of reading runs and evaluations."""

import json
import os
import pathlib
import tempfile

import numpy as np
from absl.testing import absltest, parameterized

from fastbat_tf.errors import InputError
from fastbat_tf.experiment.report import record
from tests.support import written_runs
from tests.support.command_line import python
from tests.support.written_evaluations import CLASSES


class RecordTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        directory = self.enterContext(tempfile.TemporaryDirectory())
        self.directory = pathlib.Path(directory)
        self.path = self.directory / "run"

    def read(self, path=None):
        (found,) = record.read([path or self.path])
        return found

    def results(self, path):
        return json.loads((path / "results.json").read_text())

    def test_a_run(self):
        written_runs.write_run(self.path, epochs=3)
        found = self.read()
        self.assertEqual((found.name, found.group), ("run", None))
        self.assertEqual(found.method, "fastbat")
        self.assertEqual(found.results, self.results(self.path))
        self.assertEqual([row["epoch"] for row in found.history], [1, 2, 3])
        self.assertEqual([row["epoch"] for row in found.timing], [1, 2, 3])
        self.assertIn("learning_rate", found.history[0])
        self.assertEqual(found.class_names, list(CLASSES))
        self.assertTrue(found.has_ended)
        self.assertFalse(found.weights_have_changed)

    def test_a_run_of_the_version_before(self):
        written_runs.write_run(self.path, "standard", epochs=3, old=True)
        written_runs.measure(self.path, "more", old=True, attacks=("fgsm",))
        found = self.read()
        self.assertEqual([row["epoch"] for row in found.history], [1, 2, 3])
        self.assertIn("accuracy", found.history[0])
        self.assertNotIn("perturbed_accuracy", found.history[0])
        self.assertIsNone(found.class_names)
        places = [found.directory(r).name for r in found.results["attacks"]]
        self.assertEqual(places, ["training", "more"])

    @parameterized.product(old=(False, True))
    def test_a_row_has_its_outcomes(self, old):
        """Those of the evaluation that it is from."""
        written_runs.write_run(self.path, old=old)
        written_runs.measure(
            self.path,
            "more",
            old=old,
            attacks=("autoattack", "fgsm"),
            epsilons=(2 / 255, 8 / 255),
            examples=50,
        )
        found = self.read()
        rows = found.results["attacks"] + found.results["worst_case"]
        self.assertLen(rows, 2 + 4 + 1 + 2)
        for row in rows:
            robust = found.outcomes(row).robust_under(row)
            self.assertLen(robust, row["examples"])
            self.assertEqual(robust.mean(), row["robust_accuracy"])
            self.assertEqual(found.settings(row)["version"], "0.1.0")

    def test_outcomes_of_another_measurement(self):
        """They are not taken for those of a row."""
        written_runs.write_run(self.path)
        written_runs.write_evaluation(
            self.path / "evaluations" / "training", robustness=0.3
        )
        found = self.read()
        row = found.results["attacks"][0]
        self.assertIsNone(found.outcomes(row).robust_under(row))

    def test_without_outcomes(self):
        written_runs.write_run(self.path)
        (self.path / "evaluations" / "training" / "outcomes.npz").unlink()
        found = self.read()
        self.assertIsNone(found.outcomes(found.results["attacks"][0]))

    @parameterized.parameters("alone", "run/evaluations/training")
    def test_an_evaluation_alone(self, name):
        path = self.directory / name
        written_runs.write_evaluation(path, model="model.keras")
        found = self.read(path)
        self.assertIsNone(found.config)
        self.assertIsNone(found.method)
        self.assertTrue(found.has_ended)
        self.assertFalse(found.weights_have_changed)
        self.assertEqual((found.history, found.timing), ([], []))
        row = found.results["attacks"][1]
        robust = found.outcomes(row).robust_under(row)
        self.assertEqual(robust.mean(), row["robust_accuracy"])
        names = {"alone": "alone", "training": "run/training"}
        self.assertEqual(found.name, names[path.name])

    def test_groups_have_different_names(self):
        """Runs in directories that are called alike are not joined."""
        paths = [self.directory / name / "run" for name in ("a", "b", "c")]
        for path in paths[:2]:
            written_runs.write_seeds(path, seeds=(0, 1))
        written_runs.write_run(paths[2])
        units = record.grouped(record.read(paths))
        self.assertEqual(
            {
                name: [each.name for each in unit]
                for name, unit in units.items()
            },
            {
                "a/run": ["a/run/seed-0", "a/run/seed-1"],
                "b/run": ["b/run/seed-0", "b/run/seed-1"],
                "c/run": ["c/run"],
            },
        )

    def test_several_seeds(self):
        written_runs.write_seeds(self.path, seeds=(2, 10, 1))
        found = record.read([self.path])
        seeds = [each.config["training"]["seed"] for each in found]
        self.assertEqual(seeds, [1, 2, 10])
        self.assertEqual({each.group for each in found}, {"run"})
        names = [each.name for each in found]
        self.assertEqual(names, ["run/seed-1", "run/seed-2", "run/seed-10"])

    def test_a_killed_run(self):
        written_runs.write_run(self.path, unfinished=True)
        found = self.read()
        self.assertFalse(found.has_ended)
        self.assertEqual(found.results, {})
        self.assertLen(found.history, 4)
        self.assertIsNone(found.arrays("gallery.npz"))

    def test_a_run_that_was_killed_before_its_first_epoch(self):
        written_runs.write_run(self.path, unfinished=True)
        for name in ("history.csv", "timing.csv"):
            (self.path / name).unlink()
        found = self.read()
        self.assertEqual((found.history, found.timing), ([], []))

    def test_weights_that_have_changed(self):
        written_runs.write_run(self.path)
        best = self.path / "checkpoints" / "best.weights.h5"
        best.write_bytes(b"others")
        self.assertTrue(self.read().weights_have_changed)
        best.unlink()  # They need not be kept.
        self.assertFalse(self.read().weights_have_changed)

    def test_names_tell_runs_apart(self):
        paths = []
        for name in ("a/run", "b/run", "b/other"):
            paths.append(self.directory / name)
            written_runs.write_run(paths[-1], unfinished=True)
        found = record.read([*paths, paths[0], str(paths[0]) + "/"])
        names = [each.name for each in found]
        self.assertEqual(names, ["a/run", "b/run", "other"])

    def test_arrays_are_of_the_newest_evaluation_of_these_weights(self):
        written_runs.write_run(self.path)
        written_runs.measure(self.path, "more", epsilons=(4 / 255,))
        # It measured other weights: the results do not name it.
        other = self.path / "evaluations" / "earlier"
        written_runs.write_evaluation(other, epsilons=(2 / 255,))
        for number, name in enumerate(("training", "more", "earlier")):
            path = self.path / "evaluations" / name / "gallery.npz"
            os.utime(path, (number, number))
        epsilon = self.read().arrays("gallery.npz")["epsilon"]
        self.assertAlmostEqual(float(epsilon), 4 / 255)
        self.assertIsNone(self.read().arrays("surface.npz"))

    def test_no_such_directory(self):
        with self.assertRaisesRegex(InputError, "no such directory.*runs="):
            self.read()

    def test_neither_run_nor_evaluation(self):
        (self.directory / "seed-1").mkdir()
        with self.assertRaisesRegex(InputError, "neither config.json"):
            self.read(self.directory)
        written_runs.write_run(self.path, unfinished=True)
        with self.assertRaisesRegex(InputError, r"has runs in: run\)"):
            self.read(self.directory)

    @parameterized.parameters(
        ("config.json", "{", "JSON"),
        ("config.json", "[]", "JSON"),
        ("config.json", "{}", "missing=data, model, method"),
        ("config.json", '{"method": {}}', "missing=data, model"),
        ("results.json", "{,}", "JSON"),
        ("results.json", '{"attacks": []}', "missing=clean_accuracy"),
    )
    def test_files_that_cannot_be_read(self, name, content, message):
        written_runs.write_run(self.path)
        (self.path / name).write_text(content)
        expected = f"(?=.*{message})(?=.*path=.*{name})"
        with self.assertRaisesRegex(InputError, expected):
            self.read()

    @parameterized.parameters(b"", b"PK\x03\x04", b"neither")
    def test_arrays_that_cannot_be_read(self, content):
        written_runs.write_run(self.path)
        directory = self.path / "evaluations" / "training"
        for name in ("outcomes.npz", "gallery.npz"):
            (directory / name).write_bytes(content)
        found = self.read()
        with self.assertRaisesRegex(InputError, "path=.*outcomes.npz"):
            found.outcomes(found.results["attacks"][0])
        with self.assertRaisesRegex(InputError, "path=.*gallery.npz"):
            found.arrays("gallery.npz")

    def test_arrays_with_damaged_bytes(self):
        written_runs.write_run(self.path)
        path = self.path / "evaluations" / "training" / "outcomes.npz"
        np.savez_compressed(path, index=np.arange(1000))
        content = bytearray(path.read_bytes())
        content[100:140] = bytes(40 * [255])
        path.write_bytes(content)
        found = self.read()
        with self.assertRaisesRegex(InputError, "path=.*outcomes.npz"):
            found.outcomes(found.results["attacks"][0])

    def test_arrays_without_what_is_needed(self):
        written_runs.write_run(self.path)
        path = self.path / "evaluations" / "training" / "outcomes.npz"
        np.savez(path, index=np.arange(3))
        found = self.read()
        with self.assertRaisesRegex(InputError, "missing=label"):
            found.outcomes(found.results["attacks"][0])

    def test_needs_no_tensorflow(self):
        """Also the whole report: it takes a second, not ten."""
        written_runs.write_run(self.path)
        program = (
            "import sys\n"
            "from fastbat_tf.experiment.report import request\n"
            "request.answer(request.ReportRequest((sys.argv[1],)))\n"
            "print(*{name.split('.')[0] for name in sys.modules})\n"
        )
        process = python("-c", program, str(self.path))
        self.assertEqual(process.stderr, "")
        *lines, modules = process.stdout.splitlines()
        self.assertEqual(
            lines,
            [
                f"Report: {self.path}/report.html",
                f"Markdown: {self.path}/report.md",
            ],
        )
        self.assertNoCommonElements(
            modules.split(), ["tensorflow", "keras", "scipy"]
        )


if __name__ == "__main__":
    absltest.main()
