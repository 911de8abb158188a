"""Opens a page in headless Chromium, and measures it as a reader sees it."""

import contextlib
import pathlib
import shutil
import unittest
from typing import NamedTuple

import numpy as np
import pypdfium2
from playwright import sync_api

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
# Of a sheet of A4, in pixels of CSS.
SHEET_WIDTH, SHEET_HEIGHT = 794, 1123

# Each is a function of JavaScript, and returns a list of what is wrong.
BEYOND_THE_WINDOW = """() => {
  const width = document.documentElement.clientWidth, found = [];
  if (document.documentElement.scrollWidth > width) found.push("page");
  const scrolls = (node) =>
    node && (["auto", "scroll"].includes(getComputedStyle(node).overflowX)
      || scrolls(node.parentElement));
  for (const node of document.body.querySelectorAll("*")) {
    if (node.ownerSVGElement) continue;
    const box = node.getBoundingClientRect();
    if (box.width && (box.left < -1 || box.right > width + 1)
        && !scrolls(node.parentElement))
      found.push(`${node.outerHTML.slice(0, 80)} ${box.left} ${box.right}`);
  }
  return found;
}"""
SCROLLING = """() => [...document.body.querySelectorAll("*")]
  .filter((node) => node.scrollWidth > node.clientWidth + 1
    && ["auto", "scroll"].includes(getComputedStyle(node).overflowX))
  .map((node) => node.outerHTML.slice(0, 80))"""
# Text inside of a chart shrinks with it, so its size on the screen counts.
SMALL_TEXT = """([least, leastInCharts]) => {
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const found = [];
  while (walker.nextNode()) {
    const text = walker.currentNode.data.trim();
    const node = walker.currentNode.parentElement;
    if (!text || !node.getClientRects().length) continue;
    if (node.closest("style, script, title, desc")) continue;
    let size = parseFloat(getComputedStyle(node).fontSize);
    const chart = node.ownerSVGElement;
    if (chart) {
      const matrix = node.getScreenCTM();
      size *= Math.hypot(matrix.a, matrix.b);
    }
    if (size < (chart ? leastInCharts : least) - 0.01)
      found.push(`${size} px: ${text.slice(0, 40)}`);
  }
  return found;
}"""
BROKEN_IMAGES = """() => [...document.images]
  .filter((image) => !image.complete || !image.naturalWidth)
  .map((image) => image.outerHTML.slice(0, 80))"""
WITHOUT_ALTERNATIVE = """() => [
  ...[...document.images].filter((image) => !image.alt.trim()),
  ...[...document.querySelectorAll("svg")].filter((chart) =>
    chart.getAttribute("role") !== "img"
    || !(chart.getAttribute("aria-label") || "").trim()),
].map((node) => node.outerHTML.slice(0, 80))"""
REPEATED_IDS = """() => {
  const names = [...document.querySelectorAll("[id]")].map((node) => node.id);
  return [...new Set(names.filter((id, i) => names.indexOf(id) !== i))];
}"""
HEADINGS = """() => [...document.querySelectorAll("h1, h2, h3, h4, h5, h6")]
  .map((node) => [Number(node.nodeName[1]), node.textContent.trim()])"""
# What a printer may cut in two. A table is cut between its rows.
CUT_WHEN_PRINTED = """(height) =>
  [...document.querySelectorAll("tr, figure:not(:has(table)), img, svg")]
    .filter((node) => {
      const kept = (each) => each && (getComputedStyle(each).breakInside
        .startsWith("avoid") || kept(each.parentElement));
      // Images and charts are never cut, unless they are higher than a sheet.
      return node.getBoundingClientRect().height > height
        || (["TR", "FIGURE"].includes(node.nodeName) && !kept(node));
    })
    .map((node) => node.outerHTML.slice(0, 80))"""


class Sheet(NamedTuple):
    """A printed page.

    Attributes:
        text: String.
        pixels: uint8 array `(height, width, 3)`, at 72 dots an inch.
    """

    text: str
    pixels: np.ndarray


class Browser(contextlib.ExitStack):
    """Headless Chromium; a context manager.

    Raises:
        unittest.SkipTest: There is no Chromium. One that does not start is an
            error, so that no test is skipped where there is one.
    """

    def __enter__(self):
        program = find_chromium()
        if program is None:
            raise unittest.SkipTest(f"None of {PROGRAMS} is installed.")
        super().__enter__()
        driver = self.enter_context(sync_api.sync_playwright())
        self.chromium = driver.chromium.launch(executable_path=program)
        self.callback(self.chromium.close)
        return self

    def open(self, path, width=1400, **options):
        """Opens a file, and waits until all is loaded.

        Args:
            path: Path of a file of HTML.
            width: Integer, of the window. Defaults to `1400`.
            **options: Arguments of `playwright.sync_api.Browser.new_page`.

        Returns:
            A `playwright.sync_api.Page`; its attribute `complaints` is the list
            of messages in its console, and `requests` the list of the
            addresses that it has asked for.
        """
        page = self.chromium.new_page(
            viewport={"width": width, "height": 900}, **options
        )
        page.complaints, page.requests = [], []
        page.on("console", lambda said: page.complaints.append(said.text))
        page.on("pageerror", lambda error: page.complaints.append(str(error)))
        page.on("request", lambda request: page.requests.append(request.url))
        page.goto(pathlib.Path(path).absolute().as_uri())
        return page


def find_chromium():
    """Returns the path of the program; None if there is none."""
    for program in PROGRAMS:
        if found := shutil.which(program) or shutil.which(
            program, path="/usr/bin"
        ):
            return found
    return None


def printed(page):
    """Prints on A4, and returns the list of `Sheet`s."""
    document = pypdfium2.PdfDocument(
        page.pdf(format="A4", print_background=False)
    )
    return [
        Sheet(
            sheet.get_textpage().get_text_bounded(),
            sheet.render().to_numpy(),
        )
        for sheet in document
    ]
