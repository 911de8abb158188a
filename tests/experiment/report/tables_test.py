"""Tests of the tables for a paper."""

import json
import re
import statistics

from absl.testing import absltest

from fastbat_tf.errors import InputError
from fastbat_tf.experiment.report import tables, writing
from tests.support import written_runs
from tests.support.runs_test_case import RunsTestCase

SMALL, USUAL, LARGE = 4 / 255, 8 / 255, 16 / 255
NASTY = "a_b & 5% $x$ #1 {c} ~^ <d> |\"e\" 'f' `g`"


class TablesTest(RunsTestCase):
    def results(self, name):
        return json.loads((self.directory / name / "results.json").read_text())

    def percents(self, name):
        """Clean, each attack, and the worst case, as the tables write them."""
        results = self.results(name)
        rows = results["attacks"] + results["worst_case"]
        shares = [row["robust_accuracy"] for row in rows]
        return [f"{100 * s:.2f}" for s in [results["clean_accuracy"], *shares]]

    def markdown(self, *names):
        """The tables: pairs of a caption, and rows of cells."""
        parts = tables.markdown(self.records(*names)).split("\n\n")
        found = []
        for caption, body in zip(parts[::2], parts[1::2], strict=True):
            rows = [line.strip("| ").split(" | ") for line in body.split("\n")]
            self.assertLen({len(row) for row in rows}, 1)
            found.append((caption, [rows[0], *rows[2:]]))
        return found

    def latex(self, *names):
        """The tables: pairs of a caption, and rows of cells."""
        text = tables.latex(self.records(*names))
        self.assertTrue(text.isascii())
        found = []
        for part in text.split("\n\n"):
            self.assertRegex(
                part, r"(?s)^% Needs .*\\begin\{table\}.*\\end\{table\}$"
            )
            (caption,) = re.findall(r"^  \\caption\{(.*)\}$", part, re.M)
            (columns,) = re.findall(r"\\begin\{tabular\}\{(l?r*)\}", part)
            rows = re.findall(r"^    (.*) \\\\$", part, re.M)
            cells = [re.split(r" (?<!\\)& ", row) for row in rows]
            self.assertEqual({len(row) for row in cells}, {len(columns)})
            # Braces that are no text come in pairs.
            plain = re.sub(r"\\[{}]", "", part)
            self.assertEqual(plain.count("{"), plain.count("}"))
            found.append((caption, cells))
        return found

    def test_single_runs(self):
        self.write("weak", "fastat", robustness=0.6)
        self.write("strong", robustness=2.0)
        self.write("plain", "standard", robustness=0.1)
        names = "weak", "strong", "plain"
        ((caption, rows),) = self.markdown(*names)
        self.assertEqual(
            rows[0],
            [
                *("Method", "Clean (%)", "pgd-10-1 (%)", "fgsm (%)"),
                *("Worst case (%)", "Training (s)"),
            ],
        )
        for row, name in zip(rows[1:], names, strict=True):
            cells = [cell.strip("*") for cell in row]
            method = self.read_method(name)
            spent = f"{self.results(name)['training_seconds']:.1f}"
            self.assertEqual(cells, [method, *self.percents(name), spent])
        # All have the same clean accuracy, and one is the most robust.
        bold = [[cell.startswith("**") for cell in row[1:]] for row in rows[1:]]
        self.assertEqual(
            bold,
            [
                [True, False, False, False, False],
                [True, True, True, True, False],
                [True, False, False, False, False],
            ],
        )
        for part in "200 test images", "L∞ epsilon 8/255", "pgd-10-1 and fgsm":
            self.assertIn(part, caption)
        widest = max(
            high - low for name in names for low, high in self.intervals(name)
        )
        self.assertIn(f"at most ± {50 * widest:.1f} points", caption)

    def read_method(self, name):
        path = self.directory / name / "config.json"
        return json.loads(path.read_text())["method"]["method"]

    def intervals(self, name):
        results = self.results(name)
        return [
            results["clean_confidence_interval"],
            *(row["confidence_interval"] for row in results["attacks"]),
        ]

    def test_latex_and_markdown_are_alike(self):
        self.write("a", robustness=0.6)
        self.write("b", robustness=2.0)
        written_runs.write_seeds(self.directory / "seeds", "pgd")
        names = "a", "b", "seeds"
        ((caption, rows),) = self.markdown(*names)
        ((latex_caption, latex_rows),) = self.latex(*names)
        self.assertEqual(self.plain(latex_caption), caption)
        for row, latex_row in zip(rows, latex_rows, strict=True):
            bold = [
                re.sub(r"\\textbf\{(.*)\}", r"**\1**", c) for c in latex_row
            ]
            self.assertEqual([self.plain(cell) for cell in bold], row)

    def plain(self, text):
        text = text.replace(r"$L_\infty$", "L∞").replace(r"$\pm$", "±")
        return text.replace(r"\%", "%").replace("--", "–")

    def test_seeds(self):
        written_runs.write_seeds(self.directory / "bat", seeds=(0, 1, 2))
        written_runs.write_seeds(self.directory / "at", "fastat", seeds=(0, 1))
        self.write("plain", "standard", robustness=0.1)
        ((caption, rows),) = self.markdown("bat", "at", "plain")
        self.assertEqual([row[1] for row in rows], ["Seeds", "3", "2", "1"])
        shares = [
            100
            * self.results(f"bat/seed-{k}")["worst_case"][0]["robust_accuracy"]
            for k in range(3)
        ]
        place = rows[0].index("Worst case (%)")
        mean, deviation = statistics.mean(shares), statistics.stdev(shares)
        self.assertEqual(rows[1][place], f"**{mean:.2f} ± {deviation:.2f}**")
        self.assertNotIn("±", rows[3][place])
        self.assertIn("Mean ± sample standard deviation over seeds", caption)
        self.assertIn("intervals of a single run", caption)

    def test_one_run_has_nothing_in_bold(self):
        self.write("run")
        ((_, rows),) = self.markdown("run")
        self.assertEqual(rows[1][1:-1], self.percents("run"))

    def test_names(self):
        self.write(NASTY)
        self.write("other")
        self.write("plain", "standard")
        ((_, rows),) = self.latex(NASTY, "other", "plain")
        self.assertEqual(
            [row[0] for row in rows[1:]],
            [
                r"fastbat (a\_b \& 5\% \$x\$ \#1 \{c\} \textasciitilde{}"
                r"\textasciicircum{} \textless{}d\textgreater{} \textbar{}"
                r"\textquotedbl{}e\textquotedbl{} \textquotesingle{}f"
                r"\textquotesingle{} \textasciigrave{}g\textasciigrave{})",
                "fastbat (other)",
                "standard",
            ],
        )
        text = tables.markdown(self.records(NASTY, "other", "plain"))
        self.assertIn(r"fastbat (a\_b \& 5% \$x\$ #1 {c} \~^ \<d\> \|", text)

    def test_several_radii_are_one_more_table(self):
        for name, robustness in ("a", 1.0), ("b", 2.0):
            self.write(
                name, epsilons=(USUAL, SMALL, LARGE), robustness=robustness
            )
        (first, _), (caption, rows) = self.latex("a", "b")
        self.assertIn("epsilon 8/255", first)
        self.assertEqual(rows[0], ["Method", r"4/255 (\%)", r"16/255 (\%)"])
        for row, name in zip(rows[1:], "ab", strict=True):
            worst = {
                r["epsilon"]: f"{100 * r['robust_accuracy']:.2f}"
                for r in self.results(name)["worst_case"]
            }
            cells = [re.sub(r"\\textbf\{(.*)\}", r"\1", cell) for cell in row]
            self.assertEqual(cells[1:], [worst[SMALL], worst[LARGE]])
        self.assertIn("by $L_\\infty$ epsilon", caption)

    def test_only_comparable_runs_share_a_table(self):
        self.write("a")
        self.write("mnist", dataset="mnist", robustness=5.0)
        self.write("unfinished", unfinished=True)
        found = self.markdown("a", "mnist", "unfinished")
        self.assertLen(found, 2)
        for _, rows in found:
            self.assertLen(rows, 2)
            self.assertNotIn("**", "".join(rows[1]))

    def test_nothing_was_measured(self):
        self.write("unfinished", unfinished=True)
        for make in tables.latex, tables.markdown:
            with self.assertRaisesRegex(
                InputError, "None of the runs.*unfinished"
            ):
                make(self.records("unfinished"))

    def test_are_what_the_program_prints(self):
        self.write("a")
        records = self.records("a")
        for form, make in (
            ("latex", tables.latex),
            ("markdown", tables.markdown),
        ):
            self.assertEqual(writing.tables(records, form), make(records))


if __name__ == "__main__":
    absltest.main()
