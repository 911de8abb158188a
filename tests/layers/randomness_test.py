"""A training step sees one draw of everything random in the classifier."""

import contextlib
import os
import warnings
from unittest import mock

import keras
import pytest
import tensorflow as tf
from absl.testing import parameterized
from keras import layers

from fastbat_tf import PGD, TRADES, FastBAT, RobustClassifier, Standard
from fastbat_tf.errors import InputError
from fastbat_tf.methods.base import Method, Solution
from fastbat_tf.methods.options import option
from fastbat_tf.methods.state import Slot
from fastbat_tf.training import step_metrics
from tests.support import testing
from tests.support.random_networks import (
    Compiled,
    Guarded,
    Still,
    functional,
    jittable,
    nested,
    sequential,
)

IMAGES, LABELS = testing.images_and_labels(8)


class Passes(Method):
    """Reports how much the logits of the passes of a step differ."""

    equal = ("training", "loop", "inference", "stacked", "still_stacked")
    reports = (*equal, "modes")

    def solve(self, context):
        images = context.images
        first = context.logits(images)
        still = context.logits(images, training=False)

        def differ(total):
            return total + distance(context.logits(images), first)

        def stack(training):
            stack = tf.concat([images, images + 0.1, images], 0)
            parts = tf.split(context.logits(stack, training, copies=3), 3)
            expected = first if training else still
            return distance(parts[0] + parts[2], 2 * expected)

        zero = tf.zeros([], first.dtype)
        (looped,) = tf.while_loop(
            lambda _: True,
            lambda total: (differ(total),),
            (zero,),
            maximum_iterations=2,
        )
        branched = tf.cond(
            tf.reduce_all(images >= 0),
            lambda: context.logits(images, training=False),
            lambda: still + 1,
        )
        context.report(
            training=differ(zero),
            loop=looped,
            inference=distance(branched, still),
            stacked=stack(training=True),
            still_stacked=stack(training=False),
            modes=distance(first, still),
        )
        context.note(first=first)
        return Solution(tf.zeros_like(images))

    def initial_state(self, sizes, draws):
        return {"updated": Slot(())}

    def update(self, context):
        # With a learning rate of 0, the logits are what they were.
        logits = context.logits(context.images)
        apart = distance(logits, context.notes["first"])
        return {"updated": context.sum_over_replicas(apart)}


def distance(first, second):
    return tf.reduce_max(tf.abs(first - second))


class Curvature(Method):
    """Reports the error of d <d loss / d x, v> / d theta."""

    reports = ("error", "size")
    step: float = option(1e-5)

    def solve(self, context):
        vector = context.uniform("vector", 1.0)
        zero = tf.zeros_like(vector)
        with tf.GradientTape() as tape:
            gradient = context.input_gradient(zero)
        exact = tape.gradient(
            gradient, context.variables, output_gradients=vector
        )

        def slope(delta):
            with tf.GradientTape() as tape:
                logits = context.logits(context.images + delta)
                losses = context.attack_losses(logits)
            return tape.gradient(losses, context.variables)

        above, below = slope(self.step * vector), slope(-self.step * vector)
        error, size = zip(
            *(
                (
                    distance(e, (a - b) / (2 * self.step)),
                    tf.reduce_max(tf.abs(e)),
                )
                for e, a, b in zip(exact, above, below, strict=True)
                if e is not None
            ),
            strict=True,
        )
        context.report(error=tf.reduce_max(error), size=tf.reduce_max(size))
        return Solution(zero)


def wrap(build, method, strategy=None, **settings):
    strategy = strategy or tf.distribute.get_strategy()
    keras.utils.set_random_seed(1)
    with strategy.scope():
        robust = RobustClassifier(build(), method)
        robust.compile(
            keras.optimizers.SGD(0.1, momentum=0.9),
            **{"jit_compile": False} | settings,
        )
    return robust


def fit(robust, epochs=1, **settings):
    return robust.fit(
        IMAGES,
        LABELS,
        batch_size=4,
        epochs=epochs,
        shuffle=False,
        verbose=0,
        **settings,
    ).history


