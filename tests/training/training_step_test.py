"""One training step: on one device and on two, compiled and not."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from absl.testing import parameterized

from fastbat_tf import (
    PGD,
    FastAT,
    FastBAT,
    GradAlign,
    RobustClassifier,
    Standard,
)
from fastbat_tf.draws import Draws
from fastbat_tf.errors import InputError
from fastbat_tf.methods.base import Method, Solution
from fastbat_tf.methods.state import Plan, Slot
from tests.support import testing


class RecordedNoise:
    """Draws the same recorded noise on every replica."""

    def __init__(self, shape):
        random = np.random.default_rng(0)
        self.noise = random.uniform(-1, 1, shape).astype("float32")

    def uniform(self, name, shape, minval, maxval, dtype, **_):
        return tf.constant(self.noise, dtype) * maxval


class Recorded(RobustClassifier):
    def draws(self, step):
        return RecordedNoise((4, 8, 8, 3))


def train(method, replicas=1, compiled=False, normalization=None, batches=3):
    """Trains on batches that give every replica the same four images."""
    strategy = tf.distribute.get_strategy()
    if replicas == 2:
        strategy = testing.two_cpu_strategy()
    arguments = {} if normalization is None else {"normalization": None}
    with strategy.scope():
        network = testing.small_network(**arguments)
        robust = Recorded(network, method)
        robust.compile(
            keras.optimizers.SGD(0.1, momentum=0.9),
            weight_decay=5e-4,
            jit_compile=compiled,
        )
    images, labels = testing.images_and_labels(4)
    images = np.concatenate([images] * replicas)
    labels = np.concatenate([labels] * replicas)
    data = tf.data.Dataset.from_tensors((images, labels)).repeat(batches)
    history = robust.fit(data, shuffle=False, verbose=0).history
    return robust, history


class StepTest(tf.test.TestCase, parameterized.TestCase):
    # `tests/methods/contract_test.py` has one device with XLA, and
    # `tests/methods/replicas_test.py` two replicas without it.
    @parameterized.parameters(FastBAT, Standard, GradAlign, PGD, FastAT)
    @pytest.mark.quick("FastBAT")
    def test_two_compiled_replicas_give_the_same_numbers(self, method):
        self.check_same_numbers(method, ((2, True),))

    @pytest.mark.slow
    def test_xla_and_two_replicas_give_the_same_numbers(self):
        self.check_same_numbers(FastBAT, ((1, True), (2, False)))

    def check_same_numbers(self, method, cases):
        """Compares BatchNorm, penalty, correction, weight decay, momentum and
        all metrics. The measured difference is at most 5e-7, from the order of
        float32 sums."""
        reference, history = train(method())
        for replicas, compiled in cases:
            robust, again = train(method(), replicas, compiled)
            for ours, theirs in zip(
                robust.weights, reference.weights, strict=True
            ):
                self.assertAllClose(ours, theirs, 1e-5, 5e-6)
            self.assertAllClose(again, history, 1e-4, 1e-5)

    @parameterized.parameters("sum_over_batch_size", "sum")
    def test_replicas_average_their_gradients(self, reduction):
        """Without BatchNorm, two replicas of two images equal one of four."""
        loss = keras.losses.SparseCategoricalCrossentropy(
            from_logits=True, reduction=reduction
        )
        images, labels = testing.images_and_labels(4)
        weights = []
        for strategy in (
            tf.distribute.get_strategy(),
            testing.two_cpu_strategy(),
        ):
            with strategy.scope():
                network = testing.small_network(normalization=None)
                robust = RobustClassifier(network, Standard())
                robust.compile(
                    keras.optimizers.SGD(0.1), loss, weight_decay=0.1
                )
            data = tf.data.Dataset.from_tensors((images, labels))
            robust.fit(data, shuffle=False, verbose=0)
            weights.append([v.numpy() for v in robust.weights])
        for one, two in zip(*weights, strict=True):
            self.assertAllClose(one, two, 1e-5, 1e-6)

    def test_weight_decay_is_in_the_gradient(self):
        """Two steps with a zero gradient, by hand, with L2 coefficient c:

        v1 = -rate c w0,              w1 = w0 + v1
        v2 = momentum v1 - rate c w1, w2 = w1 + v2
        """

        class Nothing(Method):
            def solve(self, context):
                return Solution(tf.zeros_like(context.images))

            def objective(self, context, solution):
                logits = context.logits(context.images)
                return 0.0 * tf.reduce_sum(logits), logits

        network = testing.small_network()
        robust = RobustClassifier(network, Nothing())
        robust.compile(
            keras.optimizers.SGD(0.1, momentum=0.9), weight_decay=0.2
        )
        w0 = [v.numpy() for v in network.trainable_variables]
        for _ in range(2):
            robust.train_on_batch(*testing.images_and_labels(4))
        for old, variable in zip(w0, network.trainable_variables, strict=True):
            w1 = old - 0.02 * old
            w2 = w1 + 0.9 * (-0.02 * old) - 0.02 * w1
            self.assertAllClose(variable, w2, 1e-5, 1e-7)

    def test_penalty_and_correction_are_added_once(self):
        class Both(Method):
            reports = ("seen",)
            needs_perturbation_gradient = True

            def solve(self, context):
                return Solution(
                    0.1 * tf.ones_like(context.images), memory="kept"
                )

            def penalty(self, context, solution, logits):
                assert solution.memory == "kept"
                return 3.0 * tf.reduce_sum(context.variables[-1])

            def correct(self, context, solution, gradients, delta_gradient):
                context.report(seen=tf.norm(delta_gradient))
                return gradients[:-1] + [gradients[-1] + 10.0]

        images, labels = testing.images_and_labels(4)
        network = testing.small_network()
        gradients = []
        for method in (Both(), Standard()):
            robust = RobustClassifier(network, method)
            robust.compile()
            shifted = images + (0.1 if isinstance(method, Standard) else 0)
            outcome = robust.compute_gradients(shifted, labels, Draws(0, 0))
            gradients.append(outcome.gradients)
            if isinstance(method, Both):
                self.assertGreater(outcome.reports["seen"], 0)
        both, plain = gradients
        self.assertAllClose(both[-1], plain[-1] + 13.0, 1e-5)
        for ours, theirs in zip(both[:-1], plain[:-1], strict=True):
            self.assertAllClose(ours, theirs, 1e-4, 1e-6)

    def test_compile_and_fit_in_one_line_on_arrays(self):
        images, labels = testing.images_and_labels(10)
        robust = RobustClassifier(testing.small_network(), FastBAT(8 / 255))
        history = robust.compile("adam", metrics=["accuracy"]).fit(
            images, labels, batch_size=4, epochs=2, verbose=0
        )
        self.assertSameElements(
            history.history,
            (
                "loss",
                "accuracy",
                "robust_gradient_norm",
                "robust_interior_fraction",
                "robust_implicit_ratio",
                "robust_implicit_cosine",
            ),
        )
        evaluated = robust.evaluate(images, labels, return_dict=True, verbose=0)
        self.assertSameElements(evaluated, ("loss", "accuracy"))
        predicted = robust.predict(images, verbose=0).argmax(-1)
        self.assertAllClose(evaluated["accuracy"], np.mean(predicted == labels))

    def test_same_seed_same_steps(self):
        images, labels = testing.images_and_labels(8)
        results = []
        for seed in (0, 0, 1):
            robust = RobustClassifier(
                testing.small_network(), FastAT(), seed=seed
            )
            robust.compile(jit_compile=True)
            robust.fit(images, labels, batch_size=4, shuffle=False, verbose=0)
            results.append(
                np.concatenate([w.ravel() for w in robust.get_weights()])
            )
        self.assertAllEqual(results[0], results[1])
        self.assertNotAllClose(results[0], results[2])

    @parameterized.parameters((False, 1), (True, 1), (True, 2))
    def test_optimizer_is_compiled_where_it_can_be(self, compiled, replicas):
        """A compiled optimizer may hold nothing that XLA does not know."""

        class CallsPython(keras.optimizers.SGD):
            def update_step(self, gradient, variable, learning_rate):
                rate = tf.py_function(lambda: 0.1, [], "float32")
                super().update_step(gradient, variable, rate)

        strategy = tf.distribute.get_strategy()
        if replicas == 2:
            strategy = testing.two_cpu_strategy()
        with strategy.scope():
            robust = RobustClassifier(testing.small_network(), Standard())
            robust.compile(CallsPython(0.1), jit_compile=compiled)
        before = robust.get_weights()
        data = tf.data.Dataset.from_tensors(testing.images_and_labels(4))
        if compiled and replicas == 1:
            with self.assertRaisesRegex(
                tf.errors.InvalidArgumentError, "EagerPyFunc"
            ):
                robust.fit(data, verbose=0)
        else:
            robust.fit(data, verbose=0)
            self.assertNotAllClose(before[0], robust.get_weights()[0])

    def test_one_hot_labels(self):
        images, labels = testing.images_and_labels(4)
        network = testing.small_network()
        losses = []
        for encoded, loss in (
            (labels, None),
            (
                tf.one_hot(labels, 4),
                keras.losses.CategoricalCrossentropy(from_logits=True),
            ),
        ):
            robust = RobustClassifier(network, FastAT()).compile(loss=loss)
            outcome = robust.compute_gradients(images, encoded, Draws(0, 0))
            losses.append(outcome.loss)
        self.assertAllClose(*losses)

    def test_memory_of_examples_and_replays(self):
        """A method with a perturbation per example, updated in each replay."""
        images, labels = testing.images_and_labels(8)

        class Memory(Method):
            replays = 3
            needs_plan = remembers_examples = True

            def initial_state(self, sizes, draws):
                return {
                    "delta": Slot(sizes.image_shape, rows="examples"),
                    "total": Slot((), 5.0),
                }

            def solve(self, context):
                context.note(seen=tf.size(context.index))
                return Solution(context.state["delta"])

            def update(self, context):
                seen = tf.cast(context.notes["seen"], tf.float32)
                return {
                    "delta": context.state["delta"] + 0.01,
                    "total": context.state["total"] + seen,
                }

        plan = Plan(1, 1, 2, examples=8)
        for compiled in (False, True):
            robust = RobustClassifier(testing.small_network(), Memory())
            robust.compile(plan=plan, jit_compile=compiled)
            index = tf.constant([5, 2])
            data = {"images": images[5:1:-3], "index": index}
            robust.fit(data, labels[5:1:-3], shuffle=False, verbose=0)
            expected = np.zeros(images.shape)
            expected[[5, 2]] = 0.03
            entries = robust.method_state.entries
            self.assertAllClose(entries["delta"], expected)
            self.assertAllClose(entries["total"], 5 + 3 * 2)
            self.assertAllEqual(robust.optimizer.iterations, 3)

        path = f"{self.get_temp_dir()}/memory.weights.h5"
        robust.save_weights(path)
        again = RobustClassifier(testing.small_network(), Memory())
        again.compile(plan=plan).load_weights(path)
        self.assertAllClose(again.method_state.entries["delta"], expected)
        self.assertAllEqual(again.step, 3)
        self.assertEqual(Memory().get_config(), {})

        robust.compile()
        with self.assertRaisesRegex(InputError, "plan=.*Received: plan=None"):
            robust.train_on_batch(data, labels[5:1:-3])
        with self.assertRaisesRegex(InputError, "Received: examples=0"):
            robust.compile(plan=Plan(1, 1, 2))
        with self.assertRaisesRegex(InputError, "Received: index=None"):
            again.train_on_batch(images[:2], labels[:2])

    def test_regularizers_count(self):
        images, labels = testing.images_and_labels(4)
        outcomes = []
        for factor in (0.0, 3.0):
            network = testing.small_network()
            dense = network.get_layer("dense")
            dense.kernel.regularizer = keras.regularizers.L2(factor)
            robust = RobustClassifier(network, Standard()).compile()
            outcomes.append(
                robust.compute_gradients(images, labels, Draws(0, 0))
            )
        kernel = network.get_layer("dense").kernel.numpy()
        plain, regularized = outcomes
        self.assertAllClose(
            regularized.loss - plain.loss, 3 * np.sum(kernel**2), 1e-4
        )
        self.assertAllClose(
            regularized.gradients[-2] - plain.gradients[-2], 6 * kernel, 1e-4
        )

    def test_loss_weighs_examples(self):
        images, labels = testing.images_and_labels(9)
        network = testing.small_network(normalization=None)
        robust = RobustClassifier(network, Standard())
        robust.compile(keras.optimizers.SGD(0.0))
        history = robust.fit(images, labels, batch_size=8, verbose=0).history
        evaluated = robust.evaluate(images, labels, return_dict=True, verbose=0)
        self.assertAllClose(history["loss"], [evaluated["loss"]], 1e-5)

    def test_gradient_accumulation_draws_anew_for_each_batch(self):
        drawn = []

        class Watched(RobustClassifier):
            def draws(self, step):
                drawn.append(int(step))
                return super().draws(step)

        robust = Watched(testing.small_network(), FastAT())
        robust.compile(
            keras.optimizers.SGD(0.1, gradient_accumulation_steps=2),
            run_eagerly=True,
        )
        images, labels = testing.images_and_labels(8)
        robust.fit(images, labels, batch_size=2, verbose=0)
        # Each step draws in `solve` and in `update`.
        self.assertEqual(drawn, [0, 0, 1, 1, 2, 2, 3, 3])


if __name__ == "__main__":
    tf.test.main()
