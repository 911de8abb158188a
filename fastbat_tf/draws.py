"""Stateless, keyed random numbers, equal in eager mode, graphs and XLA."""

import zlib

import tensorflow as tf

# The numbers that Philox makes at each value of its counter.
NUMBERS_AT_ONCE = 4


def uniform(key, shape, minval, maxval, dtype, *, first=None):
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
        dtype: A float dtype or, without `first`, int32.
        first: Integer or scalar tensor. The result is then a part of a draw
            with more rows, along the first axis: the rows from this one on.
            Defaults to None, for all rows.

    Returns:
        A tensor.
    """
    dtype = tf.as_dtype(dtype)
    if dtype.is_floating and dtype.size < tf.float32.size:
        minval, maxval = (tf.cast(x, tf.float32) for x in (minval, maxval))
        drawn = uniform(key, shape, minval, maxval, tf.float32, first=first)
        return _toward_zero(drawn, dtype)
    if not dtype.is_floating:
        return tf.random.stateless_uniform(
            shape, key, minval=minval, maxval=maxval, dtype=dtype, alg="philox"
        )
    if first is None:
        bits = tf.random.stateless_uniform(
            shape, key, minval=None, maxval=None, dtype=tf.uint32, alg="philox"
        )
    else:
        bits = _bits_of_rows(key, shape, first)
    share = tf.cast(tf.bitwise.right_shift(bits, 8), dtype) * 2.0**-24
    drawn = minval + share * (maxval - minval)
    # The sum may round to `maxval` or beyond, but 101 is not in [100, 101).
    return tf.where(drawn < maxval, drawn, tf.cast(minval, dtype))


def _bits_of_rows(key, shape, first):
    """Draws random bits as a part of a draw with more rows.

    Philox computes each number from a counter, so that the rows before need
    not be drawn.
    """
    size = tf.reduce_prod(tf.cast(shape[1:], tf.int64))
    begin = tf.cast(first, tf.int64) * size
    count = tf.reduce_prod(shape)
    philox, counter = tf.raw_ops.StatelessRandomGetKeyCounter(seed=key)
    low = counter[0] + tf.cast(begin // NUMBERS_AT_ONCE, tf.uint64)
    high = counter[1] + tf.cast(low < counter[0], tf.uint64)  # The carry.
    lane = tf.cast(begin % NUMBERS_AT_ONCE, tf.int32)
    bits = tf.raw_ops.StatelessRandomUniformFullIntV2(
        shape=[count + NUMBERS_AT_ONCE - 1],
        key=philox,
        counter=tf.stack([low, high]),
        dtype=tf.uint32,
        alg=tf.random.Algorithm.PHILOX.value,
    )
    return tf.reshape(tf.slice(bits, [lane], [count]), shape)


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
    """The random draws of one step, or of another numbered piece of work.

    A draw is a pure function of (seed, step, part, name). So a run can be
    repeated and resumed at any step without any state to save. The generator is
    Philox, because TensorFlow's default depends on the device and on XLA.

    Args:
        seed: Integer, the seed of the run.
        step: Integer or scalar tensor, the number of the step, such as the
            number of updates so far.
        part: Integer or scalar tensor, the number of a part of the step that
            draws by itself. Defaults to `0`.
    """

    def __init__(self, seed, step, part=0):
        self._key = tf.stack([tf.cast(seed, tf.int32), 0])
        for data in (step, part):
            self._key = self._fold_in(data)

    def _fold_in(self, data):
        key = tf.random.fold_in(self._key, tf.cast(data, tf.int32), "philox")
        # XLA reads a negative seed as a different one.
        return tf.bitwise.bitwise_and(key, tf.int32.max)

    def key(self, name):
        """Returns the seed of the draw `name`: two integers."""
        return self._fold_in(zlib.crc32(name.encode()) & tf.int32.max)

    def uniform(self, name, shape, minval, maxval, dtype, *, first=None):
        """Draws from [minval, maxval), independently for each `name`.

        Args:
            name: String, the name of the draw.
            shape: Shape of the result.
            minval: Number or scalar tensor.
            maxval: Number or scalar tensor.
            dtype: A float dtype or, without `first`, int32.
            first: Integer or scalar tensor, the number of the first row in a
                draw that has more of them: replicas draw the rows of their
                examples in the global batch. Defaults to None, for all rows.

        Example:

        >>> draws = Draws(seed=0, step=0)
        >>> batch = draws.uniform("noise", (8, 3), 0.0, 1.0, "float32")
        >>> half = draws.uniform("noise", (4, 3), 0.0, 1.0, "float32", first=4)
        >>> bool(tf.reduce_all(half == batch[4:]))
        True
        """
        return uniform(
            self.key(name), shape, minval, maxval, dtype, first=first
        )
