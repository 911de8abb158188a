"""Tests of the section that compares runs: its numbers are the files'."""

import json
import statistics

import numpy as np
from absl.testing import absltest

from fastbat_tf.experiment.report import comparison, paired, pairs
from fastbat_tf.experiment.report.blocks import Picture, Table, Text
from tests.support import written_evaluations, written_runs
from tests.support.runs_test_case import RunsTestCase

SMALL, USUAL = 4 / 255, 8 / 255


class ComparisonTest(RunsTestCase):
    def blocks(self, *names):
        return comparison.blocks(self.records(*names))

    def tables(self, blocks, heading):
        found = [b for b in blocks if isinstance(b, Table)]
        return [t for t in found if t.rows[0][0] == heading]

    def texts(self, blocks, kind="text"):
        return [
            b.text for b in blocks if isinstance(b, Text) and b.kind == kind
        ]

    def outcomes(self, name):
        place = self.directory / name / "evaluations/training"
        return np.load(place / "outcomes.npz")

    def results(self, name):
        return json.loads((self.directory / name / "results.json").read_text())


class TwoRunsTest(ComparisonTest):
    def setUp(self):
        super().setUp()
        self.write("weak", "fastat", robustness=0.6, old=True)
        self.write("strong", robustness=2.0, seed=5)
        self.found = self.blocks("weak", "strong")

    def test_begins_with_the_answer(self):
        robust = [self.outcomes(n)["robust"].all(0) for n in ("strong", "weak")]
        expected = paired.compare(*robust)
        low, high = expected.interval
        self.assertLess(expected.p, 0.0005)
        self.assertEqual(
            self.found[0].text,
            "Under the worst case of pgd-10-1 and fgsm at 8/255 (L∞): strong "
            f"is more robust than weak by {100 * expected.value:.1f} points "
            f"(95%: {100 * low:.1f} to {100 * high:.1f}, p < 0.001).",
        )

    def test_main_table_equals_the_files(self):
        (table,) = self.tables(self.found, "run")
        headings = "run method training clean worst_case pgd-10-1 fgsm"
        headings = [each.replace("_", " ") for each in headings.split()]
        self.assertEqual(table.rows[0], tuple(headings))
        for row, name, method in zip(
            table.rows[1:],
            ("weak", "strong"),
            ("fastat", "fastbat"),
            strict=True,
        ):
            results = self.results(name)
            cells = [
                (
                    results["clean_accuracy"],
                    results["clean_confidence_interval"],
                )
            ]
            for group in "worst_case", "attacks":
                cells += [
                    (r["robust_accuracy"], r["confidence_interval"])
                    for r in results[group]
                ]
            written = [
                f"{100 * share:.2f}% ({100 * low:.1f} to {100 * high:.1f})"
                for share, (low, high) in cells
            ]
            spent = f"{results['training_seconds']:.1f} s"
            self.assertEqual(row, (name, method, spent, *written))
        self.assertIn("8/255 (L∞)", table.caption)
        self.assertIn("the same 200 examples", table.caption)

    def test_pairs(self):
        robust, clean = self.tables(self.found, "pair")
        first, second = (
            self.outcomes(n)["robust"].all(0) for n in ("strong", "weak")
        )
        pair, difference, _, only_first, only_second, p, verdict = robust.rows[
            1
        ]
        self.assertEqual(pair, "strong − weak")
        counts = (first & ~second).sum(), (second & ~first).sum()
        self.assertEqual((int(only_first), int(only_second)), counts)
        expected = 100 * (first.mean() - second.mean())
        self.assertEqual(float(difference), round(expected, 2))
        self.assertEqual((p, verdict), ("< 0.001", "first is more robust"))
        self.assertEqual(clean.rows[1][-1], "no difference seen")
        self.assertIn("Bonett and Price", robust.caption)
        self.assertNotIn("Holm", robust.caption)

    def test_what_cannot_be_told_apart(self):
        self.write("same", robustness=0.6)
        first, *_ = self.blocks("weak", "same")
        self.assertRegex(
            first.text,
            "No difference in robustness between weak and same can be seen "
            r"with 200 images: 0\.0 points \(95%: −1\.4 to 1\.4, p = 1\.000\)",
        )

    def test_settings(self):
        (table,) = self.tables(self.found, "setting")
        rows = {row[0]: row[1:] for row in table.rows[1:]}
        self.assertEqual(rows["--method"], ("fastat", "fastbat"))
        self.assertEqual(rows["--step_size"], ("10/255", "5000/255"))
        self.assertEqual(rows["--implicit_lambda"], ("–", "10"))
        self.assertNotIn("--seed", rows)
        self.assertNotIn("--epsilon", rows)  # It does not differ.
        self.assertIn("Seeds: weak: 37; strong: 5.", table.caption)

    def test_cost(self):
        (picture,) = [b for b in self.found if isinstance(b, Picture)]
        text = picture.content.decode()
        for label in "weak", "strong", "training time (seconds)":
            self.assertIn(label, text)
        for name in "weak", "strong":
            results = self.results(name)
            share = results["worst_case"][0]["robust_accuracy"]
            self.assertIn(
                f"{name} {results['training_seconds']:.1f} s, "
                f"{100 * share:.2f}%",
                picture.alt,
            )


