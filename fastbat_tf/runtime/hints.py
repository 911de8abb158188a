"""Hints about what makes this machine slower than it could be."""

from fastbat_tf import distribution
from fastbat_tf.runtime import onednn, unused_gpu

_given = set()


def new_hints():
    """Lists what makes this machine slower than it could be, each once.

    Returns:
        List of lines that no earlier call in this process has returned.
    """
    if distribution.has_accelerator():
        return []
    notes = {unused_gpu.explain(), onednn.explain_off()} - {None} - _given
    _given.update(notes)
    return sorted(notes, reverse=True)
