"""What did the method do?"""

from fastbat_tf.experiment.report.blocks import Text

QUESTION = "What did the method do?"


def blocks(records):
    """Returns the blocks of this section.

    Args:
        records: List of `RunRecord`s.
    """
    return [Text("")]  # TODO(F)
