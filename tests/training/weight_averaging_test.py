"""Moving averages of weights and statistics, against a recurrence."""

import keras
import tensorflow as tf
from absl.testing import parameterized

from fastbat_tf.methods.fastat import FastAT
from fastbat_tf.methods.standard import Standard
from fastbat_tf.training.classifier import RobustClassifier
from tests.support import testing

DECAY = 0.7


def build(
    strategy=None,
    averaging=DECAY,
    compiled=False,
    normalization=testing.ZOO_NORMALIZATION,
    method=FastAT,
):
    strategy = strategy or tf.distribute.get_strategy()
    with strategy.scope():
        network = testing.small_network(normalization=normalization)
        robust = RobustClassifier(network, method())
        robust.compile(
            keras.optimizers.SGD(0.3, momentum=0.9),
            weight_averaging=averaging,
            jit_compile=compiled,
        )
    return robust


def batches(count, size=4):
    """Each batch has other images, so the statistics move."""
    images, labels = testing.images_and_labels(count * size)
    return tf.data.Dataset.from_tensor_slices((images, labels)).batch(size)


def values(variables):
    return [variable.numpy() for variable in variables]


class Trace(keras.callbacks.Callback):
    """Records the raw values after each batch."""

    def on_train_begin(self, logs=None):
        self.raw = []

    def on_train_batch_end(self, batch, logs=None):
        self.raw.append(values(self.model.classifier.weights))


