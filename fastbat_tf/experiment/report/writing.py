"""Writes the report: `report.html`, and `report.md` with its pictures."""

from fastbat_tf.experiment.report import (
    classes,
    comparison,
    cost,
    gallery,
    method,
    overfitting,
    quotable,
    radii,
    stages,
    surface,
)
from fastbat_tf.experiment.report.blocks import Section

PARTS = (
    quotable,
    radii,
    stages,
    overfitting,
    method,
    classes,
    gallery,
    surface,
    comparison,
    cost,
)


def sections(records):
    """Returns the `Section`s of the report, in the order of the page."""
    return [Section(part.QUESTION, part.blocks(records)) for part in PARTS]
