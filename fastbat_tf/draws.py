"""Stateless, keyed random numbers, equal in eager mode, graphs and XLA."""

import zlib

import tensorflow as tf


def uniform(key, shape, minval, maxval, dtype):
    """Draws uniform numbers from [minval, maxval), a pure function of `key`.

    Floats are made from 24 random bits each: TensorFlow's float draws differ
    between XLA and the other modes, its bit draws do not. The smallest draw is
    `minval` itself; from [0, 1), the largest is `1 - 2**-24`. Draws are made in
    float32 or float64, because float16 cannot hold 24 bits. Half-precision
    draws are rounded at the end, toward zero, so that they stay in the radius.

    Args:
        key: Two integers, as `Draws.key` returns them.
        shape: Shape of the result.
        minval: Number or scalar tensor.
        maxval: Number or scalar tensor.
        dtype: A float dtype, or int32.

    Returns:
        A tensor.
    """
    dtype = tf.as_dtype(dtype)
    if dtype.is_floating and dtype.size < tf.float32.size:
        minval, maxval = (tf.cast(x, tf.float32) for x in (minval, maxval))
        drawn = uniform(
            key, shape, minval=minval, maxval=maxval, dtype=tf.float32
        )
        return _toward_zero(drawn, dtype)
    if not dtype.is_floating:
        return tf.random.stateless_uniform(
            shape, key, minval=minval, maxval=maxval, dtype=dtype, alg="philox"
        )
    bits = tf.random.stateless_uniform(
        shape, key, minval=None, maxval=None, dtype=tf.uint32, alg="philox"
    )
    share = tf.cast(tf.bitwise.right_shift(bits, 8), dtype) * 2.0**-24
    drawn = minval + share * (maxval - minval)
    # The sum may round to `maxval` or beyond, but 101 is not in [100, 101).
    return tf.where(drawn < maxval, drawn, tf.cast(minval, dtype))


def as_normal(shares):
    """Turns uniform numbers into standard normal ones, all of them finite.

    ```
    z = Phi^-1((k + 1 / 2) / 2^23),    k = floor(2^23 u)
    ```

    where `Phi` is the normal distribution function. Each of the 2**23
    midpoints is exact in float32 and lies strictly between 0 and 1, and they
    are symmetric: the result is within 5.3, and positive as often as negative.

    Args:
        shares: Tensor of numbers `u` in [0, 1), as `uniform` draws them.

    Returns:
        A tensor like `shares`.
    """
    middles = (tf.floor(shares * 2.0**23) + 0.5) * 2.0**-23
    return tf.math.ndtri(middles)


def _toward_zero(numbers, dtype):
    """Rounds float32 to a 16-bit dtype, never to a larger magnitude."""
    rounded = tf.cast(numbers, dtype)
    beyond = tf.abs(tf.cast(rounded, tf.float32)) > tf.abs(numbers)
    # Without the sign, larger bits mean a larger magnitude.
    bits = tf.bitcast(rounded, tf.uint16) - tf.cast(beyond, tf.uint16)
    return tf.bitcast(bits, dtype)


class Draws:
    """The random draws of one replica in one step.

    A draw is a pure function of (seed, step, replica, name). So a run can be
    repeated and resumed at any step, and its replicas differ, without any
    state to save. The generator is Philox, because TensorFlow's default
    depends on the device and on XLA.

    Args:
        seed: Integer, the seed of the run.
        step: Integer or scalar tensor, the number of updates so far.
        replica: Integer or scalar tensor, the number of the replica. Defaults
            to `0`.
    """

    def __init__(self, seed, step, replica=0):
        self._key = tf.stack([tf.cast(seed, tf.int32), 0])
        for data in (step, replica):
            self._key = self._fold_in(data)

    def _fold_in(self, data):
        key = tf.random.fold_in(self._key, tf.cast(data, tf.int32), "philox")
        # XLA reads a negative seed as a different one.
        return tf.bitwise.bitwise_and(key, tf.int32.max)

    def key(self, name):
        """Returns the seed of the draw `name`: two integers."""
        return self._fold_in(zlib.crc32(name.encode()) & tf.int32.max)

    def uniform(self, name, shape, minval, maxval, dtype):
        """Draws from [minval, maxval), independently for each `name`."""
        return uniform(
            self.key(name), shape, minval=minval, maxval=maxval, dtype=dtype
        )
