"""Random numbers: stateless, keyed, the same in eager, graph and XLA."""

import zlib

import tensorflow as tf


def uniform(key, shape, minval, maxval, dtype):
    """Uniform numbers from [minval, maxval), a pure function of `key`.

    Floats are made here from 24 random bits each: TensorFlow's own draws of
    floats differ between XLA and the other modes, its draws of bits do not.
    The least draw is `minval` itself. From [0, 1), the largest is `1 - 2**-24`.
    They are made in float32, or in float64: float16 cannot hold 24 bits, and
    would be infinite. In half precision they are rounded last, toward zero, so
    that they stay in the radius.

    Args:
        key: Two integers, as `Draws.key` gives them.
        shape: Of the result.
        minval: Number or scalar tensor.
        maxval: Number or scalar tensor.
        dtype: A float type, or int32.

    Returns:
        A tensor.
    """
    dtype = tf.as_dtype(dtype)
    if dtype.is_floating and dtype.size < tf.float32.size:
        minval, maxval = (tf.cast(x, tf.float32) for x in (minval, maxval))
        drawn = uniform(key, shape, minval, maxval, tf.float32)
        return _toward_zero(drawn, dtype)
    if not dtype.is_floating:
        return tf.random.stateless_uniform(
            shape, key, minval, maxval, dtype, "philox"
        )
    bits = tf.random.stateless_uniform(
        shape, key, None, None, tf.uint32, "philox"
    )
    share = tf.cast(tf.bitwise.right_shift(bits, 8), dtype) * 2.0**-24
    drawn = minval + share * (maxval - minval)
    # The sum may round to `maxval`, or beyond it: [100, 101) has no 101.
    return tf.where(drawn < maxval, drawn, tf.cast(minval, dtype))


def as_normal(shares):
    """Standard normal numbers from uniform ones, all of them finite.

    ```
    z = Phi^-1((k + 1 / 2) / 2^23),    k = floor(2^23 u)
    ```

    with Phi the distribution function. Each of the 2**23 middles is exact in
    float32, below 1 and above 0, and as far from the one as from the other:
    the result lies within 5.3 and is as often positive as negative.

    Args:
        shares: Numbers `u` from [0, 1), as `uniform` draws them.

    Returns:
        A tensor like `shares`.
    """
    middles = (tf.floor(shares * 2.0**23) + 0.5) * 2.0**-23
    return tf.math.ndtri(middles)


def _toward_zero(numbers, dtype):
    """Rounds float32 to a type of 16 bits, never to a larger magnitude."""
    rounded = tf.cast(numbers, dtype)
    beyond = tf.abs(tf.cast(rounded, tf.float32)) > tf.abs(numbers)
    # The bits without the sign count up with the magnitude.
    bits = tf.bitcast(rounded, tf.uint16) - tf.cast(beyond, tf.uint16)
    return tf.bitcast(bits, dtype)


class Draws:
    """The random draws of one replica in one step.

    A draw is a pure function of (seed, step, replica, name): a run repeats,
    resumes at any step, and its replicas differ, without any state to save.
    Philox is named because TensorFlow's default generator depends on the
    device and on XLA.

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
        key = tf.random.fold_in(self._key, tf.cast(data, tf.int32), "philox")
        # XLA reads a negative seed as another one.
        return tf.bitwise.bitwise_and(key, tf.int32.max)

    def key(self, name):
        """The seed of the draw `name`, two integers for stateless ops."""
        return self._fold_in(zlib.crc32(name.encode()) & tf.int32.max)

    def uniform(self, name, shape, minval, maxval, dtype):
        """Draws uniformly from [minval, maxval); one tensor per `name`."""
        return uniform(self.key(name), shape, minval, maxval, dtype)