def seeds(robust):
    return [v for v in robust.variables if "seed" in v.name]


def step(robust):
    logs = robust.train_on_batch(IMAGES[:4], LABELS[:4], return_dict=True)
    return {k.removeprefix(step_metrics.PREFIX): v for k, v in logs.items()}


def train_by_keras(build, **settings):
    keras.utils.set_random_seed(1)
    network = build()
    network.compile(
        keras.optimizers.SGD(0.1, momentum=0.9),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        **{"jit_compile": False} | settings,
    )
    fit(network, epochs=2)
    return network.weights


@contextlib.contextmanager
def policy(name):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    keras.config.set_floatx("float64" if name == "float64" else "float32")
    try:
        yield
    finally:
        keras.config.set_floatx("float32")
        keras.config.set_dtype_policy(before)


class OneDrawTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.named_parameters(
        ("graph", functional, {}),
        ("eager", functional, {"run_eagerly": True}),
        ("xla", jittable, {"jit_compile": True}),
        ("hidden", sequential, {"jit_compile": True}),
        ("nested", nested, {}),
        ("replicas", nested, {"strategy": testing.two_cpu_strategy}),
        (
            "replicas_xla",
            jittable,
            {"strategy": testing.two_cpu_strategy, "jit_compile": True},
        ),
        ("bfloat16", functional, {"policy": "mixed_bfloat16"}),
    )
    # Compiled and not, nested and on replicas; the others cross these.
    @pytest.mark.quick("graph", "eager", "hidden", "replicas")
    def test_all_passes(self, build, settings):
        strategy = settings.pop("strategy", lambda: None)()
        with policy(settings.pop("policy", "float32")):
            robust = wrap(build, Passes(), strategy, **settings)
        robust.optimizer.learning_rate = 0.0
        for _ in range(2):
            reports = step(robust)
            updated = robust.method_state.variables[0]
            # XLA does not compile `update` there, and draws other numbers.
            if not (strategy and robust.compiles_step):
                self.assertAllLessEqual(updated, 1e-5)
            for name in Passes.equal:
                self.assertLessEqual(reports[name], 1e-5, name)
            self.assertGreater(reports["modes"], 1e-3)

    def test_steps_draw_anew(self):
        robust = wrap(functional, Standard())
        before = [v.numpy() for v in seeds(robust)]
        robust.optimizer.learning_rate = 0.0
        losses = {step(robust)["loss"] for _ in range(3)}
        self.assertLen(losses, 3)
        for state, old in zip(seeds(robust), before, strict=True):
            # RandomTranslation draws twice in a pass.
            self.assertIn(state.numpy()[1] - old[1], (3, 6))

    @parameterized.named_parameters(
        ("graph", functional, {}),
        ("eager", functional, {"run_eagerly": True}),
        ("xla", jittable, {"jit_compile": True}),
        ("hidden", sequential, {}),
    )
    def test_standard_is_the_fit_of_keras(self, build, settings):
        theirs = train_by_keras(build, **settings)
        robust = wrap(build, Standard(), **settings)
        fit(robust, epochs=2)
        for our, their in zip(robust.classifier.weights, theirs, strict=True):
            self.assertAllClose(our, their, 1e-6, 1e-6)

    @parameterized.parameters(
        FastBAT(), TRADES(steps=2), PGD(steps=3, attack_mode="inference")
    )
    def test_methods(self, method):
        traced, eager = (
            wrap(functional, method, run_eagerly=eagerly)
            for eagerly in (False, True)
        )
        self.assertAllClose(step(traced), step(eager), 1e-5, 1e-5)
        self.assertAllClose(
            [v.numpy() for v in seeds(traced)],
            [v.numpy() for v in seeds(eager)],
        )
        for one, two in zip(traced.weights, eager.weights, strict=True):
            self.assertAllClose(one, two, 1e-5, 1e-5)

    def test_resumes(self):
        whole = wrap(functional, PGD())
        fit(whole, epochs=2)
        part = wrap(functional, PGD())
        fit(part)
        file = os.path.join(self.get_temp_dir(), "part.weights.h5")
        part.save_weights(file)
        resumed = wrap(functional, PGD())
        step(resumed)
        resumed.load_weights(file)
        fit(resumed)
        for one, two in zip(whole.variables, resumed.variables, strict=True):
            self.assertAllEqual(one, two)

    @parameterized.parameters(
        (jittable, 1e-5, 1e-8),
        # TensorFlow's kernel computes in float32.
        (functional, 1e-3, 1e-3),
    )
    def test_second_derivatives(self, build, difference, tolerance):
        with policy("float64"):
            robust = wrap(build, Curvature(difference))
        reports = step(robust)
        self.assertGreater(reports["size"], 1e-2)
        self.assertLess(reports["error"], tolerance * reports["size"])

    def test_layers_behave_as_before_outside_of_a_step(self):
        original = keras.random.SeedGenerator.next
        robust = wrap(functional, PGD(attack_mode="inference"))
        step(robust)
        self.assertIs(keras.random.SeedGenerator.next, original)
        state = [v.numpy() for v in seeds(robust)]
        first, second = (robust.predict(IMAGES, verbose=0) for _ in range(2))
        self.assertAllEqual(first, second)
        self.assertAllEqual([v.numpy() for v in seeds(robust)], state)
        robust.predict_function = None
        flat = robust.classifier(IMAGES, training=False)
        self.assertAllClose(first, flat, 1e-5, 1e-5)


