"""How accurate is it on corrupted images?"""

from collections.abc import Sequence

from fastbat_tf.evaluation import corruption_table
from fastbat_tf.experiment.report.blocks import Table, Text
from fastbat_tf.experiment.report.numbers import percent
from fastbat_tf.experiment.report.record import RunRecord

QUESTION = "How accurate is it on corrupted images?"
PAPER = (
    "Common corruptions of Hendrycks & Dietterich (ICLR 2019), from the "
    "mildest (severity 1) to the strongest (5). The means count each alike."
)


def blocks(records: Sequence[RunRecord]) -> list:
    """Returns the blocks of this section; none if nothing was measured.

    Args:
        records: `RunRecord`s.
    """
    found = []
    for record in records:
        measured = record.results.get("corruptions")
        if measured is None:
            continue
        if len(records) > 1:
            found.append(Text(record.name, "heading"))
        mean = measured["mean_accuracy"]
        if mean is not None:
            found.append(
                Text(
                    f"{percent(mean)} on average over the "
                    f"{len(corruption_table.STANDARD)} standard corruptions "
                    "and all severities."
                )
            )
        caption = f"{corruption_table.describe(measured)} {PAPER}"
        found.append(Table(corruption_table.rows(measured), caption))
    return found
