"""Tests of the page, and of the same as Markdown."""

import collections
import re

from absl.testing import absltest, parameterized

from fastbat_tf.experiment.report import charts, markdown, page
from fastbat_tf.experiment.report.blocks import Picture, Section, Table, Text
from tests.support.report_pages import Page

NASTY = """<b>&"'{{ 7 * 7 }}{% x %}$a$ `c` *d* _e_ |f| [g](h) #i ~~j~~"""
KINDS = ("text", "warning", "note", "quote", "code", "heading")


def picture(name, text="label"):
    with charts.style():
        made, axes = charts.figure()
        axes.plot([1, 2], [3, 4], label=text, marker="o")
        axes.set_title(text)
        axes.set_xticks([1, 2], [text, "other"])
        axes.legend()
    return Picture(name, charts.svg(made, name), "svg", text, f"of {text}")


def render(*blocks, title="title"):
    return page.render([Section("Why?", list(blocks))], title, "subtitle")


class PageTest(parameterized.TestCase):
    def test_texts_are_shown_as_they_are(self):
        blocks = [Text(NASTY, kind) for kind in KINDS]
        table = Table([(NASTY, "number"), (NASTY, "1")], NASTY)
        image = Picture("image", b"png", "png", NASTY, NASTY)
        found = Page(
            render(*blocks, table, picture("chart", NASTY), image, title=NASTY)
        )
        self.assertEqual(found.title, NASTY)
        section = found.sections["Why?"]
        self.assertEqual(section.tables, [[(NASTY, "number"), (NASTY, "1")]])
        self.assertEqual(section.warnings, [f"Warning: {NASTY}"])
        self.assertEqual(section.quotes, [NASTY])
        self.assertEqual(section.commands, [NASTY])
        self.assertEqual(section.headings, [NASTY])
        # Text and note, table and its caption, the captions of the pictures.
        self.assertEqual(section.text.count(NASTY), 6 + 2 + 1 + 2)
        self.assertNotIn("b", found.tags)
        names = [v for k, v in found.attributes if k in ("alt", "aria-label")]
        self.assertEqual(names.count(NASTY), 3)

    def test_names_in_charts_are_no_formulas(self):
        text = picture("chart", "costs $5 and $6").content.decode()
        self.assertEqual(text.count(">costs $5 and $6</text>"), 3)

    def test_logarithmic_axes_have_plain_numbers(self):
        made, axes = charts.figure()
        axes.loglog([1, 1000], [0.01, 10])
        text = charts.svg(made, "chart").decode()
        self.assertIn(">100</text>", text)
        self.assertNotIn("mathdefault", text)

    def test_pictures_share_no_ids(self):
        text = render(picture("one"), picture("two"))
        ids = re.findall(r'\bid="([^"]*)"', text)
        repeated = [k for k, n in collections.Counter(ids).items() if n > 1]
        self.assertEqual(repeated, [])
        used = re.findall(r'\burl\(#([^)]*)\)|\bhref="#([^"]*)"', text)
        used = {first or second for first, second in used}
        self.assertNotEmpty(used)
        self.assertContainsSubset(used, ids)

    def test_needs_nothing_else(self):
        image = Picture("image", b"png", "png", "alt", "caption")
        found = Page(render(picture("one"), image))
        self.assertNotIn("script", found.tags)
        for name, value in found.attributes:
            self.assertFalse(name.startswith("on"), name)
            if name in ("src", "href", "xlink:href"):
                self.assertRegex(value, "^(#|data:)")
        self.assertNotIn("@import", render())
        # A browser enforces it, too.
        self.assertIn(
            '"Content-Security-Policy" content="default-src \'none\';',
            render(),
        )

    def test_numbers_stand_below_each_other(self):
        rows = [("a", "b", "c"), ("x", "1.5%", "4 of 5"), ("y", "−2", "none")]
        text = render(Table(rows))
        self.assertIn('<th scope="col" class="digits">b</th>', text)
        self.assertIn('<th scope="col">c</th>', text)
        self.assertIn('<td class="digits">−2</td>', text)
        self.assertIn("<th scope=row>x</th>", text)

    def test_no_line_ends_at_a_hyphen(self):
        command = "main.py --attacks=pgd-10-1,a-b+<c>"
        name = "pgd-10-1 at 1% (0.5 to 1.5)"
        text = render(Text(command, "code"), Table([("x", "y"), (name, "1")]))
        word = '<span class="word">'
        self.assertIn(
            f"<code>main.py {word}{word}--attacks=</span>{word}pgd-10-1,</span>"
            f"{word}a-b+</span>{word}&lt;c&gt;</span></span></code>",
            text,
        )
        self.assertIn(
            f"{word}pgd-10-1</span> at 1% <wbr>(0.5 to 1.5)</th>", text
        )
        section = Page(text).sections["Why?"]
        self.assertEqual(section.commands, [command])
        self.assertEqual(section.tables[0][1], (name, "1"))

    def test_a_table_without_rows(self):
        found = Page(render(Table([("a", "b")])))
        self.assertEqual(found.sections["Why?"].tables, [[("a", "b")]])

    def test_the_same_page_again(self):
        first, again = (render(picture("one"), title=NASTY) for _ in range(2))
        self.assertEqual(first, again)


class MarkdownTest(parameterized.TestCase):
    @parameterized.parameters(
        ("a_b", r"a\_b"),
        ("a | b", r"a \| b"),
        ("<b> & $x$", r"\<b\> \& \$x\$"),
        ("two\nlines", "two lines"),
        ("- item", r"\- item"),
        ("1. item", r"1\. item"),
        ("# title", r"\# title"),
        ("-5", "-5"),
        ("45.12%", "45.12%"),
    )
    def test_texts_are_escaped(self, text, expected):
        self.assertEqual(markdown.escape(text), expected)

    def test_kinds_of_blocks(self):
        blocks = [Text("a", kind) for kind in KINDS]
        text = markdown.render([Section("Why?", blocks)], "t", "s", "files")
        self.assertEqual(
            text,
            "# t\n\ns\n\n## 1. Why?\n\na\n\n> **Warning:** a\n\na\n\n> a\n\n"
            "```\na\n```\n\n### a\n",
        )

    def test_code_with_fences(self):
        blocks = [Text("echo ```", "code")]
        text = markdown.render([Section("Why?", blocks)], "t", "s", "files")
        self.assertIn("````\necho ```\n````", text)

    def test_pictures_are_files(self):
        image = Picture("image", b"png", "png", "a]b", "of it")
        sections = [Section("Why?", [image])]
        text = markdown.render(sections, "t", "s", "files")
        self.assertIn("![a\\]b](files/image.png)\n\nof it", text)
        self.assertEqual(markdown.pictures(sections), {"image.png": b"png"})


if __name__ == "__main__":
    absltest.main()
