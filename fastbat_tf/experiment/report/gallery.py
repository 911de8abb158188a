"""What do the images look like?"""

from fastbat_tf.experiment.report.blocks import Text

QUESTION = "What do the images look like?"


def blocks(records):
    """Returns the blocks of this section.

    Args:
        records: List of `RunRecord`s.
    """
    return [Text("")]  # TODO(F)
