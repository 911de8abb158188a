"""What `--mode=report` is asked for, and the answer."""

import os
from typing import NamedTuple

HTML, LATEX, MARKDOWN = "html", "latex", "markdown"
FORMATS = (HTML, LATEX, MARKDOWN)


class ReportRequest(NamedTuple):
    """What `--mode=report` is asked for.

    Attributes:
        runs: Paths of directories of runs, of several seeds, or of evaluations.
        directory: Path of the directory of the report. Defaults to `None`: of
            one path that path, of several `report`.
        format: `"html"`, which writes `report.html` and `report.md`; or
            `"latex"` or `"markdown"`, which print tables. Defaults to
            `"html"`.
    """

    runs: tuple
    directory: str | None = None
    format: str = HTML


def answer(request: ReportRequest) -> None:
    """Writes the report and prints where it is, or prints the tables.

    Args:
        request: A `ReportRequest`.

    Raises:
        InputError: If something cannot be read or written.
    """
    from fastbat_tf.experiment.report import missing, record
    from fastbat_tf.runtime import display

    records = record.read(request.runs)
    # Matplotlib takes time to import; what cannot be read takes none.
    from fastbat_tf.experiment.report import writing

    if request.format != HTML:
        display.result(writing.tables(records, request.format))
        return
    for one in records:
        if elsewhere := missing.elsewhere(one):
            display.say(f"{one.name}: {elsewhere}")
    directory = request.directory
    if directory is None:
        directory = request.runs[0] if len(request.runs) == 1 else "report"
    written = writing.write(records, directory)
    display.result(f"Report: {written.html}")
    display.result(f"Markdown: {written.markdown}")


def write_at_end(path: str | os.PathLike) -> None:
    """Writes the report of what has just ended into its directory.

    What has been trained or measured is safe before; so whatever is wrong with
    the report is said in a line, and is no failure.

    Args:
        path: Path of the directory of a run, of several seeds, or of an
            evaluation.
    """
    from fastbat_tf.runtime import display

    try:
        from fastbat_tf.experiment.report import record, writing

        written = writing.write(record.read([path]), path)
    except Exception as error:
        text = " ".join(str(error).split())
        display.say(
            f"There is no report ({type(error).__name__}: {text}). "
            f"--mode=report --runs={path} writes it."
        )
        return
    display.say(f"Report: {written.html}")
