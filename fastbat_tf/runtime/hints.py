"""What makes work on this machine slower than it could be."""

from fastbat_tf import distribution
from fastbat_tf.runtime import onednn, unused_gpu

_said = set()


def new_hints():
    """What makes work on this machine slower than need be, each line once.

    Returns:
        A list of the lines that no call in this process has returned before.
    """
    if distribution.has_accelerator():
        return []
    notes = {unused_gpu.explain(), onednn.explain_off()} - {None} - _said
    _said.update(notes)
    return sorted(notes, reverse=True)