class ManyRunsTest(ComparisonTest):
    def test_one_run(self):
        self.write("run")
        text, command = self.blocks("run")
        self.assertIn("one run", text.text)
        self.assertEqual(command.kind, "code")
        self.assertIn(f"--runs={self.directory}/run,", command.text)

    def test_all_pairs_are_corrected(self):
        for k, name in enumerate(("a", "b", "c")):
            self.write(name, robustness=1 + 0.05 * k)
        found = self.blocks("a", "b", "c")
        robust, _ = self.tables(found, "pair")
        shares = {n: self.outcomes(n)["robust"].all(0) for n in "abc"}
        plain = {
            f"{x} − {y}": paired.compare(shares[x], shares[y]).p
            for x, y in ("ca", "cb", "ba")
        }
        corrected = dict(
            zip(plain, paired.holm(list(plain.values())), strict=True)
        )
        self.assertNotEqual(plain, corrected)
        self.assertEqual(
            {row[0]: row[5] for row in robust.rows[1:]},
            {
                name: "< 0.001" if p < 0.0005 else f"{p:.3f}"
                for name, p in corrected.items()
            },
        )
        self.assertIn("3 pairs (Holm, 1979)", robust.caption)
        self.assertRegex(found[0].text, "^c has the highest accuracy of 3")

    def test_many_runs_are_compared_with_the_best(self):
        names = list("abcdef")
        for k, name in enumerate(names):
            self.write(name, robustness=1 + 0.3 * k)
        robust, _ = self.tables(self.blocks(*names), "pair")
        self.assertLen(robust.rows, 6)
        for row in robust.rows[1:]:
            self.assertStartsWith(row[0], "f − ")
        self.assertIn("corrected for 15 pairs", robust.caption)

    def test_other_radii(self):
        for name, robustness in ("a", 1.0), ("b", 2.0):
            self.write(name, epsilons=(USUAL, SMALL), robustness=robustness)
        (others,) = self.tables(self.blocks("a", "b"), "epsilon")
        self.assertEqual(others.rows[0], ("epsilon", "a", "b"))
        (row,) = others.rows[1:]
        self.assertEqual(row[0], "4/255 (L∞)")
        for name, cell in zip("ab", row[1:], strict=True):
            (known,) = (
                r
                for r in self.results(name)["worst_case"]
                if r["epsilon"] == SMALL
            )
            share = f"{100 * known['robust_accuracy']:.2f}%"
            self.assertStartsWith(cell, share)

    def test_the_best_are_equal(self):
        for name, robustness in ("a", 2.0), ("b", 2.0), ("c", 0.3):
            self.write(name, robustness=robustness)
        first, *_ = self.blocks("c", "a", "b")
        self.assertRegex(
            first.text,
            "^a has the highest accuracy of 3 .*%, as b; it is more robust "
            r"than c\.$",
        )

    def test_two_data_sets(self):
        for name, dataset in ("a", "cifar10_mini"), ("c", "mnist"):
            self.write(f"{name}1", dataset=dataset)
            self.write(f"{name}2", dataset=dataset, robustness=3.0)
        found = self.blocks("a1", "c1", "a2", "c2")
        one, two = self.tables(found, "run")
        self.assertEqual([row[0] for row in one.rows[1:]], ["a1", "a2"])
        self.assertEqual([row[0] for row in two.rows[1:]], ["c1", "c2"])
        self.assertEmpty(self.texts(found, "note"))
        pictures = [b.name for b in found if isinstance(b, Picture)]
        self.assertLen(set(pictures), 2)

    def test_nothing_can_be_compared(self):
        self.write("a")
        self.write("mnist", dataset="mnist")
        found = self.blocks("a", "mnist")
        self.assertRegex(found[0].text, "None of these 2 runs can be compared")
        self.assertLen(self.texts(found, "note"), 2)
        self.assertEmpty(self.texts(found, "code"))

    def test_what_is_missing_and_which_command_adds_it(self):
        self.write("a")
        self.write("b")
        self.write("fewer", examples=100)
        self.write("unfinished", unfinished=True, old=True)
        self.write("lost")
        (self.directory / "lost/evaluations/training/outcomes.npz").unlink()
        written_evaluations.write_evaluation(self.directory / "alone")
        found = self.blocks("a", "b", "fewer", "unfinished", "lost", "alone")
        notes = " ".join(self.texts(found, "note"))
        for words in (
            "fewer is not compared: no other run was measured at the same",
            "unfinished is not compared: it has not been measured yet",
            "lost is not compared: its outcomes.npz is missing",
            "The settings of alone are not known",
        ):
            self.assertIn(words, notes)
        measure, resume, again = self.texts(found, "code")
        measured = "--attacks=pgd-10-1,fgsm --epsilons=8/255 --max_examples=200"
        program = "python main.py --mode=evaluate --run_dir="
        self.assertEqual(measure, f"{program}{self.directory}/fewer {measured}")
        self.assertEqual(again, f"{program}{self.directory}/lost {measured}")
        self.assertEndsWith(resume, f"--run_dir={self.directory}/unfinished")
        self.assertLess(
            found.index(Text(measure, "code")),
            found.index(Text(resume, "code")),
        )

    def test_runs_that_share_no_attack(self):
        self.write("a", attacks=("fgsm",))
        self.write("b", attacks=("pgd-10-1",))
        found = self.blocks("a", "b")
        self.assertRegex(
            found[0].text, "is not known: no attack was run on all"
        )
        (table,) = self.tables(found, "run")
        self.assertIn("–", table.rows[1])
        (clean,) = self.tables(found, "pair")
        self.assertIn("Clean accuracy", clean.caption)

    def test_equal_settings(self):
        self.write("a", seed=1)
        self.write("b", seed=2)
        found = self.blocks("a", "b")
        self.assertIn("All settings are the same.", self.texts(found))
        self.assertIn("Seeds: a: 1; b: 2.", self.texts(found, "note"))

    def test_different_devices(self):
        for name, device in ("a", "NVIDIA H100"), ("b", "NVIDIA A100"):
            self.write(name)
            path = self.directory / name / "config.json"
            config = json.loads(path.read_text())
            config["environment"]["device"] = device
            written_evaluations.write_json(path, config)
        notes = " ".join(self.texts(self.blocks("a", "b"), "note"))
        self.assertIn("different devices", notes)
        self.assertIn("NVIDIA H100: a; NVIDIA A100: b", notes)

    def test_settings_of_another_version(self):
        self.write("a")
        self.write("b")
        path = self.directory / "b" / "config.json"
        config = json.loads(path.read_text())
        config["training"]["invented"] = 1
        written_evaluations.write_json(path, config)
        notes = " ".join(self.texts(self.blocks("a", "b"), "note"))
        self.assertIn("b: the settings in its config.json", notes)


