"""`--mode=evaluate`, as its user sees it."""

import json
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import numpy as np
import pytest
from absl.testing import absltest

from fastbat_tf.experiment.config import Config, DataConfig
from fastbat_tf.experiment.run_directory import RunDirectory
from tests.support.command_line import (
    TOP,
    CommandLineTest,
    main,
    main_here,
    user_environment,
)

# Enough for a network that is robust on some images.
TRAINING = (
    "--method=standard",
    "--dataset=cifar10_mini",
    "--validation_share=0.2",
    "--width=4",
    "--epochs=3",
    "--batch_size=64",
    "--learning_rate=0.1",
    "--validation_examples=40",
    "--validation_attack=pgd-1-1",
    "--attacks=pgd-2-1",
    "--max_examples=40",
)
ATTACKS = ("pgd-2-1", "apgd-ce-3+square-20")
EVALUATION = (
    f"--attacks={','.join(ATTACKS)}",
    "--epsilons=2/255,4/255",
    "--max_examples=40",
)


def files(directory):
    return {
        path: path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


def outcomes(directory):
    with np.load(directory / "outcomes.npz") as file:
        return {name: file[name] for name in file.files}


def assert_same_outcomes(found, expected):
    """All but the last bits of a confidence, which the batch may change."""
    np.testing.assert_equal(set(found), set(expected))
    for name, array in expected.items():
        if name.endswith("_confidence"):
            np.testing.assert_allclose(found[name], array, rtol=1e-4)
        else:
            np.testing.assert_array_equal(found[name], array, name)


class EvaluateTest(CommandLineTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        directory = tempfile.TemporaryDirectory()
        cls.addClassCleanup(directory.cleanup)
        cls.trained = pathlib.Path(directory.name, "run")
        process = main(*TRAINING, f"--run_dir={cls.trained}")
        if process.returncode:
            raise AssertionError(process.stderr)

    def setUp(self):
        super().setUp()
        shutil.copytree(self.trained, self.run_dir)
        self.where = self.directory / "results"

    def evaluate(self, *flags):
        process = main("--mode=evaluate", *flags)
        self.assertEqual(process.returncode, 0, process.stderr)
        self.assertNotIn("Traceback", process.stderr)
        return process.stdout

    def test_a_run(self):
        before = RunDirectory(self.run_dir)
        story = json.loads(before.results.read_text())
        untouched = files(self.run_dir)
        flags = (f"--run_dir={self.run_dir}", *EVALUATION)
        output = self.evaluate(*flags)

        # The measurement at the end of the training is kept, too.
        (directory,) = (self.run_dir / "evaluations").glob("*-*")
        self.assertStartsWith(directory.name, "_".join(ATTACKS))
        results = json.loads((directory / "results.json").read_text())
        self.assertEqual(
            [(row["attack"], row["epsilon"]) for row in results["attacks"]],
            [(name, e) for e in (2 / 255, 4 / 255) for name in ATTACKS],
        )
        self.assertEqual(results["clean_accuracy"], story["clean_accuracy"])
        self.assertLen(results["worst_case"], 2)
        found = outcomes(directory)
        self.assertEqual(found["robust"].shape, (4, 40))
        self.assertEqual(found["index"].shape, (40,))
        # Some examples withstand it, some do not.
        self.assertTrue(found["robust"].any())
        self.assertTrue((found["clean_correct"] & ~found["robust"]).any())

        # The rows of the training stay; the evaluation adds its own.
        after = json.loads(before.results.read_text())
        file = f"evaluations/{directory.name}/outcomes.npz"
        added = {
            group: [{**row, "outcomes": file} for row in results[group]]
            for group in ("attacks", "worst_case")
        }
        self.assertEqual(
            story["attacks"][0]["outcomes"],
            "evaluations/training/outcomes.npz",
        )
        self.assertEqual(
            after.pop("attacks"), story.pop("attacks") + added["attacks"]
        )
        both = {
            name: list(dict.fromkeys(story[name] + results[name]))
            for name in ("warnings", "notes")
        }
        # The training had no worst case.
        both["worst_case"] = added["worst_case"]
        self.assertEqual(after, {**story, **both})
        # What shows the results shows the new ones, too.
        shows = ("report", "tensorboard/results", "saved_model/README.md")
        for path, content in untouched.items():
            name = str(path.relative_to(self.run_dir))
            if path != before.results and not name.startswith(shows):
                self.assertEqual(path.read_bytes(), content, path)

        self.check_output(output, directory, results)

        # The same command attacks nothing again, and changes nothing but the
        # time at which TensorBoard was told.
        written = self.files_but_events()
        times = [
            path.stat().st_mtime_ns for path in (directory / "state").iterdir()
        ]
        self.assertEqual(
            *(
                re.sub(r"(?m)^[0-9:]{8} ", "", text)
                for text in (self.evaluate(*flags), output)
            )
        )
        self.assertEqual(self.files_but_events(), written)
        self.assertEqual(
            [
                path.stat().st_mtime_ns
                for path in (directory / "state").iterdir()
            ],
            times,
        )

    def files_but_events(self):
        """All files, but of TensorBoard's events of the results their number.

        Their names and contents have the time.
        """
        found = files(self.run_dir)
        (events,) = (path for path in found if path.name.endswith(".test"))
        del found[events]
        return found

    def check_output(self, output, directory, results):
        lines = output.splitlines()
        self.assertEqual(lines[0], f"target      --run_dir={self.run_dir}")
        self.assertRegex(
            output,
            rf"\nevaluation  --attacks={','.join(map(re.escape, ATTACKS))} .*\n"
            r" +--epsilons=2/255,4/255 +default 8/255\n",
        )
        self.assertRegex(
            output, rf"\n[0-9:]{{8}} Results: {re.escape(str(directory))}\n"
        )
        for text in (*results["notes"], *results["warnings"]):
            self.assertEqual(output.count(text), 1, text)
        (start,) = (n for n, line in enumerate(lines) if "95 %" in line)
        table = [line.split() for line in lines[start:]]
        clean = f"{results['clean_accuracy']:.2%}"
        self.assertEqual(table[1][:3], ["none", "(clean)", clean])
        names = []
        for cells in table[2:]:
            if cells[1:2] not in (["2/255"], ["4/255"]):
                continue
            row = results["attacks"][len(names)]
            names.append(cells[0])
            self.assertEqual(cells[0], row["attack"])
            self.assertEqual(cells[2], f"{row['robust_accuracy']:.2%}")
            if len(names) == 4:
                break
        self.assertEqual(names, [*ATTACKS, *ATTACKS])
        self.assertLen([c for c in table if c[:2] == ["after", "square-20"]], 2)
        self.assertLen([c for c in table if c[:2] == ["worst", "case"]], 2)
        self.assertIn("40 examples, norm linf, seed 0.", lines)

    @pytest.mark.slow
    def test_killed(self):
        flags = (
            f"--run_dir={self.run_dir}",
            "--attacks=pgd-10-6,apgd-ce-5",
            "--epsilons=1/255",
            "--max_examples=120",
            "--evaluation_batch_size=20",
        )
        killed = self.directory / "killed"
        process = subprocess.Popen(
            [
                sys.executable,
                "main.py",
                "--mode=evaluate",
                *flags,
                f"--results_dir={killed}",
            ],
            cwd=TOP,
            env=user_environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.addCleanup(process.kill)
        deadline = time.monotonic() + 200
        while not list(killed.glob("state/pgd*.npz")):
            self.assertIsNone(process.poll())
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.01)
        process.kill()
        self.assertEqual(process.wait(), -signal.SIGKILL)
        self.assertFalse((killed / "results.json").exists())
        (path,) = (killed / "state").glob("pgd*.npz")
        with np.load(path) as file:
            unfinished = file["robust"] & (file["rounds"] < 6)
        self.assertTrue(unfinished.any())

        self.evaluate(*flags, f"--results_dir={killed}")
        whole = self.directory / "whole"
        self.evaluate(*flags, f"--results_dir={whole}")
        expected, found = outcomes(whole), outcomes(killed)
        self.assertEqual(set(found), set(expected))
        assert_same_outcomes(found, expected)
        self.assertTrue(expected["robust"].any())
        evaluations = (self.run_dir / "evaluations").iterdir()
        self.assertEqual([path.name for path in evaluations], ["training"])

    @pytest.mark.slow
    def test_a_model_gives_the_numbers_of_its_run(self):
        alone = self.directory / "alone"
        self.evaluate(
            f"--run_dir={self.run_dir}", f"--results_dir={alone}", *EVALUATION
        )
        before = files(self.run_dir)
        self.evaluate(
            f"--model_path={self.run_dir}/saved_model",
            "--dataset=cifar10_mini",
            f"--results_dir={self.where}",
            *EVALUATION,
        )
        self.assertEqual(files(self.run_dir), before)
        expected, found = outcomes(alone), outcomes(self.where)
        assert_same_outcomes(found, expected)
        results = json.loads((self.where / "results.json").read_text())
        self.assertEqual(results["data"], {"dataset": "cifar10_mini"})

    def test_transfer_and_images(self):
        self.evaluate(
            f"--run_dir={self.run_dir}",
            f"--surrogate={self.run_dir}/saved_model",
            "--attacks=transfer-pgd-2-1",
            "--epsilons=4/255",
            "--max_examples=40",
            "--save_images",
            f"--results_dir={self.where}",
        )
        results = json.loads((self.where / "results.json").read_text())
        (row,) = results["attacks"]
        self.assertEqual(row["attack"], "transfer-pgd-2-1")
        # From a model to itself, transfer equals PGD.
        self.assertLess(row["robust_accuracy"], results["clean_accuracy"])
        (path,) = self.where.glob("adversarial_transfer-pgd-2-1-*.npz")
        with np.load(path) as file:
            self.assertEqual(file["images"].shape, (40, 32, 32, 3))
            self.assertEqual(file["robust"].mean(), row["robust_accuracy"])

    def test_corruptions(self):
        """Of a run, and of its model: the same numbers, twice."""
        corrupted = self.directory / "corrupted"
        corrupted.mkdir()
        random = np.random.default_rng(0)
        images = random.integers(0, 256, (60, 32, 32, 3), np.uint8)
        for name in ("fog", "saturate"):
            np.save(corrupted / f"{name}.npy", images)
        np.save(corrupted / "labels.npy", np.tile(np.arange(12) % 10, 5))
        flags = ("--attacks=fgsm", "--max_examples=10")
        flags += (f"--corruptions_dir={corrupted}",)
        output = self.evaluate(f"--run_dir={self.run_dir}", *flags)
        self.assertIn("saturate (extra)", output)
        self.assertIn("no mean of the 15 standard ones", output)
        story = json.loads(RunDirectory(self.run_dir).results.read_text())
        found = story["corruptions"]
        self.assertEqual(set(found["accuracy"]), {"fog", "saturate"})
        self.assertEqual(*found["accuracy"].values())
        self.assertEqual(found["examples"], 10)
        (alone,) = (self.run_dir / "evaluations").glob("fgsm-*")
        results = json.loads((alone / "results.json").read_text())
        self.assertEqual(results["corruptions"], found)
        report = (self.run_dir / "report.md").read_text()
        self.assertIn("How accurate is it on corrupted images?", report)
        self.evaluate(
            f"--model_path={self.run_dir}/saved_model",
            "--dataset=cifar10_mini",
            f"--results_dir={self.where}",
            *flags,
        )
        results = json.loads((self.where / "results.json").read_text())
        self.assertEqual(results["corruptions"], found)

    def test_wrong_corruptions(self):
        """They are refused before anything is written."""
        self.refuse(
            r"gaussian_noise\.npy\. Received: directory=no/such$",
            f"--run_dir={self.run_dir}",
            "--corruptions_dir=no/such",
        )

    def refuse(self, message, *flags):
        before = files(self.directory)
        process = main_here("--mode=evaluate", "--attacks=pgd-1-1", *flags)
        self.assert_refused(process, message)
        self.assertEqual(files(self.directory), before)

    @pytest.mark.slow
    def test_a_file_in_the_way(self):
        file = self.directory / "file"
        file.write_text("")
        self.refuse(
            f"results is not writable.* results_dir={file}/below ",
            f"--run_dir={self.run_dir}",
            f"--results_dir={file}/below",
        )

    def test_too_many_examples(self):
        self.refuse(
            r"\[0, 1000\].* max_examples=1001$",
            f"--run_dir={self.run_dir}",
            "--max_examples=1001",
        )

    def test_no_model(self):
        self.refuse(
            r"there is none\. Received: model_path=no/such\.keras$",
            "--model_path=no/such.keras",
            "--dataset=cifar10_mini",
        )

    def test_no_weights(self):
        run_dir = self.directory / "begun"
        config = Config(data=DataConfig("cifar10_mini"))
        RunDirectory(run_dir).create(config)
        self.refuse(
            rf"no weights yet.* run_dir={run_dir}$", f"--run_dir={run_dir}"
        )

    def test_half_of_the_weights(self):
        weights = RunDirectory(self.run_dir).best
        content = weights.read_bytes()
        weights.write_bytes(content[: len(content) // 2])
        self.refuse(
            rf"cannot be read.* run_dir={self.run_dir} ",
            f"--run_dir={self.run_dir}",
        )


if __name__ == "__main__":
    absltest.main()
