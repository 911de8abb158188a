"""Training in mixed precision: what is skipped, kept and refused."""

import functools
import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf
from absl.testing import parameterized

import fastbat_tf as fb
from fastbat_tf import methods
from fastbat_tf.errors import InputError, NonFiniteError
from fastbat_tf.training import loss_scaling
from fastbat_tf.training.callbacks.finite import StopOnNonFinite
from tests.support import golden_network, testing

IMAGES, LABELS = testing.images_and_labels(8)
POLICIES = "mixed_bfloat16", "mixed_float16"
FLOAT16 = "mixed_float16"


def build(
    method,
    policy=FLOAT16,
    normalization=testing.ZOO_NORMALIZATION,
    **compiled,
):
    """A compiled `RobustClassifier` of a small network."""
    with golden_network.policy(policy):
        network = testing.small_network(normalization=normalization)
        robust = fb.RobustClassifier(network, method)
    optimizer = compiled.pop("optimizer", keras.optimizers.SGD(0.1, 0.9))
    return robust.compile(optimizer, **compiled)


def fit(robust, **arguments):
    """One epoch of one batch; returns what it logs."""
    arguments = {"batch_size": 8, "verbose": 0, **arguments}
    history = robust.fit(IMAGES, LABELS, **arguments).history
    return {name: values[-1] for name, values in history.items()}


def too_large():
    """An optimizer whose first scaled gradient is infinite."""
    return keras.optimizers.LossScaleOptimizer(
        keras.optimizers.SGD(0.1, 0.9), initial_scale=2.0**40
    )


def state_of(robust):
    """All variables of the training but the counter of batches, the scale and
    the statistics, which are as after any other batch."""
    kept = [
        *robust.trainable_variables,
        *robust.optimizer.inner_optimizer.variables,
        *(robust.weight_average.variables if robust.weight_average else ()),
        *robust.method_state.variables,
    ]
    return [variable.numpy() for variable in kept]


