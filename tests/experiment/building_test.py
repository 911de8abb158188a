"""What the settings of a training compile to."""

from unittest import mock

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from fastbat_tf.experiment import building, callbacks
from fastbat_tf.experiment.config import Config, MethodConfig
from fastbat_tf.methods import METHODS
from fastbat_tf.methods.fastat import FastAT
from fastbat_tf.methods.options import EPSILON
from fastbat_tf.methods.spec import MethodSpec, Passes
from fastbat_tf.training.classifier import RobustClassifier
from fastbat_tf.training.losses import DLR, SmoothedCrossentropy
from fastbat_tf.training.options import SCHEDULES, TrainingConfig
from tests.support import testing

UNMOVED = Passes(1, 1, 1, reach=0)
OPTIONS = {"epsilon": EPSILON}


class Replaying(FastAT):
    replays = 3


def compiled(method=FastAT, steps_per_epoch=10, **settings):
    robust = RobustClassifier(testing.small_network(), method())
    config = Config(training=TrainingConfig(**settings))
    return building.compile_robust(config, robust, steps_per_epoch)


class CompileTest(tf.test.TestCase, parameterized.TestCase):
    def test_defaults(self):
        robust = compiled()
        optimizer = robust.optimizer
        self.assertIs(type(optimizer), keras.optimizers.SGD)
        self.assertEqual((optimizer.momentum, optimizer.nesterov), (0.9, False))
        self.assertIsNone(optimizer.weight_decay)
        self.assertEqual(robust.update_rule.weight_decay, 5e-4)
        self.assertEqual(robust.update_rule.clip_norm, 0)
        self.assertIsNone(robust.weight_average)
        self.assertIsNone(robust.attack_loss)
        images, labels = testing.images_and_labels(6)
        logits = robust(images)
        plain = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        self.assertAllEqual(robust.loss(labels, logits), plain(labels, logits))

    def test_all_settings(self):
        robust = compiled(
            optimizer="adamw",
            learning_rate=0.02,
            beta_1=0.8,
            beta_2=0.9,
            weight_decay=0.3,
            weight_decay_on="kernels",
            clip_norm=4.0,
            label_smoothing=0.2,
            attack_loss="crossentropy",
            schedule="constant",
            weight_averaging=0.99,
        )
        optimizer = robust.optimizer
        self.assertIs(type(optimizer), keras.optimizers.AdamW)
        self.assertEqual((optimizer.beta_1, optimizer.beta_2), (0.8, 0.9))
        # The update rule applies it.
        self.assertEqual(optimizer.weight_decay, 0)
        self.assertEqual(robust.update_rule.weight_decay, 0.3)
        self.assertAllClose(optimizer.learning_rate, 0.02)
        self.assertEqual(robust.update_rule.weight_decay_mode, "decoupled")
        self.assertEqual(robust.update_rule.weight_decay_on, "kernels")
        self.assertEqual(robust.update_rule.clip_norm, 4.0)
        self.assertEqual(robust.weight_average.decay, 0.99)
        self.assertIsInstance(robust.loss, SmoothedCrossentropy)
        self.assertEqual(robust.loss.label_smoothing, 0.2)
        self.assertNotIsInstance(robust.attack_loss, SmoothedCrossentropy)
        images, labels = testing.images_and_labels(4)
        self.assertGreater(robust.train_on_batch(images, labels)[0], 0)

    def test_dlr(self):
        self.assertIsInstance(compiled(loss="dlr").loss, DLR)

    @parameterized.parameters(*SCHEDULES)
    def test_a_schedule_counts_updates(self, name):
        """Replays are updates, so there are fewer passes through the data."""
        found = []
        for method, passes in ((FastAT, 6), (Replaying, 2)):
            robust = compiled(
                method, schedule=name, learning_rate=0.5, epochs=6
            )
            self.assertEqual(robust.plan.epochs, passes)
            rates = []
            for updates in range(60):
                robust.optimizer.iterations.assign(updates)
                rates.append(float(robust.optimizer.learning_rate))
            found.append(rates)
        self.assertAllEqual(*found)
        self.assertGreater(np.max(found), 0.4)
        if name != "constant":
            self.assertLess(found[0][-1], 0.3)

    def test_updates_of_a_replaying_method(self):
        robust = compiled(Replaying, schedule="multistep", epochs=6)
        robust.train_on_batch(*testing.images_and_labels(4))
        self.assertAllEqual(robust.optimizer.iterations, 3)

    @parameterized.parameters(
        (METHODS["fastat"], "perturbed_accuracy", "val_robust_accuracy"),
        (METHODS["standard"], "accuracy", "val_clean_accuracy"),
        # Methods of a user.
        (MethodSpec("Plain", "plain"), "accuracy", "val_clean_accuracy"),
        (
            MethodSpec("Mixup", "mixup", passes=UNMOVED, options=OPTIONS),
            "accuracy",
            "val_clean_accuracy",
        ),
        (
            MethodSpec("Noise", "noise", options=OPTIONS),
            "perturbed_accuracy",
            "val_robust_accuracy",
        ),
    )
    def test_the_accuracy_of_the_training(self, spec, name, monitored):
        """Only what a method perturbs has a perturbed accuracy."""
        self.enterContext(mock.patch.dict(METHODS, {"other": spec}))
        config = Config(method=MethodConfig("other"))
        robust = RobustClassifier(testing.small_network(), FastAT())
        building.compile_robust(config, robust, steps_per_epoch=10)
        self.assertEqual(robust.user_metrics[0], name)
        self.assertEqual(callbacks.monitored_column(config), monitored)


if __name__ == "__main__":
    tf.test.main()
