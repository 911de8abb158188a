"""The guard against catastrophic overfitting."""

import contextlib
import io
import pathlib
import tempfile
from unittest import mock

import keras
import numpy as np
import tensorflow as tf
from absl.testing import absltest, parameterized

from fastbat_tf import (
    EpsilonSchedule,
    GradientAlignment,
    OverfittingGuard,
    OverfittingScores,
    RobustAccuracy,
    attacks,
)
from fastbat_tf.attacks.models import logits_of
from fastbat_tf.data.sources import Examples
from fastbat_tf.errors import InputError
from fastbat_tf.runtime import display
from fastbat_tf.training import variables
from tests.support import method_steps, testing

GOOD = {"val_fgsm_accuracy": 0.5, "val_robust_accuracy": 0.45}
BAD = {"val_fgsm_accuracy": 0.75, "val_robust_accuracy": 0.25}


class ScoresTest(tf.test.TestCase):
    def test_scores(self):
        robust = method_steps.build("fgsm")
        network = logits_of(robust.classifier)
        examples = Examples(*testing.images_and_labels(40))
        validation = RobustAccuracy(examples, attacks.PGD(0.1, seed=3))
        alignment = GradientAlignment(network)
        scores = OverfittingScores(
            examples, attacks.FGSM(0.1, seed=3), alignment
        )
        for callback in (validation, scores):
            callback.set_model(robust)
        logs = {}
        validation.on_epoch_end(0, logs)
        scores.on_epoch_end(0, logs)

        images, labels = map(tf.constant, examples)
        with tf.GradientTape() as tape:
            tape.watch(images)
            loss = keras.losses.sparse_categorical_crossentropy(
                labels, network(images), True
            )
        step = 0.1 * tf.sign(tape.gradient(loss, images))
        moved = network(tf.clip_by_value(images + step, 0, 1))
        stand = tf.argmax(moved, -1, tf.int32) == labels
        # FGSM counts only what was classified correctly.
        stand &= tf.argmax(network(images), -1, tf.int32) == labels
        accuracy = np.mean(stand)
        self.assertAlmostEqual(logs["val_fgsm_accuracy"], accuracy)
        self.assertAlmostEqual(
            logs["val_overfitting_gap"], accuracy - logs["val_robust_accuracy"]
        )
        self.assertAlmostEqual(
            logs["val_gradient_alignment"], alignment(*examples, 0.1, seed=3)
        )
        self.assertTrue(all(isinstance(v, float) for v in logs.values()))


class GuardTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        directory = self.enterContext(tempfile.TemporaryDirectory())
        self.path = pathlib.Path(directory, "good.npz")
        self.said = []
        self.enterContext(mock.patch.object(display, "warn", self.said.append))

    def build(self, name="fgsm_pgi", **settings):
        robust = method_steps.build(name)
        robust.compile(
            keras.optimizers.SGD(0.05, momentum=0.9),
            plan=robust.plan,
            weight_averaging=0.9,
            epsilon_schedule=EpsilonSchedule(),
            run_eagerly=True,
            **settings,
        )
        return robust

    def guard(self, action, robust=None, **settings):
        guard = OverfittingGuard(action, path=self.path, **settings)
        guard.set_model(
            robust or mock.Mock(stop_training=False, user_metrics=())
        )
        return guard

    def end_epoch(self, guard, epoch, scores):
        gap = scores["val_fgsm_accuracy"] - scores["val_robust_accuracy"]
        logs = {**scores, "val_overfitting_gap": gap}
        guard.on_epoch_end(epoch, logs)
        alarm = logs["overfitting_alarm"]
        expected = alarm if guard.action == "rollback" else None
        self.assertEqual(logs.get("overfitting_rollback"), expected)
        return alarm

    @parameterized.parameters(
        (0.15, BAD, 1.0), (0.6, BAD, 0.0), (0.15, GOOD, 0.0), (0.01, GOOD, 1.0)
    )
    def test_warn(self, threshold, scores, expected):
        guard = self.guard("warn", threshold=threshold)
        guard.on_train_begin()
        self.assertEqual(self.end_epoch(guard, 4, scores), expected)
        self.assertFalse(guard.model.stop_training)
        self.assertFalse(self.path.exists())
        self.assertLen(self.said, int(expected))
        if scores is BAD and expected:
            self.assertEqual(
                self.said[0],
                "Catastrophic overfitting in epoch 5: 75.0 % of the validation "
                "images withstand FGSM, 25.0 % the validation attack (best so "
                "far: 0.0 %). Training continues.",
            )

    def test_a_third_of_the_threshold(self):
        """A third is enough once PGD accuracy has lost half of its best."""
        for fallen, gap, expected in (
            (0.19, 0.06, 1),
            (0.19, 0.04, 0),
            (0.21, 0.06, 0),
            (0.21, 0.16, 1),
        ):
            guard = self.guard("warn")
            guard.on_train_begin()
            for accuracy, apart, alarm in (
                (0.4, 0.1, 0),
                (fallen, gap, expected),
            ):
                scores = {
                    "val_fgsm_accuracy": accuracy + apart,
                    "val_robust_accuracy": accuracy,
                }
                self.assertEqual(self.end_epoch(guard, 3, scores), alarm)

    def test_stop(self):
        guard = self.guard("stop")
        guard.on_train_begin()
        self.end_epoch(guard, 0, GOOD)
        self.assertFalse(guard.model.stop_training)
        self.end_epoch(guard, 1, BAD)
        self.assertTrue(guard.model.stop_training)
        self.assertEndsWith(self.said[0], "Training ends.")
        # A process that resumes has nothing to train.
        again = self.guard("stop")
        again.state = guard.state
        again.on_train_begin()
        self.assertTrue(again.model.stop_training)

    def train(self, robust, seed):
        method_steps.train(robust, [0, 1, 2, 3], seed)

    def test_rollback(self):
        robust = self.build()
        self.train(robust, 0)
        guard = self.guard("rollback", robust)
        guard.on_train_begin()
        self.end_epoch(guard, 0, GOOD)
        every = variables.state_variables(robust)
        good = [variables.values(v) for v in every]
        for seed in (1, 2):
            self.train(robust, seed)
        steps, updates = int(robust.step), int(robust.optimizer.iterations)
        bad = [variables.values(v) for v in every]
        self.assertEqual(self.end_epoch(guard, 1, BAD), 1)
        stay = {
            id(robust.step): steps,
            id(robust.optimizer.iterations): updates,
            id(robust.epsilon_schedule.factor): 0.5,
        }
        metrics = {id(v) for v in robust.metrics_variables}
        changed = 0
        for variable, before, after in zip(every, good, bad, strict=True):
            if id(variable) in stay:
                self.assertEqual(variable.numpy(), stay[id(variable)])
            elif id(variable) in metrics:
                np.testing.assert_array_equal(variables.values(variable), after)
            else:
                np.testing.assert_array_equal(
                    variables.values(variable), before
                )
                changed += not np.array_equal(before, after)
        # Weights, statistics, momenta, averages, the method's state.
        self.assertGreater(changed, 20)
        self.assertEndsWith(
            self.said[0],
            "Back to the weights after epoch 1; training continues with 0.5 "
            "of epsilon.",
        )
        self.assertFalse(robust.stop_training)

    def test_rollback_to_the_beginning_and_again(self):
        robust = self.build("fastat")
        guard = self.guard("rollback", robust, factor=0.7)
        guard.on_train_begin()
        first = [v.numpy() for v in robust.classifier.weights]
        for epoch in range(2):
            self.train(robust, epoch)
            self.end_epoch(guard, epoch, BAD)
            for old, variable in zip(
                first, robust.classifier.weights, strict=True
            ):
                np.testing.assert_array_equal(old, variable.numpy())
        self.assertIn("Back to the weights at the beginning", self.said[1])
        self.assertEndsWith(self.said[1], "with 0.49 of epsilon.")
        self.assertAlmostEqual(float(robust.epsilon_schedule.share(9)), 0.49)

    def test_a_collapse_before_its_alarm(self):
        """An epoch below 3/4 of the best is not restored."""
        robust = self.build("fastat")
        guard = self.guard("rollback", robust)
        guard.on_train_begin()
        kept = []
        for epoch, accuracy in enumerate((0.2, 0.4, 0.31, 0.29)):
            if epoch == 3:  # A process that resumes knows the best, too.
                again = self.guard("rollback", robust)
                again.state = guard.state
                guard = again
            self.train(robust, epoch)
            scores = {
                "val_fgsm_accuracy": accuracy + 0.049,
                "val_robust_accuracy": accuracy,
            }
            self.assertEqual(self.end_epoch(guard, epoch, scores), 0)
            kept.append(guard.state["good_epoch"])
        self.assertEqual(kept, [1, 2, 3, 3])

    def test_another_process_goes_on(self):
        robust = self.build("fastat")
        guard = self.guard("rollback", robust)
        guard.on_train_begin()
        self.end_epoch(guard, 0, GOOD)
        good = [v.numpy() for v in robust.classifier.weights]
        self.train(robust, 1)
        again = self.guard("rollback", robust)
        again.state = guard.state
        again.on_train_begin()  # Current weights are not taken for good.
        self.end_epoch(again, 1, BAD)
        for old, variable in zip(good, robust.classifier.weights, strict=True):
            np.testing.assert_array_equal(old, variable.numpy())

    def test_after_a_rollback_less_is_good(self):
        robust = self.build("fastat")
        guard = self.guard("rollback", robust)
        guard.on_train_begin()
        self.end_epoch(guard, 0, GOOD)
        self.end_epoch(guard, 1, BAD)
        less = {"val_fgsm_accuracy": 0.2, "val_robust_accuracy": 0.15}
        self.end_epoch(guard, 2, less)
        self.assertEqual(guard.state["good_epoch"], 3)

    def test_the_count_of_accumulated_gradients_does_not_go_back(self):
        robust = method_steps.build("fastat")
        robust.compile(
            keras.optimizers.SGD(0.05, gradient_accumulation_steps=2),
            epsilon_schedule=EpsilonSchedule(),
            run_eagerly=True,
        )
        guard = self.guard("rollback", robust)
        guard.on_train_begin()
        for seed in range(3):
            self.train(robust, seed)
        self.end_epoch(guard, 0, BAD)
        self.assertEqual(robust.optimizer.iterations, 1)
        self.train(robust, 3)
        self.assertEqual(robust.optimizer.iterations, 2)

    def test_dropout_does_not_go_back(self):
        network = keras.Sequential(
            [
                keras.Input((8, 8, 3)),
                keras.layers.Flatten(),
                keras.layers.Dropout(0.5, seed=1),
                keras.layers.Dense(4),
            ]
        )
        robust = method_steps.build("fastat", network=network)
        robust.compile(
            keras.optimizers.SGD(0.05), epsilon_schedule=EpsilonSchedule()
        )
        (state,) = [
            v for v in robust.variables if v.name == "seed_generator_state"
        ]
        guard = self.guard("rollback", robust)
        guard.on_train_begin()
        self.train(robust, 0)
        drawn = state.numpy()
        self.assertTrue(drawn.any())
        self.end_epoch(guard, 0, BAD)
        self.assertAllEqual(state.numpy(), drawn)

    def test_bad_arguments(self):
        for arguments, message in (
            ({"action": "rolback"}, "warn, stop, rollback.*action=rolback$"),
            ({"action": "rollback"}, "path of a file. Received: path=None$"),
        ):
            with self.assertRaisesRegex(InputError, message):
                OverfittingGuard(**arguments)
        guard = self.guard("rollback", method_steps.build("fastat"))
        with self.assertRaisesRegex(InputError, "epsilon_schedule=None$"):
            guard.on_train_begin()
        # A string is a path, too.
        OverfittingGuard("rollback", path=str(self.path))

    def test_no_room(self):
        robust = self.build("fastat")
        guard = self.guard("rollback", robust)
        guard.on_train_begin()
        before = self.path.read_bytes()
        self.train(robust, 0)

        def write_half(file, *arrays):
            file.write(b"half")
            raise OSError(28, "No space left on device")

        with mock.patch.object(np, "savez", write_half):
            with self.assertRaises(OSError):
                self.end_epoch(guard, 0, GOOD)
        self.assertEqual(self.path.read_bytes(), before)
        self.assertEqual(list(self.path.parent.iterdir()), [self.path])

    def test_on_two_replicas(self):
        """Each replica gets back its own moving statistics."""
        with testing.two_cpu_strategy().scope():
            robust = self.build("fastat").compile(
                keras.optimizers.SGD(0.05), epsilon_schedule=EpsilonSchedule()
            )
        images, labels = testing.images_and_labels(8)
        robust.fit(images, labels, batch_size=8, verbose=0)
        guard = self.guard("rollback", robust)
        guard.on_train_begin()
        every = robust.classifier.weights
        good = [variables.values(v) for v in every]
        self.assertTrue(any(len(copies) == 2 for copies in good))
        robust.fit(images, labels, batch_size=8, verbose=0)
        self.end_epoch(guard, 0, BAD)
        for variable, before in zip(every, good, strict=True):
            np.testing.assert_array_equal(variables.values(variable), before)


