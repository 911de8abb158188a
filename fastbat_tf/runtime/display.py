"""Shows the progress of long work: lines and, on a terminal, bars.

A process has one terminal, so only one `Display` is shown at a time. The
functions of this module, such as `log`, `result` and `task`, use that one.

```python
from fastbat_tf.runtime import display

with display.shown(verbosity=0):
    display.log("Measuring ...")
    with display.task("pgd-50-10", total=1000) as task:
        task.update(250, detail="73 robust")
```

The lines go to the standard output, above bars that are redrawn: results as
they are, and what happens in between with the time. Python's and absl's logging
write to the standard error, and do not distinguish results from other lines.
"""

import contextlib
import os
import signal
import sys
import time
import warnings

from fastbat_tf.runtime import bars, formatting

SLOW_SECONDS = 3.0  # After this, a line explains what takes long.
# Of a day, and of a line.
DATE, TIME = "%Y-%m-%d %Z", "%H:%M:%S"
ALERT = "bold red"


class Display:
    """Prints lines to the standard output, on a terminal with bars below.

    In a pipe, a file, a notebook, or a terminal without cursor control
    (`TERM=dumb`) there are only lines, without control characters.

    Args:
        verbosity: Integer. Below 0: only results; 0: also the work and its
            progress; above 0: more lines. Defaults to `0`.
        is_terminal: Boolean; if false, the standard output is never treated as
            a terminal. Defaults to `True`.
    """

    def __init__(self, verbosity=0, is_terminal=True):
        self.verbosity = verbosity
        self._console = _terminal() if is_terminal else None
        self._bars = None
        self._cleanup = contextlib.ExitStack()
        self._tasks = 0
        self._date = None
        self._heading = None
        self._notes = set()
        self._warnings = []

    @property
    def is_shown(self):
        """Whether this is the program's, so that its results follow."""
        return self in _shown

    @property
    def is_live(self):
        """Whether running tasks are shown as bars."""
        return self._console is not None and self.verbosity >= 0

    def say(self, line, verbosity=0):
        """Prints a line if the display is verbose enough.

        Args:
            line: String.
            verbosity: Integer, the lowest verbosity of the display at which the
                line is printed. Defaults to `0`.
        """
        if self.verbosity >= verbosity:
            self.result(line)

    def head(self, text):
        """Prints text above the next line: if none follows, not at all."""
        if not self.is_shown:
            self.say(text)
        elif self.verbosity >= 0:
            self._heading = text

    def log(self, line, verbosity=0, style=None):
        """Prints what happens, as `say`, with the time.

        The date is on a line of its own, at the beginning and on each new day.
        A display that is not shown, such as that of a notebook, prints neither.
        """
        if self.verbosity < verbosity:
            return
        if not self.is_shown:
            self.result(line, style)
            return
        now = time.localtime()
        date = time.strftime(DATE, now)
        if date != self._date:
            self._date = date
            self.result(date)
        stamp = time.strftime(TIME, now)
        lines = formatting.beside(
            stamp, line, self._console and self._console.width
        )
        self.result(lines, style)

    def note(self, line):
        """Prints a line about the input or the machine, but only once."""
        if line not in self._notes and self.verbosity >= 0:
            self._notes.add(line)
            self.log(line)

    def warn(self, text):
        """Prints a warning, on a terminal in red."""
        if self.verbosity >= 0:
            self._warnings.append(text)
        self.log(f"WARNING: {text}", style=ALERT)

    def remarks(self, notes, found):
        """Prints below a table what else there is to know about it.

        Args:
            notes: List of strings; what was told before is left out.
            found: List of warnings. Of those that were printed above, only the
                number is told.
        """
        for line in notes:
            if line not in self._notes:
                self._notes.add(line)
                self.result(line)
        told = [text for text in found if text in self._warnings]
        self._warnings = []  # The next table is that of another model.
        for text in found:
            if text not in told:
                self.result(f"WARNING: {text}", ALERT)
        if told:
            what = f"{len(told)} warnings above: read them"
            if len(told) == 1:
                what = "1 warning above: read it"
            self.result(f"{what} before you quote these numbers.", ALERT)

    def result(self, text, style=None):
        """Prints a line at any verbosity."""
        if self._heading is not None:
            heading, self._heading = self._heading, None
            self.result(heading)
        if self._console is None:
            self._print(text)
            return
        # Lines break between words. If a word is too long, such as a path, it
        # must stay whole so that it can be copied.
        longest = max(map(len, text.split()), default=0)
        self._console.print(
            text,
            style=style,
            markup=False,
            highlight=False,
            emoji=False,
            soft_wrap=longest > self._console.width,
        )

    def _print(self, text):
        try:
            print(text, flush=True)
        except BrokenPipeError:
            if self not in _shown:
                raise
            # Nothing reads the output any more, as after `| head`.
            nothing = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nothing, sys.stdout.fileno())
            signal.raise_signal(signal.SIGINT)

    def table(self, rows):
        """Prints results as a table that fits the terminal.

        Args:
            rows: List of tuples of strings, all of one length. The first has
                the headings.
        """
        if self._console is None:
            self._print("\n".join(formatting.align(rows)))
        else:
            self._console.print(
                formatting.make_table(rows, self._console.width)
            )

    @contextlib.contextmanager
    def task(self, description, total=None, detail="", slow=None):
        """Shows a task, and its progress, for the length of a `with` block.

        Args:
            description: String, the name of the task.
            total: Number of its parts. Defaults to `None`: unknown.
            detail: String, shown after the bar. Defaults to `""`.
            slow: String, a line that is printed if there are no bars and the
                task takes long. Defaults to `None`.

        Yields:
            A `Task`.
        """
        if not self.is_live:
            yield Task(self, slow=slow)
            return
        if self._bars is None:
            self._start()
        self._tasks += 1
        number = self._bars.add_task(
            description, total=total, count="", detail=detail, left=None
        )
        try:
            yield Task(self, self._bars, number)
        finally:
            self._tasks -= 1
            if self._bars is not None:  # A signal may have closed it.
                self._bars.remove_task(number)
                if not self._tasks:
                    self.close()

    def _start(self):
        self._bars = bars.make_bars(self._console)
        self._cleanup.enter_context(
            bars.stderr_above(self._console, self.verbosity)
        )
        self._cleanup.enter_context(self._bars)

    def close(self):
        """Removes the bars, and leaves the terminal as it was."""
        self._bars = None
        self._cleanup.close()

    def end(self, line):
        """Removes the bars, prints a last line, and ignores later lines."""
        verbosity, self.verbosity = self.verbosity, -1
        self.close()
        if verbosity >= 0:
            self.result(line)