class LossScalingTest(tf.test.TestCase, parameterized.TestCase):
    def test_who_scales(self):
        for policy in ("float32", *POLICIES):
            optimizer = build(methods.get("standard"), policy).optimizer
            self.assertEqual(
                isinstance(optimizer, keras.optimizers.LossScaleOptimizer),
                policy == FLOAT16,
            )
        robust = build(methods.get("standard"), auto_scale_loss=False)
        self.assertIsInstance(robust.optimizer, keras.optimizers.SGD)

    @parameterized.product(
        name=("standard", "fgsm_pgi", "free", "fastbat"),
        jit_compile=(False, True),
    )
    @pytest.mark.quick("standard False", "fgsm_pgi False")
    def test_a_skipped_step_changes_nothing(self, name, jit_compile):
        robust = build(
            methods.get(name),
            optimizer=too_large(),
            weight_averaging=0.9,
            weight_decay=0.1,
            weight_decay_mode="decoupled",
            jit_compile=jit_compile,
        )
        robust.method_state = robust.method_state.resized(8, 8)
        before = state_of(robust)
        logs = fit(robust)
        self.assertAllEqual(state_of(robust)[0], before[0])
        for a, b in zip(state_of(robust), before, strict=True):
            self.assertAllEqual(a, b)
        replays = robust.method.replays
        self.assertEqual(robust.optimizer.dynamic_scale, 2.0 ** (40 - replays))
        self.assertEqual(robust.step, replays)
        self.assertEqual(robust.optimizer.iterations, 0)
        self.assertTrue(np.isfinite(list(logs.values())).all(), logs)
        for variable in robust.variables:
            self.assertTrue(np.isfinite(variable.numpy()).all(), variable.path)
        # The next one may be too large, too; at last, one is not.
        fit(robust, epochs=24)
        self.assertGreater(robust.optimizer.iterations, 0)
        self.assertNotAllEqual(state_of(robust)[0], before[0])

    def test_one_replica_skips_for_all(self):
        """The network is NaN on the second replica's images alone."""
        with testing.two_cpu_strategy().scope():
            robust = build(
                methods.get("standard"), optimizer=too_large(), clip_norm=1.0
            )
        robust.optimizer.dynamic_scale.assign(2.0**10)
        spoiled = IMAGES.copy()

        class Spoiled(keras.losses.Loss):
            def call(self, y_true, y_pred):
                weight = tf.where(y_true[:, 0] > 0, 1.0, np.inf)
                return tf.reduce_sum(y_pred, -1) * weight

        with testing.two_cpu_strategy().scope():
            robust.compile(robust.optimizer, Spoiled(), clip_norm=1.0)
        labels = np.float32([1] * 4 + [0] * 4)[:, np.newaxis]
        before = robust.classifier.get_weights()[0]
        robust.fit(spoiled, labels, batch_size=8, shuffle=False, verbose=0)
        self.assertAllEqual(robust.classifier.get_weights()[0], before)
        self.assertEqual(robust.optimizer.dynamic_scale.numpy(), 2.0**9)
        robust.fit(spoiled, labels * 0 + 1, batch_size=8, verbose=0)
        self.assertNotAllEqual(robust.classifier.get_weights()[0], before)

    @parameterized.product(
        mode=("l2", "decoupled"), policy=("float32", FLOAT16)
    )
    @pytest.mark.quick("l2 float32")
    def test_two_replicas_are_one_device(self, mode, policy):
        """Keras would sum gradients again that the replicas have summed."""
        states = []
        for strategy in (tf.distribute.get_strategy(), None):
            with (strategy or testing.two_cpu_strategy()).scope():
                robust = build(
                    methods.get("standard"),
                    policy,
                    normalization=None,
                    optimizer=keras.optimizers.LossScaleOptimizer(
                        keras.optimizers.SGD(0.1, 0.9), initial_scale=2.0**10
                    ),
                    clip_norm=0.5,
                    weight_averaging=0.9,
                    weight_decay=0.1,
                    weight_decay_mode=mode,
                )
                fit(robust, epochs=3)
            states.append(state_of(robust))
        tolerance = 1e-5 if policy == "float32" else 2e-3  # Of sums of 11 bits.
        for one, two in zip(*states, strict=True):
            self.assertAllClose(one, two, tolerance, tolerance)

    def test_saved_and_loaded(self):
        robust = build(methods.get("fgsm"), weight_averaging=0.9)
        fit(robust)
        robust.optimizer.dynamic_scale.assign(64.0)
        path = str(pathlib.Path(self.get_temp_dir(), "mixed.keras"))
        robust.save(path)
        again = keras.saving.load_model(path)
        self.assertEqual(again.optimizer.dynamic_scale, 64.0)
        for a, b in zip(robust.variables, again.variables, strict=True):
            self.assertAllEqual(a, b)
        one, two = (fit(model, epochs=2) for model in (robust, again))
        self.assertEqual(one, two)

    def test_stops_if_no_scale_helps(self):
        class Infinite(keras.losses.Loss):
            """Its value is finite, its gradient is not."""

            def call(self, y_true, y_pred):
                del y_true
                return tf.sqrt(tf.reduce_sum(0.0 * y_pred, -1))

        optimizer = keras.optimizers.LossScaleOptimizer(
            keras.optimizers.SGD(0.1), initial_scale=4.0
        )
        robust = build(
            methods.get("standard"), optimizer=optimizer, loss=Infinite()
        )
        with self.assertRaisesRegex(NonFiniteError, "norm is .* epoch 3, step"):
            fit(robust, epochs=9, callbacks=[StopOnNonFinite()])
        for variable in robust.trainable_variables:
            self.assertTrue(np.isfinite(variable.numpy()).all())
        robust.trainable_variables[0].assign_add(
            np.nan * np.ones(robust.trainable_variables[0].shape)
        )
        robust.optimizer.dynamic_scale.assign(4.0)
        with self.assertRaisesRegex(NonFiniteError, "The loss is not finite"):
            fit(build_from(robust), callbacks=[StopOnNonFinite()])


def build_from(robust):
    """Compiles it anew with cross-entropy."""
    return robust.compile(too_large())


class PlantedTest(tf.test.TestCase, parameterized.TestCase):
    """Gradients of 1e-9 do not vanish in float16."""

    @parameterized.parameters(*(n for n in methods.METHODS if n != "standard"))
    @pytest.mark.quick("fgsm", "fgsm_uap", "liet", "gradalign", "trades")
    def test_every_method_moves_the_images(self, name):
        def tiny(y_true, y_pred):
            plain = keras.losses.sparse_categorical_crossentropy
            return 1e-9 * plain(y_true, y_pred, from_logits=True)

        outcomes = []
        for policy in ("float32", FLOAT16):
            robust = build(
                methods.get(name),
                policy,
                # Free takes its input gradient from the pass of the weights.
                loss=tiny if name == "free" else None,
                attack_loss=tiny,
                plan=fb.Plan(8, 8, 8, 8),
            )
            if name == "free" and policy == FLOAT16:
                # As after many steps; at 2^15, three of 11 bits are left.
                loss_scaling.build(robust.optimizer, robust.trainable_variables)
                robust.optimizer.dynamic_scale.assign(2.0**35)
            outcome = robust.compute_gradients(
                tf.constant(IMAGES),
                tf.constant(LABELS),
                robust.draws(0),
                index=tf.range(8),
            )
            moved = outcome.solution.perturbation
            if name == "free":
                moved = outcome.notes["perturbation"]
            outcomes.append(moved)
        one, two = outcomes
        self.assertGreater(np.abs(two).max(), 0.9 * np.abs(one).max())
        if name in ("mart", "trades"):
            return  # They start where rounding hides the gradient.
        apart = np.abs(one - two) > 0.01 * np.abs(one).max()
        self.assertLess(np.mean(apart), 0.1)


