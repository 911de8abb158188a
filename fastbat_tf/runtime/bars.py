"""Bars at the foot of a terminal, and the standard error above them."""

import contextlib
import faulthandler
import os
import re
import sys
import threading

from fastbat_tf.runtime import formatting

REFRESHES_PER_SECOND = 4
BAR_WIDTH = 30
# An information line of TensorFlow's C++, "I0000 00:00:17.1 ..." or
# "2026-11-25 19:16:31.123456: I ...".
INFORMATION = re.compile(r"I\d{4} \d\d:\d\d:|\d{4}-\d\d-\d\d [\d:.]+: I ")


def make_bars(console):
    """Returns the bars of running tasks, which a console draws."""
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
def stderr_above(console, verbosity):
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
