"""Second derivatives of normalization layers, by central differences."""

import threading

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from fastbat_tf.layers.moments import exact_moments
from tests.support import golden_network, testing

layers = keras.layers
SHAPE = (6, 4, 4, 4)
# In float64. A difference is off by h^2 = 1e-11 times a ratio of derivatives,
# and by rounding, 1e-16 / h = 3e-11. Measured: 1e-10; LayerNormalization 1e-8,
# of h^2, because some of the 4 values that it normalizes are nearly equal.
STEP, TOLERANCE = 3e-6, 1e-7


class Masked(layers.Layer):
    """BatchNormalization of some of the pixels."""

    def __init__(self):
        super().__init__()
        self.normalize = layers.BatchNormalization()
        self.mask = np.random.default_rng(1).random(SHAPE[:-1]) > 0.3

    def call(self, x, training=None):
        return self.normalize(x, training=training, mask=tf.constant(self.mask))


class OfUser(layers.Layer):
    """Calls the function of TensorFlow, or that of Keras."""

    def __init__(self, moments):
        super().__init__()
        self.moments = moments

    def call(self, x):
        mean, variance = self.moments(x)
        return (x - mean) / tf.sqrt(variance + 1e-3)


NORMALIZATIONS = {
    "batch": layers.BatchNormalization,
    "channels_first": lambda: layers.BatchNormalization(axis=1),
    "masked": Masked,
    "synchronized": lambda: layers.BatchNormalization(synchronized=True),
    "layer": layers.LayerNormalization,
    "group": lambda: layers.GroupNormalization(2),
    "tensorflow": lambda: OfUser(
        lambda x: tf.nn.moments(x, [1, 2], keepdims=True)
    ),
    "keras": lambda: OfUser(lambda x: keras.ops.moments(x, [0, 3], True)),
}


