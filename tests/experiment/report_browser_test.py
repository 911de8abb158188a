"""Opens a report in headless Chromium: on a desk, on a telephone, on paper."""

import pathlib
import tempfile

import numpy as np
import pytest
from absl.testing import parameterized

from tests.support import browser

TELEPHONE, DESK = 400, 1400

# Has each fault that is looked for.
FAULTY = """<!doctype html><title>x</title><h1>A</h1><h3 id="a">B</h3>
<body style="background: #ff0"><p id="a" style="font-size: 12px">small</p>
<p style="width: 3000px">wide</p><img src="data:image/png;base64,AAAA">
<svg viewBox="0 0 4000 10" width="40"><text font-size="99">tiny</text></svg>
<table><tr><td style="height: 2000px">high</table>
<p style="break-after: page">text</p><p style="break-after: page"></p>
<script>console.warn("!"); fetch("http://127.0.0.1:1/")</script>"""


class BrowserTest(parameterized.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.directory = pathlib.Path(
            cls.enterClassContext(tempfile.TemporaryDirectory())
        )
        cls.browser = cls.enterClassContext(browser.Browser())

    def open(self, path, width=DESK, **options):
        page = self.browser.open(path, width, **options)
        self.addCleanup(page.close)
        return page

    def test_each_fault_is_found(self):
        path = self.directory / "faulty.html"
        path.write_text(FAULTY)
        page = self.open(path, TELEPHONE)
        for fault in (
            browser.BEYOND_THE_WINDOW,
            browser.BROKEN_IMAGES,
            browser.REPEATED_IDS,
        ):
            self.assertNotEmpty(page.evaluate(fault), fault)
        small = page.evaluate(browser.SMALL_TEXT, [14, 8])
        self.assertLen(small, 2)
        self.assertLen(page.evaluate(browser.WITHOUT_ALTERNATIVE), 2)
        self.assertNotEmpty(page.evaluate(browser.CUT_WHEN_PRINTED, 1000))
        print(page.complaints, page.requests, small)
        sheets = browser.printed(page)
        print([(s.text, s.pixels.min(), s.pixels.shape) for s in sheets])
