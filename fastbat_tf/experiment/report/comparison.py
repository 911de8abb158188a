"""How do runs compare?"""

from fastbat_tf.experiment.report.blocks import Text

QUESTION = "How do runs compare?"


def blocks(records):
    """Returns the blocks of this section.

    Args:
        records: List of `RunRecord`s.
    """
    return [Text("")]  # TODO(G)