def second_derivative_error(model, mode="eager"):
    """Error of <d^2 s / dx^2, v> for s = sum(w sin(1.3 model(x)))."""
    random = np.random.default_rng(0)
    x, w, v = map(tf.constant, random.normal(size=(3, *SHAPE)))

    def gradient(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            s = tf.reduce_sum(w * tf.sin(1.3 * model(x, training=True)))
        return tape.gradient(s, x)

    def both(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            first = gradient(x)
            directional = tf.reduce_sum(first * v)
        return first, tape.gradient(directional, x)

    if mode != "eager":
        both = tf.function(both, jit_compile=mode == "xla")
    _, second = both(x)
    plus, minus = both(x + STEP * v)[0], both(x - STEP * v)[0]
    expected = (plus - minus) / (2 * STEP)
    return np.abs(second - expected).max() / np.abs(expected).max()


class Subclassed(keras.Model):
    def __init__(self, parts):
        super().__init__()
        self.parts = parts

    def call(self, x, training=None):
        for part in self.parts:
            x = part(x, training=training)
        return x


class WithTraining(layers.Layer):
    """Takes the argument `training`, which some layers do not."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def call(self, x, training=None):
        return self.inner(x)  # Keras passes `training` on.


def build(kind, names):
    parts = [WithTraining(NORMALIZATIONS[name]()) for name in names]
    if kind == "subclassed":
        return Subclassed(parts)
    sequential = keras.Sequential([keras.Input(SHAPE[1:]), *parts])
    if kind == "sequential":
        return sequential
    inputs = keras.Input(SHAPE[1:])
    return keras.Model(inputs, sequential(inputs))


class ExactMomentsTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.enterContext(golden_network.precision("float64"))

    @parameterized.parameters(*NORMALIZATIONS)
    def test_layers(self, name):
        layer = WithTraining(NORMALIZATIONS[name]())
        with exact_moments():
            self.assertLess(second_derivative_error(layer), TOLERANCE)
        # Keras does not use `tf.nn.moments` for these two.
        if name not in ("masked", "synchronized"):
            # If this fails, TensorFlow has mended it; the block is then no
            # longer needed, and does no harm.
            self.assertGreater(second_derivative_error(layer), 1e-4)

    @parameterized.parameters(
        ("sequential", "eager"),
        ("nested", "eager"),
        ("subclassed", "eager"),
        ("sequential", "graph"),
        ("nested", "graph"),
        ("subclassed", "graph"),
        # The same operations in every kind; XLA takes seconds for them.
        ("subclassed", "xla"),
    )
    def test_models(self, kind, mode):
        """Several of these layers one after another."""
        names = ("batch", "masked", "layer", "group", "synchronized")
        if mode == "xla":
            names = ("batch", "layer", "group")
        with exact_moments():
            error = second_derivative_error(build(kind, names), mode)
        self.assertLess(error, TOLERANCE)

    @parameterized.product(
        dtype=("float16", "bfloat16", "float32", "float64"),
        keepdims=(False, True),
    )
    def test_values_and_first_derivatives_keep_their_bits(
        self, dtype, keepdims
    ):
        x = tf.cast(np.random.default_rng(0).normal(size=(5, 3, 4)), dtype)

        def compute():
            with tf.GradientTape(persistent=True) as tape:
                tape.watch(x)
                both = tf.nn.moments(x, [0, 2], keepdims=keepdims)
                curved = [tf.sin(y) for y in both]
            return [*both, *(tape.gradient(y, x) for y in curved)]

        before = compute()
        with exact_moments():
            exact = compute()
        for one, other in zip(before, exact, strict=True):
            self.assertEqual(one.dtype, other.dtype)
            self.assertAllEqual(one, other)

    def test_shapes_that_are_not_known(self):
        @tf.function(input_signature=[tf.TensorSpec(None, tf.float64)])
        def variance(x):
            return tf.nn.moments(x, 0)[1]

        x = np.random.default_rng(0).normal(size=(5, 3))
        with exact_moments():
            self.assertAllClose(variance(x), x.var(0))
            self.assertAllEqual(variance(x[:, :0]), np.zeros(0))

    def test_is_restored(self):
        original = tf.nn.moments
        opened, closed = threading.Event(), threading.Event()

        def other():
            with exact_moments():
                opened.set()
                closed.wait(60)

        thread = threading.Thread(target=other)
        with self.assertRaises(ZeroDivisionError), exact_moments():
            with exact_moments():
                pass
            self.assertIsNot(tf.nn.moments, original)
            thread.start()
            opened.wait(60)
            raise ZeroDivisionError
        # The block of the other thread is still open.
        self.assertIsNot(tf.nn.moments, original)
        closed.set()
        thread.join()
        self.assertIs(tf.nn.moments, original)

    def test_synchronized_replicas(self):
        """A batch on two replicas against differences of all of it."""
        strategy = testing.two_cpu_strategy()
        with strategy.scope():
            layer = layers.BatchNormalization(synchronized=True)
            layer.build(SHAPE)
        random = np.random.default_rng(0)
        x, w, v = random.normal(size=(3, *SHAPE))

        def both(x, w, v):
            with tf.GradientTape() as outer:
                outer.watch(x)
                with tf.GradientTape() as inner:
                    inner.watch(x)
                    y = layer(x, training=True)
                    s = tf.reduce_sum(w * tf.sin(1.3 * y))
                first = inner.gradient(s, x)
                directional = tf.reduce_sum(first * v)
            return first, outer.gradient(directional, x)

        @tf.function
        def run(x):
            def part(array):
                halves = tf.split(array, 2)
                return strategy.experimental_distribute_values_from_function(
                    lambda context: halves[context.replica_id_in_sync_group]
                )

            results = strategy.run(both, (part(x), part(w), part(v)))
            return [tf.concat(r.values, 0) for r in results]

        with exact_moments():
            _, second = run(tf.constant(x))
            plus, minus = (
                run(tf.constant(x + h * v))[0] for h in (STEP, -STEP)
            )
        expected = (plus - minus) / (2 * STEP)
        self.assertAllClose(second, expected, TOLERANCE, TOLERANCE)


if __name__ == "__main__":
    tf.test.main()