class PreprocessingTest(tf.test.TestCase):
    def test_layer_that_only_training_calls(self):
        robust = wrap(Guarded.network, TRADES(steps=1))
        with self.assertRaisesRegex(
            InputError, r"training=training.*layer=random_flip\S* \(RandomFlip"
        ):
            step(robust)
        step(wrap(Guarded.network, TRADES(steps=1, attack_mode="training")))

    def test_layer_in_a_function(self):
        def build():
            inputs = keras.Input((8, 8, 3))
            x = Compiled(layers.RandomFlip(seed=1))(inputs)
            x = layers.Dense(4)(layers.Flatten()(x))
            return keras.Model(inputs, x)

        with self.assertRaisesRegex(InputError, "no `tf.function` there.*flip"):
            step(wrap(build, TRADES(steps=1)))
        step(wrap(build, TRADES(steps=1, attack_mode="training")))

    def test_layer_that_never_acts(self):
        inputs = keras.Input((8, 8, 3))

        def build():
            x = Still(layers.RandomFlip(seed=1))(inputs)
            x = layers.Dense(4)(layers.Flatten()(x))
            return keras.Model(inputs, x)

        reports = step(wrap(build, Passes()))
        self.assertEqual(reports["modes"], 0.0)


class WarningTest(tf.test.TestCase, parameterized.TestCase):
    def test_operations_with_another_state(self):
        def build():
            inputs = keras.Input((8, 8, 3))
            x = layers.Lambda(
                lambda x: x + tf.random.normal(tf.shape(x)), name="mine"
            )(inputs)
            x = layers.Dense(4)(layers.Flatten()(x))
            return keras.Model(inputs, x)

        with self.assertWarnsRegex(
            UserWarning, "cannot be repeated.*/mine.*RandomStandardNormal"
        ):
            step(wrap(build, Standard()))

    def test_others_do_not_warn(self):
        with warnings.catch_warnings(record=True) as caught:
            step(wrap(sequential, Standard()))
        self.assertNotIn("repeated", "".join(str(w.message) for w in caught))


class XLATest(tf.test.TestCase):
    def test_layers_that_xla_does_not_compile(self):
        with self.assertRaisesRegex(
            InputError,
            r"jit_compile=False.*layers=random_translation\S* \(RandomTransl",
        ):
            wrap(functional, Standard(), jit_compile=True)
        gpu = mock.patch.object(
            tf.config, "list_physical_devices", lambda kind=None: ["a device"]
        )
        with gpu:
            robust = wrap(functional, Standard(), jit_compile="auto")
            other = wrap(jittable, Standard(), jit_compile="auto")
        self.assertFalse(robust.compiles_step)
        self.assertTrue(other.compiles_step)
        step(robust)


if __name__ == "__main__":
    tf.test.main()
