"""Is the loss smooth?"""

from fastbat_tf.experiment.report.blocks import Text

QUESTION = "Is the loss smooth?"


def blocks(records):
    """Returns the blocks of this section.

    Args:
        records: List of `RunRecord`s.
    """
    return [Text("")]  # TODO(F)
