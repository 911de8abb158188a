"""Random numbers of a training step: stateless, keyed, repeatable."""

import zlib

import tensorflow as tf


class Draws:
    """The random draws of one replica in one step.

    A draw is a pure function of (seed, step, replica, name): a run repeats,
    resumes at any step, and its replicas differ, without any state to save.
    Philox is named because the default generator of TensorFlow depends on the
    device and on XLA; with it, eager, graph and XLA draw the same numbers.

    Args:
        seed: Integer, the seed of the run.
        step: Integer or scalar tensor, the number of optimizer updates so far.
        replica: Integer or scalar tensor, the replica of the strategy.
    """

    def __init__(self, seed, step, replica=0):
        self._key = tf.stack([tf.cast(seed, tf.int32), 0])
        for data in (step, replica):
            self._key = self._fold_in(data)

    def _fold_in(self, data):
        return tf.random.fold_in(self._key, tf.cast(data, tf.int32), "philox")

    def key(self, name):
        """The seed of the draw `name`, two integers for stateless ops."""
        return self._fold_in(zlib.crc32(name.encode()) & 0x7FFFFFFF)

    def uniform(self, name, shape, minval, maxval, dtype):
        """Draws uniformly from [minval, maxval); one tensor per `name`."""
        return tf.random.stateless_uniform(
            shape,
            seed=self.key(name),
            minval=minval,
            maxval=maxval,
            dtype=dtype,
            alg="philox",
        )