class FitTest(tf.test.TestCase):
    def test_fit_of_keras(self):
        """The documented use with `fit`: an alarm in each of three epochs."""
        robust = method_steps.build("fastat")
        robust.compile(
            keras.optimizers.Adam(0.05), epsilon_schedule=EpsilonSchedule()
        )
        examples = Examples(*testing.images_and_labels(12, seed=1))
        directory = self.enterContext(tempfile.TemporaryDirectory())
        printed = io.StringIO()
        self.enterContext(contextlib.redirect_stdout(printed))
        guard = OverfittingGuard(
            "rollback",
            threshold=-1.0,  # Any gap raises an alarm.
            path=pathlib.Path(directory, "good.npz"),
        )
        history = robust.fit(
            *testing.images_and_labels(8),
            batch_size=4,
            epochs=3,
            verbose=0,
            callbacks=[
                RobustAccuracy(examples, attacks.PGD(0.1, steps=2)),
                OverfittingScores(
                    examples,
                    attacks.FGSM(0.1),
                    GradientAlignment(robust.network),
                ),
                guard,
            ],
        ).history
        self.assertLen(printed.getvalue().splitlines(), 3)
        self.assertEqual(history["overfitting_alarm"], [1, 1, 1])
        self.assertEqual(history["overfitting_rollback"], [1, 1, 1])
        self.assertAllClose(history["robust_epsilon_share"], [1, 0.5, 0.25])


if __name__ == "__main__":
    absltest.main()
