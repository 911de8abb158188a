"""What a person sees, in pseudo-terminals and through pipes."""

import contextlib
import io
import os
import signal
import subprocess
import sys
import textwrap

from absl.testing import absltest, parameterized

from fastbat_tf.runtime import bars, display
from tests.support.command_line import TOP
from tests.support.terminal import CONTROL, CTRL_C, HIDDEN, Terminal

HEAD = """
import os, sys, time
from fastbat_tf.runtime import bars, display
from fastbat_tf.experiment.preemption import Preempted, Preemption

"""
WORK = """
with display.shown(int(os.environ.get("VERBOSITY", "0"))):
    display.say("before " + 30 * "word ")
    display.say("more", verbosity=1)
    with display.task("first [task]", 10, "a detail") as task:
        for k in range(1, 11):
            time.sleep(0.06)
            task.update(k, count=f"{k}/10")
            if k == 5:
                display.say("between")
                print("printed", flush=True)
                os.write(2, b"2026-11-25 19:16:31.1234: I tsl/x.cc:1] told\\n")
                os.write(2, b"I0000 00:00:17.1 4447 x.cc:1] told\\n")
                os.write(2, b"of C++\\n")
                sys.stderr.write("of Python\\n")
        with display.task("second"):
            time.sleep(0.3)
    display.table([("attack", "epsilon"), ("a+" * 40 + "z", "8/255")])
    display.result("after")
"""


def program(text):
    return "-c", HEAD + textwrap.dedent(text)


