"""The tables of measured accuracies are those of the committed files."""

import json
import math
import re

from absl.testing import absltest, parameterized

from benchmarks import label_leak, study_table
from tests.support.command_line import TOP
from tests.support.documentation import read_tables

RESULTS = json.loads((TOP / "docs" / "results.json").read_text())
# How the rows of docs/results.md name what a run was trained with.
METHODS = {
    "Fast-BAT": {"method": "fastbat", "implicit_lambda": 10.0},
    "Fast-BAT without the implicit term": {
        "method": "fastbat",
        "implicit_lambda": "inf",
    },
    "Fast-AT": {"method": "fastat"},
    "GradAlign": {"method": "gradalign"},
    "PGD-2": {"method": "pgd", "steps": 2},
}
# What the paper says, and no run.
PUBLISHED = "as published"
TENSORFLOW = "`main.py` on TensorFlow"
ATTACKS = {
    "PGD-50-10": "pgd-50-10",
    "APGD-CE": "apgd-ce",
    "APGD-CE + APGD-T": "apgd-ce+apgd-t",
}
THOUSAND = r"1,000( images)?"


def find_run(title, radius):
    """Returns the run of a row of docs/results.md."""
    title = re.split(", ", title)[0]
    runs = [
        run
        for run in RESULTS["runs"]
        if METHODS[title].items()
        <= {**run["method"]["options"], **run["method"]}.items()
        and math.isclose(run["method"]["options"]["epsilon"], radius / 255)
    ]
    (run,) = runs
    return run


def find_attack(rows, attack, examples):
    """Returns the row of an attack on so many images."""
    (row,) = (
        row
        for row in rows
        if (row["attack"], row["examples"]) == (attack, examples)
    )
    return row


class ResultsPageTest(parameterized.TestCase):
    """docs/results.md and docs/results.json."""

    def check(self, cell, share):
        """A cell shows a share in percent, rounded as far as it is written."""
        text = re.sub(r" \(.*\)", "", cell)
        digits = len(text.partition(".")[2])
        self.assertEqual(text, f"{100 * share:.{digits}f}")

    @parameterized.parameters(8, 16)
    def test_accuracies(self, radius):
        heads, *rows = self.table(f"epsilon = {radius}/255")
        checked = 0
        for title, *cells in rows:
            if PUBLISHED in title:
                continue
            if TENSORFLOW in title:
                run = RESULTS["tensorflow"]
                clean = run["clean_accuracy"]
            else:
                run, clean = find_run(title, radius), None
            for head, cell in zip(heads[1:], cells, strict=True):
                if not cell:
                    continue
                few = re.search(THOUSAND, f"{title} {cell}")
                examples = 1_000 if few else 10_000
                if head == "clean":
                    attacks = (
                        row
                        for row in run["attacks"]
                        if row["examples"] == examples
                    )
                    share = clean or next(attacks)["clean_accuracy"]
                else:
                    share = find_attack(
                        run["attacks"], ATTACKS[head], examples
                    )["robust_accuracy"]
                self.check(cell, share)
                checked += 1
        self.assertGreater(checked, 10)

    def test_costs(self):
        _, *rows = self.table("Cost")
        for title, step, epoch, training, memory in rows:
            run = find_run(title, 8)
            history = run["history"]
            # Medians over the epochs, as the page says.
            steps = median(e["milliseconds_per_step"] for e in history)
            epochs = median(e["seconds"] for e in history)
            self.assertAlmostEqual(float(step), steps, delta=0.06)
            self.assertAlmostEqual(float(epoch), epochs, delta=0.06)
            self.assertEqual(training, f"{run['training_seconds']:.0f}")
            peak = run.get("training_peak_memory_mib")
            if peak:
                self.assertEqual(memory, f"{peak:,} MiB")

    def test_the_implicit_term(self):
        page = read_page("docs/results.md")
        for radius, pattern in (
            (
                8,
                r"is ([\d.]+) % as long as .* cosine of ([\d.]+) .* (\d+) % of",
            ),
            (16, r"16/255 these are ([\d.]+) %, ([\d.]+) and (\d+) %"),
        ):
            ratio, cosine, interior = re.search(pattern, page).groups()
            last = find_run("Fast-BAT", radius)["history"][-1]
            self.assertEqual(ratio, f"{100 * last['implicit_ratio']:.2f}")
            self.assertEqual(cosine, f"{last['implicit_cosine']:.2f}")
            # 67.5 % may be written as 67 or as 68.
            share = 100 * last["interior_fraction"]
            self.assertAlmostEqual(int(interior), share, delta=0.51)

    def table(self, heading):
        return read_tables("docs/results.md")[heading][0]


