"""What a person sees of long work: lines, and on a terminal what goes on.

A process has one terminal, so one `Display` is shown at a time; the functions
`say`, `result` and `task` are those of it.

```python
with display.shown(verbosity=0):
    display.say("Measuring ...")
    with display.task("pgd-50-10", total=1000) as task:
        task.update(250, detail="73 standing")
```
"""

import contextlib
import faulthandler
import os
import re
import signal
import sys
import threading
import time

REFRESHES_PER_SECOND = 4
SLOW_SECONDS = 3.0  # What takes longer is worth a line in a file.
BAR_WIDTH = 30
# A line of TensorFlow's C++, "I0000 00:00:17.1 ..." or
# "2026-11-25 19:16:31.123456: I ...".
INFORMATION = re.compile(r"I\d{4} \d\d:\d\d:|\d{4}-\d\d-\d\d [\d:.]+: I ")


class Display:
    """Lines on the standard output and, on a terminal, bars below them.

    In a pipe, in a file, in a notebook and on a terminal that knows no cursor
    (`TERM=dumb`) there are lines alone, without control characters.

    Args:
        verbosity: Integer. Below 0: results alone; 0: also what is done and how
            far it is; above 0: more lines.
        is_terminal: Whether the standard output may be taken for one.
    """

    def __init__(self, verbosity=0, is_terminal=True):
        self.verbosity = verbosity
        self._console = _terminal() if is_terminal else None
        self._bars = None
        self._cleanup = contextlib.ExitStack()
        self._tasks = 0

    @property
    def is_live(self):
        """Whether tasks are shown while they last."""
        return self._console is not None and self.verbosity >= 0

    def say(self, line, verbosity=0):
        """Prints a line, unless the display is less talkative than that."""
        if self.verbosity >= verbosity:
            self.result(line)

    def result(self, text):
        """Prints what is wanted in any case."""
        if self._console is None:
            self._print(text)
            return
        # Between words, but for what is to be copied, such as a long path.
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
            # As after `| head`: nobody listens any more.
            nothing = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nothing, sys.stdout.fileno())
            signal.raise_signal(signal.SIGINT)

    def table(self, rows):
        """Prints results as a table, which fits the terminal.

        Args:
            rows: Tuples of strings, of one length; the first are the headings.
        """
        if self._console is None:
            self._print("\n".join(align(rows)))
        else:
            self._console.print(_make_table(rows, self._console.width))

    @contextlib.contextmanager
    def task(self, description, total=None, detail="", slow=None):
        """Shows that something lasts, and how far it is.

        Args:
            description: String, what is done.
            total: Number of its parts; None if that is not known.
            detail: String, more about it.
            slow: A line that is said where nothing is live, if it takes long.

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
            if self._bars is not None:  # A signal has not closed it.
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
        """Takes the bars away, and leaves the terminal as it was."""
        self._bars = None
        self._cleanup.close()

    def end(self, line):
        """Says the last line: nothing is live any more."""
        verbosity, self.verbosity = self.verbosity, -1
        self.close()
        if verbosity >= 0:
            self.result(line)


class Task:
    """Something that lasts; without bars it does nothing.

    Attributes:
        is_live: Whether somebody sees it.
    """

    def __init__(self, display, bars=None, number=None, slow=None):
        self._display, self._bars, self._number = display, bars, number
        self._slow = slow
        self._start = time.perf_counter()
        self._done = 0
        self.is_live = bars is not None

    def update(self, done, total=None, left=None, **fields):
        """Says how far it is.

        Args:
            done: Number of parts.
            total: Number of all, if it has changed.
            left: Seconds left, if that is known better than from the parts.
            **fields: `description`, `count` or `detail`, strings.
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
        """Another part is done."""
        self.update(self._done + 1)


_shown = []  # At most one.


def current():
    """The `Display` that is shown; if there is none, one of lines alone."""
    return _shown[0] if _shown else Display(is_terminal=False)


def get(verbosity):
    """The `Display` that is shown; if there is none, a new one."""
    return _shown[0] if _shown else Display(verbosity)


@contextlib.contextmanager
def shown(verbosity=0):
    """Shows a `Display` of this verbosity, or keeps the one that is shown."""
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
    """`Display.say` of the current one."""
    current().say(line, verbosity)


def result(text):
    """`Display.result` of the current one."""
    current().result(text)


def table(rows):
    """`Display.table` of the current one."""
    current().table(rows)


def task(description, total=None, detail="", slow=None):
    """`Display.task` of the current one."""
    return current().task(description, total, detail, slow)


def align(rows):
    """Lines of a table: its first column to the left, the others right.

    Args:
        rows: Tuples of strings, of one length.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            [row[0].ljust(widths[0])]
            + [
                cell.rjust(width)
                for cell, width in zip(row[1:], widths[1:], strict=True)
            ]
        ).rstrip()
        for row in rows
    ]


def duration(seconds):
    """Seconds as a person would say them.

    >>> duration(5000)
    '1 h 23 min'
    """
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min"


def _terminal():
    """The `Console` of the standard output; None if that is no terminal."""
    if sys.stdout is None or not sys.stdout.isatty():
        return None
    from rich.console import Console  # Not needed for a pipe.

    # The file is the one of now: others may replace `sys.stdout` for a while.
    console = Console(file=sys.stdout)
    return console if console.is_interactive else None


def _make_bars(console):
    from rich import progress
    from rich.table import Column
    from rich.text import Text

    class Left(progress.ProgressColumn):
        """Time left or, if that is not known, the time so far."""

        def render(self, task):
            left = task.fields["left"]
            if left is None and task.total and task.completed:
                seconds = task.elapsed / task.completed
                left = seconds * (task.total - task.completed)
            if left is None:
                return Text(duration(task.elapsed or 0))
            return Text(f"{duration(left)} left")

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


def _make_table(rows, width):
    from rich import box
    from rich.table import Table
    from rich.text import Text

    headings, *body = rows
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column(headings[0], overflow="fold")
    for heading in headings[1:]:
        table.add_column(heading, justify="right", overflow="fold")
    others = sum(
        max(map(len, column)) + 3
        for column in list(zip(*rows, strict=True))[1:]
    )
    for first, *rest in body:
        # An ensemble is broken between its attacks.
        first = _break_at(first, "+", max(width - others, 20))
        table.add_row(*map(Text, [first, *rest]))
    return table


def _break_at(text, mark, width):
    """Lines of at most so many letters, if there are enough marks."""
    lines = [""]
    for part in text.replace(mark, f"{mark}\0").split("\0"):
        if lines[-1] and len(lines[-1] + part) > width:
            lines.append("")
        lines[-1] += part
    return "\n".join(lines)


@contextlib.contextmanager
def _stderr_above(console, verbosity):
    """Prints what is written to the standard error above what is live.

    Also what TensorFlow's C++ writes there, which knows nothing of Python; what
    is mere information, only if the verbosity is above 0. If the standard error
    is no terminal, it is left as it is.
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
    if dumps:  # Of a crash, after which no thread copies anything.
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