class SeedsTest(ComparisonTest):
    def seeds(self, name, method, seeds, **arguments):
        path = self.directory / name
        written_runs.write_seeds(path, method, seeds, **arguments)

    def shares(self, name):
        runs = sorted((self.directory / name).glob("seed-*"))
        return [
            json.loads((run / "results.json").read_text())["worst_case"][0][
                "robust_accuracy"
            ]
            for run in runs
        ]

    def test_groups_of_different_size_and_a_single_run(self):
        self.seeds("bat", "fastbat", (0, 1, 2))
        self.seeds("at", "fastat", (0, 1))
        self.write("plain", "standard", robustness=0.1)
        found = self.blocks("bat", "at", "plain")
        every, over_seeds = self.tables(found, "run")
        self.assertLen(every.rows, 7)
        rows = {row[0]: row for row in over_seeds.rows}
        place = over_seeds.rows[0].index("worst case")
        for name in "bat", "at":
            shares = [100 * share for share in self.shares(name)]
            self.assertEqual(
                rows[name][place],
                f"{statistics.mean(shares):.2f}% ± "
                f"{statistics.stdev(shares):.2f}",
            )
        self.assertEqual(
            [rows[n][2] for n in ("bat", "at", "plain")], list("321")
        )
        self.assertNotIn("±", rows["plain"][place])
        robust, _ = self.tables(found, "pair")
        found = {row[0]: row for row in robust.rows[1:]}
        row = found["bat (3 seeds) − at (2 seeds)"]
        expected = paired.compare_seeds(self.shares("bat"), self.shares("at"))
        low, high = (100 * bound for bound in expected.interval)
        self.assertEqual(row[1], f"{100 * expected.value:.2f}")
        self.assertEqual(row[2], f"{low:.1f} to {high:.1f}".replace("-", "−"))
        self.assertEqual(row[3:5], ("–", "–"))
        self.assertIn("Welch", robust.caption)

    def test_one_group(self):
        self.seeds("bat", "fastbat", (0, 1, 2))
        found = self.blocks("bat")
        shares = [100 * share for share in self.shares("bat")]
        self.assertIn(
            f"Over 3 seeds, bat has {statistics.mean(shares):.2f}% ± "
            f"{statistics.stdev(shares):.2f} accuracy",
            found[0].text,
        )
        self.assertEmpty(self.tables(found, "pair"))
        self.assertEmpty(self.tables(found, "setting"))

    def test_an_unfinished_seed(self):
        self.seeds("bat", "fastbat", (0, 1))
        self.write("bat/seed-2", seed=2, unfinished=True)
        found = self.blocks("bat")
        self.assertRegex(found[0].text, "^Over 2 seeds")
        self.assertIn("bat/seed-2 is not compared", found[-2].text)

    def test_a_group_of_which_one_seed_was_measured(self):
        self.write("bat/seed-0", seed=0)
        self.write("bat/seed-1", seed=1, unfinished=True)
        found = self.blocks("bat")
        self.assertRegex(found[0].text, "None of these 2 runs")


class WordsTest(absltest.TestCase):
    def test_no_hyphen_stands_for_a_minus(self):
        self.assertEqual(pairs.points(-0.0321), "−3.2")
        self.assertEqual(pairs.points(-0.0001), "0.0")

    def test_p_values(self):
        self.assertEqual(pairs.p_value(0.0004), "p < 0.001")
        self.assertEqual(pairs.p_value(0.0006), "p = 0.001")
        self.assertEqual(pairs.p_value(1.0), "p = 1.000")


if __name__ == "__main__":
    absltest.main()
