"""Did it overfit?"""

from fastbat_tf.experiment.report.blocks import Text

QUESTION = "Did it overfit?"


def blocks(records):
    """Returns the blocks of this section.

    Args:
        records: List of `RunRecord`s.
    """
    return [Text("")]  # TODO(F)
