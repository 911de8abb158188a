"""The images that TensorBoard shows."""

import tempfile
from unittest import mock

import keras
import numpy as np
import tensorflow as tf
from absl.testing import absltest

import fastbat_tf as fb
from fastbat_tf.errors import InputError
from fastbat_tf.runtime import figures
from fastbat_tf.training import callbacks
from fastbat_tf.training.callbacks.panel import TAG, of_distinct_classes
from tests.support import event_files
from tests.support.small_training import SmallTraining
from tests.support.testing import images_and_labels

NAMES = ["cat", "dog", "frog", "ship"]


class PerturbationPanelTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.directory = self.enterContext(tempfile.TemporaryDirectory())
        self.drawn = []
        draw = figures.draw

        def listen(rows, **settings):
            self.drawn.append(rows)
            return draw(rows, **settings)

        self.enterContext(mock.patch.object(figures, "draw", listen))

    def test_the_same_images_each_epoch(self):
        training = SmallTraining()
        training.robust.optimizer.learning_rate = 1e-6
        validation = training.validation(epsilon=0.1)
        images, labels = validation.examples
        chosen = of_distinct_classes(labels, 3)
        self.assertLen(set(labels[chosen]), 3)
        # One of the images is classified correctly.
        (right,) = training.robust.network(images[chosen[:1]]).numpy()
        labels[chosen[0]] = right.argmax()
        chosen = of_distinct_classes(labels, 3)
        panel = callbacks.PerturbationPanel(
            validation, self.directory, 3, class_names=NAMES
        )
        training.fit(validation, panel)
        self.assertLen(self.drawn, 2)
        for rows in self.drawn:
            self.assertEqual([row.number for row in rows], list(chosen))
            for row in rows:
                self.assertAllEqual(row.image, images[row.number])
                label = NAMES[labels[row.number]]
                self.assertEqual(row.label, f"true class: {label}")
        # What the network says of the last weights.
        for row in self.drawn[1]:
            delta = validation.result.perturbation[row.number]
            self.assertAllClose(row.adversarial, row.image + delta, atol=1e-6)
            for picture, caption in (
                (row.image, row.before),
                (row.adversarial, row.after),
            ):
                logits = training.robust.network(picture[np.newaxis])
                (share,) = keras.ops.softmax(logits).numpy()
                name, percent, _ = caption.text.replace("\xa0", " ").split(" ")
                self.assertEqual(name, NAMES[share.argmax()])
                self.assertAlmostEqual(int(percent), 100 * share.max(), -1)
                right = share.argmax() == labels[row.number]
                self.assertEqual(caption.is_right, right)
            right = validation.result.clean_correct[row.number]
            self.assertEqual(row.before.is_right, right)
            robust = validation.result.robust[row.number]
            self.assertEqual(row.after.is_right, robust)
        self.assertEqual({row.before.is_right for row in rows}, {True, False})
        series = event_files.read(self.directory)[TAG]
        self.assertEqual((series.plugin, series.steps), ("images", [1, 2]))
        for value in series.values:
            picture = event_files.picture(value)
            self.assertGreater(min(picture.shape[:2]), 300)
            self.assertGreater(picture.std(), 10)

    def test_fit_of_a_plain_model_with_gray_images(self):
        images, labels = images_and_labels(12, classes=3)
        images = np.round(255 * images[..., :1]).astype(np.uint8)
        model = keras.Sequential(
            [
                keras.Input(images.shape[1:]),
                keras.layers.Rescaling(1 / 255),
                keras.layers.Flatten(),
                keras.layers.Dense(3),
            ]
        )
        model.compile(
            "sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        )
        validation = fb.RobustAccuracy(
            (images, labels),
            fb.attacks.PGD(0.1, steps=2),
            pixel_range=(0, 255),
        )
        curves = callbacks.Curves(self.directory)
        panel = callbacks.PerturbationPanel(validation, curves, 3)
        model.fit(
            images, labels, verbose=0, callbacks=[validation, panel, curves]
        )
        (rows,) = self.drawn
        for row in rows:
            self.assertAllClose(row.image, images[row.number] / 255)
            self.assertEqual(row.label, f"true class: {labels[row.number]}")
            self.assertIn("class ", row.before.text)
        series = event_files.read(f"{self.directory}/validation")
        self.assertEqual(series[TAG].steps, [1])
        self.assertIn("epoch_robust_accuracy", series)

    def test_refused(self):
        training = SmallTraining()
        validation = training.validation()
        for arguments, message in (
            ({"max_examples": 0}, "max_examples=0"),
            ({"class_names": "cat"}, "class_names='cat'"),
        ):
            with self.assertRaisesRegex(InputError, message):
                callbacks.PerturbationPanel(
                    validation, self.directory, **arguments
                )
        panel = callbacks.PerturbationPanel(
            validation, self.directory, class_names=NAMES[:3]
        )
        with self.assertRaisesRegex(InputError, "4 classes. Received: 3 names"):
            panel.on_train_begin()
        panel = callbacks.PerturbationPanel(validation, self.directory)
        with self.assertRaisesRegex(InputError, "before it in the list"):
            panel.on_epoch_end(0, {})

    def test_distinct_classes_first(self):
        labels = np.array([1, 1, 0, 1, 0, 2])
        self.assertAllEqual(of_distinct_classes(labels, 5), [0, 2, 5, 1, 4])
        self.assertAllEqual(of_distinct_classes(labels, 9), [0, 2, 5, 1, 4, 3])


if __name__ == "__main__":
    absltest.main()
