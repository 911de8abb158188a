"""Shows the progress of long work: lines and, on a terminal, bars.

A process has one terminal, so only one `Display` is shown at a time. The
functions `say`, `result`, `table` and `task` of this module use that one.

```python
from fastbat_tf.runtime import display

with display.shown(verbosity=0):
    display.say("Measuring ...")
    with display.task("pgd-50-10", total=1000) as task:
        task.update(250, detail="73 robust")
```

The lines are the program's output, not a log: they go to the standard output,
without a prefix, above bars that are redrawn. Python's and absl's logging write
to the standard error, and do not distinguish results from other lines.
"""

import contextlib
import faulthandler
import os
import re
import signal
import sys
import threading
import time

from fastbat_tf.runtime import formatting

REFRESHES_PER_SECOND = 4
SLOW_SECONDS = 3.0  # After this, a line explains what takes long.
BAR_WIDTH = 30
# An information line of TensorFlow's C++, "I0000 00:00:17.1 ..." or
# "2026-11-25 19:16:31.123456: I ...".
INFORMATION = re.compile(r"I\d{4} \d\d:\d\d:|\d{4}-\d\d-\d\d [\d:.]+: I ")


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

    def result(self, text):
        """Prints a line at any verbosity."""
        if self._console is None:
            self._print(text)
            return
        # Lines break between words. If a word is too long, such as a path, it
        # must stay whole so that it can be copied.
        longest = max(map(len, text.split()), default=0)
        self._console.print(
            text,
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
        self._bars = _make_bars(self._console)
        self._cleanup.enter_context(
            _stderr_above(self._console, self.verbosity)
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
            self._display.say(self._slow)
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


def _terminal():
    """Returns the `Console` of a terminal, or None if there is no terminal."""
    if sys.stdout is None or not sys.stdout.isatty():
        return None
    from rich.console import Console  # Not needed for a pipe.

    # Keep this file, because `sys.stdout` may be replaced for a while.
    console = Console(file=sys.stdout)
    return console if console.is_interactive else None


def _make_bars(console):
    from rich import progress
    from rich.table import Column
    from rich.text import Text

    class Left(progress.ProgressColumn):
        """The time left, or the time so far if that is unknown."""

        def render(self, task):
            left = task.fields["left"]
            if left is None and task.total and task.completed:
                seconds = task.elapsed / task.completed
                left = seconds * (task.total - task.completed)
            if left is None:
                return Text(formatting.duration(task.elapsed or 0))
            return Text(f"{formatting.duration(left)} left")

    def text(field, **options):
        column = Column(no_wrap=True, overflow="ellipsis", **options)
        return progress.TextColumn(
            f"{{task.{field}}}", markup=False, table_column=column
        )

    return progress.Progress(
        text("description"),
        progress.BarColumn(BAR_WIDTH, table_column=Column(min_width=6)),
        text("fields[count]"),
        text("fields[detail]"),
        Left(table_column=Column(no_wrap=True)),
        console=console,
        refresh_per_second=REFRESHES_PER_SECOND,
        transient=True,
        redirect_stderr=False,
    )


@contextlib.contextmanager
def _stderr_above(console, verbosity):
    """Prints what is written to the standard error above the bars.

    This includes the output of TensorFlow's C++, whose information lines are
    shown only if the verbosity is above 0. If the standard error is not a
    terminal, nothing changes.
    """
    if not os.isatty(2):
        yield
        return
    original = os.dup(2)
    reader, writer = os.pipe()

    def copy():
        with os.fdopen(reader, errors="replace") as lines:
            for line in lines:
                if verbosity <= 0 and INFORMATION.match(line):
                    continue
                console.print(
                    line.rstrip(), markup=False, highlight=False, soft_wrap=True
                )

    thread = threading.Thread(target=copy, daemon=True)
    thread.start()
    os.dup2(writer, 2)
    os.close(writer)
    dumps = faulthandler.is_enabled()
    if dumps:  # After a crash, no thread copies anything.
        faulthandler.enable(original)
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(original, 2)
        if dumps:
            faulthandler.enable(2)
        os.close(original)
        thread.join(1)  # A child process may hold the pipe open.
