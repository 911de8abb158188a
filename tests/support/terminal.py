"""Runs a program in a pseudo-terminal, as its user sees it."""

import re
import sys

import pexpect

from tests.support.command_line import TOP, user_environment

# Cursor movements, colors and the like.
CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
HIDDEN, VISIBLE = "\x1b[?25l", "\x1b[?25h"
CTRL_C = "\x03"


class Terminal:
    """Runs Python in a pseudo-terminal.

    Args:
        *arguments: Arguments of Python.
        columns: Integer, the width of the terminal. Defaults to `80`.
        **environment: Environment variables; None removes one.
    """

    def __init__(self, *arguments, columns=80, **environment):
        variables = {**user_environment(), "TERM": "xterm-256color"}
        for name in ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR"):
            variables.pop(name, None)
        variables.update(environment)
        self.output = ""
        self._process = pexpect.spawn(
            sys.executable,
            list(arguments),
            cwd=str(TOP),
            env={k: v for k, v in variables.items() if v is not None},
            dimensions=(30, columns),
            encoding="utf-8",
            timeout=240,
        )

    def wait_for(self, pattern):
        """Waits until it has printed this pattern."""
        self._expect(pattern)

    def _expect(self, pattern):
        try:
            self._process.expect(pattern)
        except (pexpect.EOF, pexpect.TIMEOUT) as error:
            self._process.close(force=True)
            raise AssertionError(
                f"Expected {pattern}. Received: {self.output}"
                f"{self._process.before}"
            ) from error
        after = self._process.after
        self.output += self._process.before
        self.output += after if isinstance(after, str) else ""

    def press(self, key):
        self._process.send(key)

    def resize(self, columns):
        self._process.setwinsize(30, columns)

    def end(self):
        """Waits for its end, and returns its status."""
        self._expect(pexpect.EOF)
        self._process.close()
        if self._process.signalstatus is not None:
            return -self._process.signalstatus
        return self._process.exitstatus

    @property
    def pid(self):
        return self._process.pid

    @property
    def lines(self):
        """Everything that was ever shown, line by line, with the bars."""
        # The echo of Ctrl-C.
        text = CONTROL.sub("", self.output).replace("^C", "")
        return re.split(r"[\r\n]+", text)

    @property
    def is_clean(self):
        """Whether the cursor is visible, and the last line has ended."""
        shown = self.output.rfind(VISIBLE) >= self.output.rfind(HIDDEN)
        return shown and CONTROL.sub("", self.output).endswith("\n")
