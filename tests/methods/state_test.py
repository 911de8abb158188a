"""What methods remember: examples, batches, epochs, perturbations."""

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from fastbat_tf import Plan, RobustClassifier, methods
from fastbat_tf.errors import InputError
from fastbat_tf.methods.state import Progress
from fastbat_tf.methods.step import StepContext
from tests.support import testing
from tests.support.method_steps import build, compute, train

EPSILON = 8 / 255


def step_without_images(**given):
    network = testing.small_network()
    return StepContext(network, None, None, None, draws=None, **given)


class StateTest(tf.test.TestCase, parameterized.TestCase):
    def test_memory_is_read_in_the_next_epoch(self):
        robust = build("fgsm_pgi", label_factor=1.0)
        train(robust, [5, 2, 7, 1])
        entries = robust.method_state.entries
        self.assertAllEqual(entries["written"], [-1, 0, 0, -1, -1, 0, -1, 0])
        kept = entries["delta"].numpy()
        self.assertAllEqual(kept[[0, 3, 4, 6]], np.zeros((4, 8, 8, 3)))
        reach = np.abs(kept[[5, 2, 7, 1]]).max((1, 2, 3))
        self.assertAllClose(reach, np.full(4, EPSILON))
        # Two of them again, and two that are new: these begin at random.
        outcome = compute(robust, [1, 0, 5, 3], step=2)[1]
        start = outcome.notes["start"].numpy()
        self.assertAllEqual(start[[0, 2]], kept[[1, 5]])
        self.assertAllClose(
            np.abs(start[[1, 3]]), np.full((2, 8, 8, 3), EPSILON)
        )
        self.assertAllClose(start[[1, 3]].mean(), 0.0, atol=EPSILON / 5)

    @parameterized.parameters((2, 3, True), (2, 4, False), (3, 4, True))
    def test_memory_is_reset(self, reset, epoch, remembers):
        """Written in epoch 2 (or in 3); epochs 0, reset, ... forget."""
        plan = Plan(10, 2, 4, examples=8)
        robust = build("fgsm_pgi", plan, reset_epochs=reset)
        robust.step.assign(2 * (3 if reset == 3 else 2))
        train(robust, [0, 1, 2, 3])
        outcome = compute(robust, [0, 1, 2, 3], step=2 * epoch)[1]
        kept = robust.method_state.entries["delta"].numpy()[:4]
        same = np.array_equal(outcome.notes["start"].numpy(), kept)
        self.assertEqual(same, remembers)
        momentum = outcome.notes["momentum"].numpy()
        self.assertEqual(bool(np.abs(momentum).max() > 0), remembers)

    def test_fastbat_remembers_its_solution(self):
        robust = build("fastbat", linearization="remembered")
        first = compute(robust, [4, 5, 6, 7])[1].solution
        train(robust, [4, 5, 6, 7])
        delta = first.perturbation.numpy()
        kept = robust.method_state.entries["delta"].numpy()
        self.assertAllClose(kept[4:], delta, 1e-5, 1e-6)
        images, again = compute(robust, [4, 5, 6, 7], seed=1, step=2)
        point = again.solution.memory["linearization_point"]
        expected = np.clip(images + kept[4:], 0, 1) - images
        self.assertAllClose(point, expected, 1e-6, 1e-7)
        # In the first epoch it begins at random, as `random` does.
        other = build("fastbat", linearization="random")
        self.assertAllClose(
            compute(other, [4, 5, 6, 7])[1].solution.perturbation, delta
        )

    def test_free_carries_its_perturbation(self):
        robust = build("free", replays=2)
        images, _ = train(robust, [0, 1, 2, 3])
        kept = robust.method_state.entries["perturbation"].numpy()
        self.assertEqual(kept.shape, (4, 8, 8, 3))
        # Two steps of epsilon, each to a corner or back to zero.
        steps = np.abs(kept) / EPSILON
        self.assertAllClose(steps, np.round(steps), atol=1e-5)
        self.assertAllClose(steps.max(), 1.0)
        self.assertAllEqual(robust.optimizer.iterations, 2)
        images, outcome = compute(robust, [0, 1, 2, 3], seed=1)
        self.assertAllClose(
            outcome.solution.perturbation,
            np.clip(images + kept, 0, 1) - images,
        )
        zero = build("free", replays=2, start="zero")
        train(zero, [0, 1, 2, 3])
        outcome = compute(zero, [0, 1, 2, 3], seed=1)[1]
        self.assertAllEqual(outcome.solution.perturbation, tf.zeros_like(kept))

    def test_convergence_remembers_the_epoch_before(self):
        robust = build("fgsm_rs_cs", tolerance=0.0, label_factor=1.0)
        seen, signs = [], []
        for number in range(6):  # Two batches an epoch.
            _, outcome = compute(robust, [0, 1, 2, 3], seed=number)
            seen.append(float(outcome.notes["sum"]) / 4)
            signs.append(float(outcome.reports["convergence_sign"]))
            before = float(robust.method_state.entries["previous"])
            train(robust, [0, 1, 2, 3], seed=number)
            if number in (3, 5):
                mean = np.mean(seen[number - 3 : number - 1])
                self.assertAllClose(before, mean, 1e-3)
        # Off in the epochs 0 and 1.
        self.assertEqual(signs[:4], [0.0] * 4)
        expected = np.sign(np.array(seen[4:]) - np.mean(seen[2:4]))
        self.assertAllEqual(signs[4:], expected)

    @parameterized.parameters((1, 0.0), (2, 1.0), (8, 1.0), (9, 0.0))
    def test_convergence_leaves_the_ends_alone(self, epoch, sign):
        progress = Progress(tf.constant(epoch), tf.constant(1), 0, 10)
        names = ("previous", "sum", "count")
        state = {name: tf.constant(1.0) for name in names}
        step = step_without_images(progress=progress, state=state)
        losses = tf.constant([2.0, 4.0])
        for tolerance, factor in ((1.9, sign), (2.1, 0.0)):
            method = methods.get(
                "fgsm_rs_cs", tolerance=tolerance, coefficient=0.5
            )
            added = method.term(step, losses)
            self.assertAllClose(added, factor * 0.5 * 3.0)

    def test_adaptive_elle(self):
        method = methods.get("elle", coefficient_schedule="adaptive")
        state = {
            name: tf.constant(0.0) for name in method.initial_state(None, None)
        }
        errors, weight = [], 0.0
        for error in (1.0, 3.0, 2.0, 2.0, 9.0, 2.0, 1.0, 30.0, 2.0):
            notes = {"error": tf.constant(error)}
            step = step_without_images(state=state, notes=notes)
            state = method.update(step)
            errors.append(error)
            limit = np.mean(errors) + 2 * np.std(errors)
            jumped = len(errors) > 2 and error > limit
            weight = 10.0 if jumped else 0.99 * weight
            self.assertAllClose(state["weight"], weight)
        self.assertGreater(weight, 9)

    def test_universal_perturbations_of_absent_classes_stay(self):
        robust = build("fgsm_cuap")
        entries = robust.method_state.entries
        before = entries["uap"].numpy()
        self.assertAllClose(np.abs(before), np.full(before.shape, 10 / 255))
        _, labels = testing.images_and_labels(4)
        self.assertLess(len(set(labels)), 4)
        train(robust, [0, 1, 2, 3])
        for label in range(4):
            moved = not np.array_equal(before[label], entries["uap"][label])
            self.assertEqual(moved, label in labels)

    def test_images_of_any_size(self):
        layers = keras.layers
        network = keras.Sequential(
            [
                keras.Input((None, None, 3)),
                layers.GlobalAveragePooling2D(),
                layers.Dense(4),
            ]
        )
        for name in ("free", "fgsm_pgi", "fgsm_cuap", "liet"):
            robust = RobustClassifier(network, methods.get(name))
            with self.assertRaisesRegex(InputError, r"=\(None, None, 3\)$"):
                robust.compile("sgd")
        robust = RobustClassifier(network, methods.get("zerograd"))
        robust.compile("sgd")
        images, labels = testing.images_and_labels(4)
        for size in (8, 7):  # The second size is traced for all others, too.
            robust.train_on_batch(images[:, :size], labels)

    def test_features_need_a_dense_end(self):
        inputs = keras.Input((8, 8, 3))
        x = keras.layers.Conv2D(4, 8)(inputs)
        network = keras.Model(inputs, keras.layers.Flatten()(x))
        with self.assertRaisesRegex(InputError, "Dense.*Received: .*=Flatten"):
            RobustClassifier(network, methods.get("fgsm_fuap"))
        network = testing.small_network()
        features = RobustClassifier(network, methods.get("fgsm_fuap")).features
        images, _ = testing.images_and_labels(3)
        dense = network.get_layer("dense")
        self.assertAllClose(dense(features(images)), network(images))

    def test_features_of_one_of_several_outputs(self):
        """Of the classified output, and of all inputs."""
        image, age = keras.Input((8, 8, 3), name="image"), keras.Input((2,))
        x = keras.layers.Flatten()(image)
        both = keras.layers.Concatenate(name="both")([x, age])
        network = keras.Model(
            {"image": image, "age": age},
            {
                "a": keras.layers.Dense(3)(x),
                "b": keras.layers.Dense(4, name="b")(both),
            },
        )
        robust = RobustClassifier(
            network,
            methods.get("fgsm_fuap"),
            pixel_range=(0, 255),
            image_input="image",
            logits_output="b",
        )
        self.assertEqual(robust.features.output_shape, (None, 194))
        robust.compile("sgd")
        images, labels = testing.images_and_labels(4)
        before = network.get_layer("b").get_weights()[0]
        given = {"image": 255 * images, "age": np.ones((4, 2), "float32")}
        robust.fit(given, labels, verbose=0)
        kernel, bias = network.get_layer("b").get_weights()
        self.assertNotAllClose(kernel, before)
        self.assertNotAllClose(bias, np.zeros(4))


if __name__ == "__main__":
    tf.test.main()
