"""Reads a page of the report as a browser does: sections, tables, texts."""

import html.parser
from typing import NamedTuple

VOID = ("meta", "link", "img", "br", "wbr")


class Section(NamedTuple):
    """What a section shows.

    Attributes:
        tables: List of lists of rows, each a tuple of strings.
        warnings: List of strings.
        quotes: List of strings.
        commands: List of strings.
        headings: List of strings, the names of the runs.
        text: String, all of its text but that of the pictures.
    """

    tables: list
    warnings: list
    quotes: list
    commands: list
    headings: list
    text: str


class Page(html.parser.HTMLParser):
    """Reads a page.

    Args:
        text: String, the HTML.

    Attributes:
        title: String.
        sections: Dict from questions to `Section`s.
        tags: List of the names of all elements.
        attributes: List of all pairs of an attribute and its value.
    """

    def __init__(self, text):
        super().__init__()
        self.title = ""
        self.sections, self.tags, self.attributes = {}, [], []
        self._open, self._words, self._texts = [], [], []
        self._row, self._tables, self._found = [], [], {}
        self.feed(text)
        self.close()
        if self._open:
            raise ValueError(f"These elements are not closed: {self._open}")

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag in VOID:
            return
        self._open.append(tag)
        if tag == "section":
            self._texts, self._tables, self._found = [], [], {}
        if tag == "table":
            self._tables.append([])
        if tag == "tr":
            self._row = []
        if tag in ("h1", "h2", "h3", "p", "td", "th", "code", "figcaption"):
            self._words = []
            self._class = dict(attrs).get("class")

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        if self._open.pop() != tag:
            raise ValueError(f"The end of another element: {tag}")
        text = "".join(self._words).strip()
        if tag == "h1":
            self.title = text
        if tag in ("td", "th"):
            self._row.append(text)
        if tag == "tr":
            self._tables[-1].append(tuple(self._row))
        if tag == "h2":
            self._found["question"] = text
        if tag == "p":
            kind = self._class or "text"
            if "blockquote" in self._open:
                kind = "quote"
            self._found.setdefault(kind, []).append(text)
        if tag in ("h3", "code"):
            self._found.setdefault(tag, []).append(text)
        if tag in ("h3", "p", "td", "th", "code", "figcaption"):
            self._texts.append(text)
            self._words = []
        if tag == "section":
            self.sections[self._found["question"]] = Section(
                self._tables,
                self._found.get("warning", []),
                self._found.get("quote", []),
                self._found.get("code", []),
                self._found.get("h3", []),
                "\n".join(self._texts),
            )

    def handle_data(self, data):
        if "svg" not in self._open:
            self._words.append(data)