def pipe(text, **environment):
    return subprocess.run(
        [sys.executable, *program(text)],
        cwd=TOP,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


class TerminalTest(parameterized.TestCase):
    @parameterized.parameters(80, 200, 40)
    def test_bars_and_lines(self, columns):
        terminal = Terminal(*program(WORK), columns=columns)
        self.assertEqual(terminal.end(), 0, terminal.output)
        self.assertTrue(terminal.is_clean)
        self.assertIn(HIDDEN, terminal.output)  # A bar was shown.
        for line in terminal.lines:
            self.assertLessEqual(len(line), columns, line)
        seen = "\n".join(terminal.lines)
        self.assertRegex(seen, r"first \[.*━.*\d")
        self.assertRegex(seen, "second.*━")
        for line in ("between", "printed", "of C++", "of Python", "after"):
            self.assertIn(line, terminal.lines)
        self.assertNotIn("more", terminal.lines)
        # The name breaks between attacks, and nowhere else.
        name = seen[seen.rindex("─\n") + 2 : seen.rindex("\nafter")]
        parts = name.replace("8/255", "").split()
        self.assertEqual("".join(parts), "a+" * 40 + "z")
        for part in parts[:-1]:
            self.assertEndsWith(part, "+")

    def test_nothing_is_left_of_what_was_live(self):
        terminal = Terminal(*program(WORK))
        terminal.end()
        end = terminal.output[terminal.output.rindex("second") :]
        # The line of each of the two bars is erased.
        self.assertGreaterEqual(end.count("\x1b[2K"), 2)

    def test_resized(self):
        terminal = Terminal(*program(WORK), columns=100)
        terminal.wait_for("first")
        terminal.resize(60)
        self.assertEqual(terminal.end(), 0)
        self.assertTrue(terminal.is_clean)
        last = terminal.lines[terminal.lines.index("after") - 5 :]
        for line in last:
            self.assertLessEqual(len(line), 60)

    def test_no_color(self):
        for environment in ({}, {"NO_COLOR": "1"}):
            terminal = Terminal(*program(WORK), **environment)
            terminal.end()
            colors = [
                code
                for code in CONTROL.findall(terminal.output)
                if code.endswith("m") and ("3" in code or "4" in code)
            ]
            self.assertEqual(bool(colors), not environment, colors)

    def test_a_terminal_without_a_cursor(self):
        terminal = Terminal(*program(WORK), TERM="dumb")
        self.assertEqual(terminal.end(), 0)
        self.assertNotIn("\x1b", terminal.output)
        self.assertNotIn("━", terminal.output)
        self.assertIn("between", terminal.lines)

    @parameterized.parameters(
        (-1, False, False), (0, True, False), (1, True, True)
    )
    def test_verbosity(self, verbosity, says, says_more):
        terminal = Terminal(*program(WORK), VERBOSITY=str(verbosity))
        terminal.end()
        self.assertEqual("between" in terminal.lines, says)
        self.assertEqual("more" in terminal.lines, says_more)
        # C++'s information lines.
        if says:
            for line in ("4447 x.cc:1] told", "tsl/x.cc:1] told"):
                self.assertEqual(line in terminal.output, says_more)
        self.assertEqual(HIDDEN in terminal.output, says)
        self.assertIn("after", terminal.lines)

    def test_only_information_is_left_out(self):
        for line, expected in (
            ("I0000 00:00:1764098191.5 44 cuda.cc:477] Registered", True),
            ("2026-11-25 19:16:31.123456: I tensorflow/core/x.cc:2] a", True),
            ("W0000 00:00:1764098191.5 44 cuda.cc:477] Registered", False),
            ("2026-11-25 19:16:31.123456: W tensorflow/core/x.cc:2] a", False),
            ("2026-11-25 19:16:31.123456: E tensorflow/core/x.cc:2] a", False),
            ("It is 19:16:31: I am here", False),
        ):
            found = bars.INFORMATION.match(line) is not None
            self.assertEqual(found, expected, line)

    def test_an_error_leaves_it_clean(self):
        terminal = Terminal(
            *program("""
            with display.shown(), display.task("work"):
                time.sleep(0.3)
                raise ValueError("the error")
            """)
        )
        self.assertEqual(terminal.end(), 1)
        self.assertTrue(terminal.is_clean)
        self.assertEqual(terminal.lines[-2], "ValueError: the error")

    def test_in_a_program_of_somebody_else(self):
        """As in `evaluate_robustness`, with Python's KeyboardInterrupt."""
        terminal = Terminal(
            *program("""
            with display.get(1).task("work"):
                time.sleep(50)
            """)
        )
        terminal.wait_for("work")
        terminal.press(CTRL_C)
        self.assertEqual(terminal.end(), -signal.SIGINT)
        self.assertTrue(terminal.is_clean)
        self.assertEqual(terminal.lines[-2], "KeyboardInterrupt")

    def test_ctrl_c(self):
        terminal = Terminal(
            *program("""
            with display.shown(), Preemption(tells=True):
                with display.task("work"):
                    time.sleep(50)
            """)
        )
        terminal.wait_for("work")
        terminal.press(CTRL_C)
        self.check_stopped(terminal)

    def check_stopped(self, terminal):
        self.assertEqual(terminal.end(), 130, terminal.output)
        self.assertTrue(terminal.is_clean, terminal.output)
        self.assertNotIn("Traceback", terminal.output)
        self.assertEqual(
            terminal.lines[-2],
            "Stopped by Ctrl-C; run the same command to resume.",
        )

    def test_ctrl_c_in_what_can_be_lost(self):
        """It does not wait: a compilation may take minutes."""
        terminal = Terminal(
            *program("""
            with display.shown(), Preemption(tells=True) as preemption:
                with display.task("work"), preemption.deferred():
                    with preemption.expendable():
                        time.sleep(50)
            """)
        )
        terminal.wait_for("work")
        terminal.press(CTRL_C)
        self.check_stopped(terminal)

    def test_the_second_ctrl_c(self):
        terminal = Terminal(
            *program("""
            with display.shown(), Preemption(tells=True) as preemption:
                with display.task("work"), preemption.deferred():
                    time.sleep(50)
            """)
        )
        terminal.wait_for("work")
        terminal.press(CTRL_C)
        terminal.wait_for("Ctrl-C again stops at once")
        terminal.press(CTRL_C)
        self.check_stopped(terminal)


class PipeTest(parameterized.TestCase):
    LINES = (
        "before " + 30 * "word ",
        "between",
        "printed",
        "attack" + 76 * " " + "  epsilon",
        "a+" * 40 + "z    8/255",
        "after",
    )

    @parameterized.parameters({}, {"FORCE_COLOR": "1"}, {"COLUMNS": "40"})
    def test_lines(self, **environment):
        process = pipe(WORK, **environment)
        lines = process.stdout.split("\n")
        self.assertEqual(lines[:3], [*self.LINES[:3]])
        table = [line.split() for line in self.LINES[3:5]]
        self.assertEqual([line.split() for line in lines[3:5]], table)
        self.assertEqual(lines[5:], ["after", ""])
        self.assertEndsWith(process.stderr, "] told\nof C++\nof Python\n")

    def test_verbosity(self):
        for verbosity, count in ((-1, 4), (0, 6), (1, 7)):
            process = pipe(WORK, VERBOSITY=str(verbosity))
            self.assertLen(process.stdout.splitlines(), count)

    def test_what_takes_long_is_worth_a_line(self):
        text = """
        display.SLOW_SECONDS = 0.2
        with display.shown(), display.task("reading", 3, slow="Slow.") as task:
            for k in range(3):
                time.sleep(PAUSE)
                task.advance()
        """
        process = pipe(text.replace("PAUSE", "0.15"))
        date, line = process.stdout.splitlines()
        self.assertRegex(date, r"^\d{4}-\d\d-\d\d")
        self.assertRegex(line, r"^\d\d:\d\d:\d\d Slow\.$")
        process = pipe(text.replace("PAUSE", "0"))
        self.assertEqual(process.stdout, "")

    def test_nobody_listens(self):
        """After `| head -1` it ends silently, as after Ctrl-C."""
        process = subprocess.Popen(
            [
                sys.executable,
                *program("""
                with display.shown(), Preemption(tells=True) as preemption:
                    try:
                        for k in range(300):
                            with preemption.deferred():
                                display.say("line")
                                time.sleep(0.1)
                    except Preempted:
                        print("saves", file=sys.stderr)
                        raise
                """),
            ],
            cwd=TOP,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        process.stdout.readline()
        process.stdout.close()
        self.assertEqual(process.wait(30), 130)
        self.assertEqual(process.stderr.read(), "saves\n")

    def test_no_standard_output(self):
        process = subprocess.run(
            [
                "bash",
                "-c",
                'exec "$@" >&-',
                "-",
                sys.executable,
                *program(WORK),
            ],
            cwd=TOP,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
        )
        self.assertEqual(process.returncode, 0, process.stderr)

    def test_without_a_display(self):
        """In a notebook there are lines, and no bars."""
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            display.say("a line")
            display.say("not this one", verbosity=1)
            with display.task("work", 3) as task:
                task.advance()
        self.assertEqual(printed.getvalue(), "a line\n")

    def test_one_at_a_time(self):
        with display.shown(-1) as outer, display.shown(1) as inner:
            self.assertIs(inner, outer)
            self.assertIs(display.get(1), outer)
        self.assertIsNot(display.current(), outer)


if __name__ == "__main__":
    absltest.main()