class PlantedDerivativesTest(tf.test.TestCase, parameterized.TestCase):
    def context(self, scale, method, policy):
        """The parts of a step whose attack has tiny gradients."""

        def tiny(y_true, y_pred):
            plain = keras.losses.sparse_categorical_crossentropy
            return scale * plain(y_true, y_pred, from_logits=True)

        return build(method, policy, attack_loss=tiny)

    def outcome(self, robust):
        return robust.compute_gradients(
            tf.constant(IMAGES), tf.constant(LABELS), robust.draws(0)
        )

    def assert_near(self, ours, expected, tolerance):
        flat = [
            np.concatenate([np.ravel(x) for x in arrays]).astype("float64")
            for arrays in (ours, expected)
        ]
        error = np.linalg.norm(flat[0] - flat[1]) / np.linalg.norm(flat[1])
        self.assertLess(error, tolerance)

    @parameterized.parameters(1e-9, 1.0, 1e9)
    def test_input_gradient(self, scale):
        class Seen(fb.Method):
            def solve(self, context):
                zeros = tf.zeros_like(context.images)
                seen.append(context.input_gradient(zeros))
                return fb.Solution(zeros)

        seen = []
        for policy in ("float32", FLOAT16):
            self.outcome(self.context(scale, Seen(), policy))
        self.assert_near(seen[1:], seen[:1], 0.005)

    @parameterized.parameters(1e-9, 1.0, 1e4)
    def test_implicit_term(self, scale):
        class Seen(fb.FastBAT):
            def _implicit_term(self, context, found, vector):
                implicit = super()._implicit_term(context, found, vector)
                seen.append(implicit)
                return implicit

        seen = []
        # A short step, since the term jumps where a pixel reaches its bound.
        method = Seen(step_size=0.01 / scale, implicit_lambda=10.0)
        for policy in ("float32", FLOAT16):
            self.outcome(self.context(scale, method, policy))
        self.assert_near(seen[1], seen[0], 0.05)

    def test_a_network_of_small_slopes(self):
        """The pixels' gradient is 1e-9, and that of the logits is not."""

        class Seen(fb.Method):
            def solve(self, context):
                zeros = tf.zeros_like(context.images)
                seen.append(context.input_gradient(zeros))
                return fb.Solution(zeros)

        seen = []
        for policy in ("float32", FLOAT16):
            with golden_network.policy(policy):
                inputs = keras.Input((8, 8, 3))
                x = keras.layers.Rescaling(1e-4)(inputs)
                x = keras.layers.Rescaling(1e-5)(keras.layers.Flatten()(x))
                x = keras.layers.Dense(4, dtype="float32")(x)
                keras.utils.set_random_seed(0)
                network = keras.Model(inputs, x)
                robust = fb.RobustClassifier(network, Seen()).compile()
            kernel = np.random.default_rng(0).normal(size=(192, 4))
            robust.trainable_variables[0].assign(kernel)
            self.outcome(robust)
        self.assertLess(np.abs(seen[0]).max(), 1e-8)
        # Subnormal numbers of float16 have few digits.
        self.assert_near(seen[1:], seen[:1], 0.05)


class RefusalTest(tf.test.TestCase):
    def test_statistics_of_all_replicas_are_refused(self):
        """In the attack alone, and where there are several replicas."""
        synchronized = functools.partial(
            testing.ZOO_NORMALIZATION, synchronized=True
        )
        robust = build(methods.get("fgsm"), normalization=synchronized)
        self.assertFalse(robust.synchronizes)
        with testing.two_cpu_strategy().scope():
            robust = build(methods.get("fgsm"), normalization=synchronized)
        with self.assertRaisesRegex(InputError, "^The attack in float16"):
            fit(robust)

    def test_differences_are_refused(self):
        method = fb.FastBAT(implicit_gradient="finite_difference")
        for policy in POLICIES:
            with self.assertRaisesRegex(
                InputError, "^Fast.*=conv in b?float16"
            ):
                build(method, policy)
        build(method, "float32")


if __name__ == "__main__":
    tf.test.main()
