"""Opens a report in headless Chromium: on a desk, on a telephone, on paper."""

import pathlib
import re
import tempfile

import numpy as np
import pytest
from absl.testing import absltest, parameterized

from fastbat_tf.experiment.report import record, writing
from tests.support import browser
from tests.support.command_line import TOP
from tests.support.written_evaluations import write_evaluation
from tests.support.written_runs import write_run, write_seeds

TELEPHONE, DESK = 400, 1400
# Pixels. Charts shrink on a telephone, where a reader can enlarge them.
LEAST_TEXT, LEAST_TEXT_IN_CHARTS = 14, 8
# Of a sheet of A4 within its margins.
PRINTED_HEIGHT = 1000

# Has each of the faults that are looked for.
FAULTY = """<!doctype html><title>x</title><h1>A</h1><h3 id="a">B</h3>
<body><p id="a" style="font-size: 12px">small</p>
<p style="width: 3000px">wide</p><img src="data:image/png;base64,AAAA">
<svg viewBox="0 0 4000 10" width="40"><text font-size="99">tiny</text></svg>
<table><tr><td style="height: 2000px">high</table>
<p style="break-after: page">text</p><p style="break-after: page"></p>
<script>console.warn("!"); fetch("http://127.0.0.1:1/")</script>"""


def _runs(directory):
    """Two runs with everything that a page can show."""
    return [
        write_run(
            directory / method,
            method,
            attacks=("fgsm", "pgd-10-1", "autoattack"),
            epsilons=(2 / 255, 8 / 255, 32 / 255),
            examples=40,
            robustness=robustness,
            surface=True,
            warnings=[f"A warning about {method}, in its own words."],
        )
        for method, robustness in (("fastbat", 1), ("standard", 0.1))
    ]


def _rare_cases(directory):
    """Runs that lack something, and names that do not break."""
    long = directory / f"a_name_{20 * 'without_end_'}"
    write_evaluation(
        directory / "measured",
        examples=20,
        model=f"{20 * 'models_'}/model.keras",
        class_names=[10 * "long" + str(k) for k in range(10)],
    )
    return [
        write_run(directory / "old", "trades", old=True, examples=20),
        write_run(directory / "killed", "pgd", unfinished=True, rollback=True),
        write_seeds(directory / "seeds", "fastat", (0, 1), examples=20),
        write_run(long, examples=20, epochs=1, gallery=False),
        directory / "measured",
    ]


class ReportBrowserTest(parameterized.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.browser = cls.enterClassContext(browser.Browser())
        cls.directory = pathlib.Path(
            cls.enterClassContext(tempfile.TemporaryDirectory())
        )

    def report(self, name):
        """Returns the path of a report, written at its first use."""
        if name == "example":
            return TOP / "docs/example_report/report.html"
        directory = self.directory / name
        path = directory / "report.html"
        if not path.exists():
            runs = {"runs": _runs, "rare": _rare_cases}[name](directory)
            writing.write(record.read(runs), directory)
        return path

    def open(self, path=None, width=DESK, **options):
        path = path or self.report("runs")
        page = self.browser.open(path, width, **options)
        self.addCleanup(page.close)
        return page

    def find(self, page, fault, *arguments):
        """Fails if a page has a fault."""
        self.assertEqual(page.evaluate(fault, *arguments), [], fault)

    @parameterized.product(
        report=("runs", "rare", "example"), width=(TELEPHONE, DESK)
    )
    @pytest.mark.quick("runs", "example")
    def test_is_readable(self, report, width):
        page = self.open(self.report(report), width)
        self.assertEqual(page.complaints, [])
        self.find(page, browser.BEYOND_THE_WINDOW)
        self.find(page, browser.SMALL_TEXT, [LEAST_TEXT, LEAST_TEXT_IN_CHARTS])
        self.find(page, browser.BROKEN_IMAGES)

    def test_tables_of_few_runs_fit_a_desk(self):
        self.find(self.open(), browser.SCROLLING)

    def test_needs_nothing_else(self):
        page = self.open()
        others = [r for r in page.requests if not r.startswith("data:")]
        self.assertEqual(others, [self.report("runs").as_uri()])
        self.assertEqual(page.evaluate("document.scripts.length"), 0)
        plain = self.open(java_script_enabled=False)
        self.assertEqual(plain.inner_text("body"), page.inner_text("body"))

    @parameterized.parameters("runs", "rare")
    @pytest.mark.quick("runs")
    def test_is_ordered(self, report):
        page = self.open(self.report(report))
        self.find(page, browser.REPEATED_IDS)
        self.find(page, browser.WITHOUT_ALTERNATIVE)
        self.assertTrue(page.title())
        self.assertTrue(page.evaluate("document.documentElement.lang"))
        levels, texts = zip(*page.evaluate(browser.HEADINGS), strict=True)
        self.assertEqual((levels[0], levels.count(1)), (1, 1))
        self.assertLessEqual(max(np.diff(levels)), 1)
        questions = [part.QUESTION for part in writing.PARTS]
        asked = [text for k, text in zip(levels, texts, strict=True) if k == 2]
        self.assertLen(asked, len(questions))
        for text, question in zip(asked, questions, strict=True):
            self.assertEndsWith(text, question)

    @parameterized.parameters("runs", "rare")
    @pytest.mark.quick("runs")
    def test_prints(self, report):
        page = self.open(self.report(report), browser.SHEET_WIDTH)
        page.emulate_media(media="print")
        self.find(page, browser.CUT_WHEN_PRINTED, PRINTED_HEIGHT)
        sheets = browser.printed(page)
        for number, sheet in enumerate(sheets):
            self.assertTrue(sheet.text.strip(), f"sheet {number} is empty")
            self.assertEqual(sheet.pixels[0, 0].tolist(), [255, 255, 255])
            dark = (sheet.pixels < 80).all(axis=-1)
            self.assertGreater(dark.sum(), 50)
        printed = re.sub(r"\s+", "", "".join(sheet.text for sheet in sheets))
        for part in writing.PARTS:
            self.assertIn(part.QUESTION.replace(" ", ""), printed)

    def test_each_fault_is_found(self):
        path = self.directory / "faulty.html"
        path.write_text(FAULTY)
        page = self.open(path, TELEPHONE)
        for fault, count in (
            (browser.BEYOND_THE_WINDOW, 2),
            (browser.BROKEN_IMAGES, 1),
            (browser.REPEATED_IDS, 1),
            (browser.WITHOUT_ALTERNATIVE, 2),
        ):
            self.assertLen(page.evaluate(fault), count, fault)
        self.assertLen(page.evaluate(browser.SMALL_TEXT, [14, 8]), 2)
        self.assertLen(page.evaluate(browser.CUT_WHEN_PRINTED, 1000), 1)
        self.assertIn("!", page.complaints)
        self.assertGreater(len(page.requests), 1)
        texts = [sheet.text for sheet in browser.printed(page)]
        self.assertEqual(texts[-1], "")


if __name__ == "__main__":
    absltest.main()