class WeightAverageTest(tf.test.TestCase, parameterized.TestCase):
    def assert_same(self, found, expected):
        for one, two in zip(found, expected, strict=True):
            self.assertAllEqual(one, two)

    @parameterized.parameters(False, True)
    def test_recurrence(self, compiled):
        robust, trace = build(compiled=compiled), Trace()
        robust.fit(
            batches(5), shuffle=False, verbose=0, callbacks=[trace], epochs=2
        )
        self.assertLen(trace.raw, 10)
        expected = trace.raw[0]
        for raw in trace.raw[1:]:
            expected = [
                DECAY * average + (1 - DECAY) * value
                for average, value in zip(expected, raw, strict=True)
            ]
        last = values(robust.classifier.weights)
        with robust.averaged_weights():
            found = values(robust.classifier.weights)
        names = [v.path for v in robust.classifier.weights]
        for name, average, value, raw in zip(
            names, found, expected, last, strict=True
        ):
            self.assertAllClose(average, value, 1e-5, 1e-6, msg=name)
            self.assertNotAllClose(average, raw, 1e-3, 1e-4, msg=name)
        self.assertLen([n for n in names if "moving_" in n], 2)
        # `fit` and the swap do not change the raw weights.
        self.assert_same(values(robust.classifier.weights), last)

    @parameterized.parameters(False, True)
    def test_accumulated_gradients_are_one_update(self, eager):
        """Statistics move with each batch, averages with each update."""
        robust, trace = build(), Trace()
        robust.compile(
            keras.optimizers.SGD(0.3, gradient_accumulation_steps=2),
            weight_averaging=DECAY,
            run_eagerly=eager,
        )
        robust.fit(batches(7), shuffle=False, verbose=0, callbacks=[trace])
        expected = trace.raw[1]
        for raw in trace.raw[3::2]:
            expected = [
                DECAY * average + (1 - DECAY) * value
                for average, value in zip(expected, raw, strict=True)
            ]
        self.assertEqual(robust.weight_average.updates, 3)
        for average, value, raw in zip(
            values(robust.weight_average.averages),
            expected,
            trace.raw[-1],
            strict=True,
        ):
            self.assertAllClose(average, value, 1e-5, 1e-6)
            self.assertNotAllClose(average, raw, 1e-3, 1e-4)

    def test_the_training_does_not_see_it(self):
        results = []
        for averaging in (0.0, DECAY):
            robust = build(averaging=averaging)
            robust.fit(batches(3), shuffle=False, verbose=0)
            results.append(values(robust.classifier.weights))
        self.assert_same(*results)

    @parameterized.parameters(False, True)
    def test_two_replicas(self, compiled):
        """Without BatchNorm they equal one device; with it each has its own."""
        averages = []
        for strategy in (None, testing.two_cpu_strategy()):
            robust = build(
                strategy, compiled=compiled, normalization=None, method=Standard
            )
            robust.fit(batches(3), shuffle=False, verbose=0)
            with robust.averaged_weights():
                averages.append(values(robust.classifier.weights))
        for one, two in zip(*averages, strict=True):
            self.assertAllClose(one, two, 1e-4, 1e-5)

    def test_statistics_on_two_replicas(self):
        """The first replica's values are read, and averaged."""
        robust, trace = build(testing.two_cpu_strategy()), Trace()
        robust.fit(batches(3), shuffle=False, verbose=0, callbacks=[trace])
        first, second, third = trace.raw
        with robust.averaged_weights():
            found = values(robust.classifier.weights)
        last = values(robust.classifier.weights)
        for average, a, b, c, raw in zip(
            found, first, second, third, last, strict=True
        ):
            expected = DECAY * (DECAY * a + (1 - DECAY) * b) + (1 - DECAY) * c
            self.assertAllClose(average, expected, 1e-5, 1e-6)
            self.assertAllEqual(raw, c)

    def test_what_stays_stays_to_the_bit(self):
        robust = build(averaging=0.9995, method=Standard)
        robust.optimizer.learning_rate = 0.0
        for _ in range(20):
            robust.train_on_batch(*testing.images_and_labels(4))
        raw = values(robust.classifier.trainable_weights)
        with robust.averaged_weights():
            self.assert_same(values(robust.classifier.trainable_weights), raw)

    def test_swap_ends_with_an_error(self):
        robust = build()
        robust.fit(batches(3), verbose=0)
        raw = values(robust.classifier.weights)
        with self.assertRaises(KeyError), robust.averaged_weights():
            raise KeyError
        self.assert_same(values(robust.classifier.weights), raw)

    def test_before_the_first_update(self):
        robust = build()
        raw = values(robust.classifier.weights)
        with robust.averaged_weights():
            self.assert_same(values(robust.classifier.weights), raw)

    def test_none(self):
        robust = build(averaging=0.0)
        with self.assertRaisesRegex(
            ValueError, r"weight_averaging=\.\.\.\)\. Received: .*=0$"
        ):
            robust.averaged_weights()
        for value in (-0.1, 1.0, float("nan")):
            with self.assertRaisesRegex(
                ValueError, rf"\[0, 1\)\. Received: weight_averaging={value}$"
            ):
                robust.compile(weight_averaging=value)

    def test_saved_and_continued(self):
        robust = build(method=Standard)
        robust.fit(batches(3), shuffle=False, verbose=0)
        weights_path = f"{self.get_temp_dir()}/average.weights.h5"
        model_path = f"{self.get_temp_dir()}/average.keras"
        robust.save_weights(weights_path)
        robust.save(model_path)
        again = build(method=Standard)
        again.train_on_batch(*testing.images_and_labels(4))
        again.load_weights(weights_path)
        loaded = keras.models.load_model(model_path)
        self.assertEqual(loaded.weight_average.decay, DECAY)
        # All state is saved, and training continues alike.
        self.assertLen(again.variables, len(robust.variables))
        self.assertContainsSubset(
            [id(v) for v in robust.weight_average.averages],
            [id(v) for v in robust.variables],
        )
        for model in (robust, again, loaded):
            model.fit(batches(2), shuffle=False, verbose=0)
        with robust.averaged_weights():
            expected = values(robust.classifier.weights)
        for model in (again, loaded):
            with model.averaged_weights():
                found = values(model.classifier.weights)
            for one, two in zip(found, expected, strict=True):
                self.assertAllClose(one, two, 1e-5, 1e-7)

    def test_weights_are_read_without_an_average(self):
        """A model that is not compiled loads them, as that of a run does."""
        robust = build(method=Standard)
        robust.fit(batches(3), shuffle=False, verbose=0)
        path = f"{self.get_temp_dir()}/averaged.weights.h5"
        with robust.averaged_weights():
            robust.save_weights(path)
            expected = values(robust.classifier.weights)
        plain = RobustClassifier(testing.small_network(seed=1), Standard())
        plain.load_weights(path)
        self.assert_same(values(plain.classifier.weights), expected)


if __name__ == "__main__":
    tf.test.main()