STUDIES = {"implicit_term": 5, "step_size": 3}
PAGE = "docs/implicit_gradient.md"


class StudiesTest(parameterized.TestCase):
    """docs/implicit_gradient.md and the files of the studies."""

    @parameterized.parameters(*STUDIES)
    def test_the_table(self, name):
        rows = read_study(name)["rows"]
        self.assertGreaterEqual(len(rows), STUDIES[name])
        self.assertEqual(read_between(name), study_table.table(rows))

    def test_the_table_of_the_leak(self):
        rows = json.loads((TOP / "docs" / "label_leak.json").read_text())
        self.assertEqual(read_between("label_leak"), label_leak.table(rows))

    @parameterized.parameters(*STUDIES)
    def test_every_run_is_kept(self, name):
        """results.json of a run says what the table of its study says."""
        for row in read_study(name)["rows"]:
            for numbers in row["seeds"]:
                file = f"{row['row']}-seed-{numbers['seed']}.json"
                path = TOP / "docs/results" / name / file
                kept = json.loads(path.read_text())
                accuracy = numbers["accuracy"]
                self.assertEqual(kept["clean_accuracy"], accuracy["clean"])
                for attack in kept["attacks"]:
                    self.assertEqual(
                        attack["robust_accuracy"], accuracy[attack["attack"]]
                    )
                self.assertRegex(numbers["commit"], "^[0-9a-f]{7,}$")

    @parameterized.parameters(*STUDIES)
    def test_the_command(self, name):
        command = read_study(name)["command"]
        words = " ".join(read_page(PAGE).replace("\\", "").split())
        self.assertIn(command, words)

    def test_figures_of_long_trainings(self):
        """The table of what was measured on a GPU, with and without."""
        ((_, *rows),) = read_tables(PAGE)["In long trainings"]
        self.assertLen(rows, 4)
        for epsilon, term, *cells in rows:
            title = "Fast-BAT" + (
                " without the implicit term" if term == "without" else ""
            )
            attacks = find_run(title, int(epsilon.split("/")[0]))["attacks"]
            pgd = find_attack(attacks, "pgd-50-10", 10_000)
            shares = [pgd["clean_accuracy"], pgd["robust_accuracy"]]
            for cell, share in zip(cells, shares, strict=True):
                self.assertEqual(cell, f"{100 * share:.2f}")


def read_study(name):
    """Returns the numbers of a study."""
    return json.loads((TOP / "docs" / f"{name}.json").read_text())


def read_between(name):
    """Returns the lines of the page between the comments with this name."""
    block = re.search(
        rf"(?s)<!-- begin: {name} -->\n\n(.*?)\n\n<!-- end: {name} -->",
        (TOP / PAGE).read_text(),
    )
    return block[1].splitlines()


def median(values):
    values = sorted(values)
    middle = len(values) // 2
    if len(values) % 2:
        return values[middle]
    return (values[middle - 1] + values[middle]) / 2


def read_page(name):
    """Returns the text of a page, on one line."""
    return " ".join((TOP / name).read_text().split())


if __name__ == "__main__":
    absltest.main()