class Task:
    """A running task, as `Display.task` yields it.

    Attributes:
        is_live: Boolean, whether the task is shown as a bar.
    """

    def __init__(self, display, bars=None, number=None, slow=None):
        self._display, self._bars, self._number = display, bars, number
        self._slow = slow
        self._start = time.perf_counter()
        self._done = 0
        self.is_live = bars is not None

    def update(self, done, total=None, left=None, **fields):
        """Shows new progress.

        Args:
            done: Number of finished parts.
            total: Number of all parts. Defaults to `None`: unchanged.
            left: Seconds left, if known. Defaults to `None`: estimated from
                the finished parts.
            **fields: The strings `description`, `count` or `detail`.
        """
        self._done = done
        if self.is_live:
            self._bars.update(
                self._number, completed=done, total=total, left=left, **fields
            )
        elif self._slow and time.perf_counter() - self._start > SLOW_SECONDS:
            self._display.log(self._slow)
            self._slow = None

    def advance(self):
        """Counts another finished part."""
        self.update(self._done + 1)


_shown = []  # At most one.


def current():
    """Returns the `Display` that is shown, or else one without bars."""
    return _shown[0] if _shown else Display(is_terminal=False)


def get(verbosity):
    """Returns the `Display` that is shown, or else a new one."""
    return _shown[0] if _shown else Display(verbosity)


@contextlib.contextmanager
def shown(verbosity=0):
    """Shows a `Display` for a `with` block, unless one is shown already.

    Args:
        verbosity: Integer, see `Display`. Defaults to `0`.
    """
    if _shown:
        yield _shown[0]
        return
    display = Display(verbosity)
    _shown.append(display)
    try:
        with _python_warnings(display):
            yield display
    finally:
        _shown.remove(display)
        display.close()


def say(line, verbosity=0):
    """Prints a line on the current display if it is verbose enough.

    Args:
        line: String.
        verbosity: Integer, the lowest verbosity of the display at which the
            line is printed. Defaults to `0`.
    """
    current().say(line, verbosity)


def log(line, verbosity=0):
    """Prints what happens on the current display; see `Display.log`."""
    current().log(line, verbosity)


def note(line):
    """Prints a line once on the current display; see `Display.note`."""
    current().note(line)


def warn(text):
    """Prints a warning on the current display; see `Display.warn`."""
    current().warn(text)


def remarks(notes, found):
    """Prints what follows a table; see `Display.remarks`."""
    current().remarks(notes, found)


def head(text):
    """Prints text on the current display; see `Display.head`."""
    current().head(text)


def result(text):
    """Prints a line on the current display; see `Display.result`."""
    current().result(text)


def table(rows):
    """Prints a table on the current display; see `Display.table`."""
    current().table(rows)


def task(description, total=None, detail="", slow=None):
    """Shows a task on the current display for a `with` block.

    Args:
        description: String, the name of the task.
        total: Number of its parts. Defaults to `None`: unknown.
        detail: String, shown after the bar. Defaults to `""`.
        slow: String, a line that is printed if there are no bars and the task
            takes long. Defaults to `None`.

    Returns:
        A context manager that yields a `Task`.
    """
    return current().task(description, total, detail, slow)


@contextlib.contextmanager
def _python_warnings(display):
    """Shows the warnings that the library issues for users of Python."""
    original = warnings.showwarning

    def show(message, category, *args, **kwargs):
        if category is UserWarning and display.verbosity >= 0:
            display.warn(str(message))
        else:
            original(message, category, *args, **kwargs)

    warnings.showwarning = show
    try:
        yield
    finally:
        warnings.showwarning = original


def _terminal():
    """Returns the `Console` of a terminal, or None if there is no terminal."""
    if sys.stdout is None or not sys.stdout.isatty():
        return None
    from rich.console import Console  # Not needed for a pipe.

    # Keep this file, because `sys.stdout` may be replaced for a while.
    console = Console(file=sys.stdout)
    return console if console.is_interactive else None
