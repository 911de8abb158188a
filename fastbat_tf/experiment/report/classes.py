"""Which classes pay?"""

from fastbat_tf.experiment.report.blocks import Text

QUESTION = "Which classes pay?"


def blocks(records):
    """Returns the blocks of this section.

    Args:
        records: List of `RunRecord`s.
    """
    return [Text("")]  # TODO(F)
