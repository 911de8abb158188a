"""Replaces functions of Keras and TensorFlow for a while."""

import threading


class Replacement:
    """A context manager, in which attributes have other values.

    The values are seen in all threads, so a function that takes the place of
    another may be called by any of them. Blocks may be nested, and overlap in
    threads: replicas of a MirroredStrategy are traced in threads of their own.
    The last block that ends restores the attributes.

    Args:
        values: Dict of the new values. The keys are pairs of an object and the
            name of its attribute.

    Attributes:
        originals: Dict of the values before, with the same keys.
    """

    def __init__(self, values):
        self.originals = {}
        self._values = values
        self._lock = threading.Lock()
        self._depth = 0

    def __enter__(self):
        with self._lock:
            if not self._depth:
                for (owner, name), value in self._values.items():
                    self.originals[owner, name] = getattr(owner, name)
                    setattr(owner, name, value)
            self._depth += 1

    def __exit__(self, *_):
        with self._lock:
            self._depth -= 1
            if not self._depth:
                for (owner, name), original in self.originals.items():
                    setattr(owner, name, original)
