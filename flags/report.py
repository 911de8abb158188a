"""Flags of --mode=report: the runs, and where and how the report is written."""

from absl import flags as absl_flags

from fastbat_tf.errors import InputError
from fastbat_tf.experiment.report.request import FORMATS, HTML, ReportRequest
from fastbat_tf.saving.formats import registry as formats

RUNS = absl_flags.DEFINE_list(
    "runs",
    None,
    "report: directories of runs, of several seeds, or of the results of "
    "evaluations.",
)
REPORT_DIR = absl_flags.DEFINE_string(
    "report_dir",
    None,
    "report: directory of the report (default: that of --runs; of several, "
    "report/).",
)
FORMAT = absl_flags.DEFINE_string(
    "format",
    None,
    "report: html writes the page, and the same as Markdown; latex and "
    "markdown print tables for a paper (default html). export: "
    f"{', '.join(formats.FORMATS)} (default saved_model).",
)


def get_request():
    """Makes the `ReportRequest` of the flags.

    Raises:
        InputError: If a flag is missing, has a wrong value, or does not apply.
    """
    runs = tuple(path for path in RUNS.value or () if path)
    if not runs:
        raise InputError(
            "--mode=report expects --runs, directories of runs or evaluations. "
            f"Received: runs={','.join(RUNS.value or ())}"
        )
    form = FORMAT.value or HTML
    if form not in FORMATS:
        raise InputError(
            "--format of --mode=report is expected to be one of "
            f"{', '.join(FORMATS)}. Received: format={form}"
        )
    if form != HTML and REPORT_DIR.value is not None:
        raise InputError(
            f"--report_dir does not apply to --format={form}, which prints. "
            f"Received: report_dir={REPORT_DIR.value}"
        )
    return ReportRequest(runs, REPORT_DIR.value or None, form)
