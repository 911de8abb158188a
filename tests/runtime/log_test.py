"""Lines with the time, notes and warnings, through a pipe and in a terminal."""

import contextlib
import io
import time
import warnings
from unittest import mock

from absl.testing import absltest, parameterized

from fastbat_tf.runtime import display
from tests.support.terminal import Terminal

RED = "\x1b[1;31m"


def pipe(verbosity=0):
    """Returns what is printed inside the context, and the context."""
    printed = io.StringIO()
    stack = contextlib.ExitStack()
    stack.enter_context(contextlib.redirect_stdout(printed))
    stack.enter_context(display.shown(verbosity))
    return printed, stack


class LogTest(parameterized.TestCase):
    def at(self, *moments):
        """Lets the clock show these moments, one for each line."""
        times = [time.strptime(text, "%Y-%m-%d %H:%M:%S") for text in moments]
        self.enterContext(
            mock.patch.object(time, "localtime", side_effect=times)
        )

    def test_the_time_and_each_new_day(self):
        self.at(
            "2026-11-26 09:05:07", "2026-11-26 23:59:59", "2026-11-27 00:00:01"
        )
        printed, context = pipe()
        with context:
            display.say("a table")
            display.log("one")
            display.log("more", verbosity=1)
            display.log("two\nthree")
            display.log("four")
            display.result("the result")
        lines = [line.rstrip() for line in printed.getvalue().splitlines()]
        dates = [line for line in lines if line.startswith("2026")]
        self.assertLen(dates, 2)
        self.assertEqual(
            [line for line in lines if line not in dates],
            [
                "a table",
                "09:05:07 one",
                "23:59:59 two",
                "         three",
                "00:00:01 four",
                "the result",
            ],
        )
        self.assertEqual(lines.index(dates[0]), 1)
        self.assertEqual(lines.index(dates[1]), 5)
        self.assertStartsWith(dates[1], "2026-11-27")

    def test_only_results(self):
        printed, context = pipe(verbosity=-1)
        with context:
            display.log("one")
            display.note("two")
            display.warn("three")
            display.remarks(["two"], ["three"])
        self.assertEqual(printed.getvalue(), "two\nWARNING: three\n")

    def test_without_a_display(self):
        """In a notebook, lines have no time."""
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            display.log("one")
            display.warn("two")
        self.assertEqual(printed.getvalue(), "one\nWARNING: two\n")

    def test_notes_are_told_once(self):
        printed, context = pipe()
        with context:
            for _ in range(2):
                display.note("before")
                display.remarks(["before", "below"], [])
        self.assertEqual(printed.getvalue().count("before"), 1)
        self.assertEqual(printed.getvalue().count("below"), 1)

    def test_warnings_are_told_once_for_each_model(self):
        printed, context = pipe()
        with context:
            display.warn("masked")
            display.remarks([], ["masked", "another"])
            # Of a second model, that ended before.
            display.remarks([], ["masked"])
            # Of a third.
            display.warn("masked")
            display.warn("random")
            display.remarks([], ["masked", "random"])
        lines = [line[-40:] for line in printed.getvalue().splitlines()[1:]]
        self.assertRegex(lines.pop(0), "^[0-9:]{8} WARNING: masked$")
        self.assertEqual(lines.pop(0), "WARNING: another")
        self.assertEqual(lines.pop(0)[-20:], "quote these numbers.")
        self.assertEqual(lines.pop(0), "WARNING: masked")
        self.assertRegex(lines.pop(0), "^[0-9:]{8} WARNING: masked$")
        self.assertRegex(lines.pop(0), "^[0-9:]{8} WARNING: random$")
        self.assertEqual(
            printed.getvalue().splitlines()[-1],
            "2 warnings above: read them before you quote these numbers.",
        )

    def test_what_the_library_warns_of(self):
        """Users of Python get warnings; the program shows them as its own."""
        with warnings.catch_warnings(record=True) as others:
            warnings.simplefilter("always")
            printed, context = pipe()
            with context:
                warnings.warn("a random layer", stacklevel=1)
                warnings.warn("another", DeprecationWarning, stacklevel=1)
        self.assertRegex(
            printed.getvalue(), r"\n[0-9:]{8} WARNING: a random layer\n$"
        )
        self.assertEqual([str(each.message) for each in others], ["another"])

    @parameterized.parameters({}, {"NO_COLOR": "1"})
    def test_in_a_terminal(self, **environment):
        """Warnings are red, and long lines stay to the right of the time."""
        program = (
            "from fastbat_tf.runtime import display\n"
            "with display.shown():\n"
            "    display.log('word ' * 30)\n"
            "    display.warn('masked gradients')\n"
            "    display.remarks(['a note'], ['masked gradients', 'more'])\n"
        )
        terminal = Terminal("-c", program, **environment)
        self.assertEqual(terminal.end(), 0)
        _, first, second, third, warning, *rest = terminal.lines
        self.assertRegex(first, "^[0-9:]{8} word ")
        for line in (second, third):
            self.assertStartsWith(line, " " * 9 + "word")
            self.assertLessEqual(len(line), 80)
        self.assertRegex(warning, "^[0-9:]{8} WARNING: masked gradients$")
        self.assertEqual(
            rest[:3],
            [
                "a note",
                "WARNING: more",
                "1 warning above: read it before you quote these numbers.",
            ],
        )
        red = 0 if environment else 3
        self.assertEqual(terminal.output.count(RED), red)


if __name__ == "__main__":
    absltest.main()
