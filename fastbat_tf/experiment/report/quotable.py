"""Can I quote this?"""

from fastbat_tf.experiment.report.blocks import Text

QUESTION = "Can I quote this?"


def blocks(records):
    """Returns the blocks of this section.

    Args:
        records: List of `RunRecord`s.
    """
    return [Text("")]  # TODO(E)
