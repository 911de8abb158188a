"""What did it cost, and how do I repeat it?"""

from fastbat_tf.experiment.report.blocks import Text

QUESTION = "What did it cost, and how do I repeat it?"


def blocks(records):
    """Returns the blocks of this section.

    Args:
        records: List of `RunRecord`s.
    """
    return [Text("")]  # TODO(G)
