"""Where does it break?"""

from fastbat_tf.experiment.report.blocks import Text

QUESTION = "Where does it break?"


def blocks(records):
    """Returns the blocks of this section.

    Args:
        records: List of `RunRecord`s.
    """
    return [Text("")]  # TODO(E)
