"""Which attack broke what?"""

from fastbat_tf.experiment.report.blocks import Text

QUESTION = "Which attack broke what?"


def blocks(records):
    """Returns the blocks of this section.

    Args:
        records: List of `RunRecord`s.
    """
    return [Text("")]  # TODO(E)
