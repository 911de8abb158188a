"""RobustClassifier: saving, loading, and what it refuses."""

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from fastbat_tf import FastAT, FastBAT, RobustClassifier
from fastbat_tf.training import losses, schedules
from tests.support import command_line, testing


class SavingTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(
        {"optimizer": keras.optimizers.SGD(0.1, momentum=0.9)},
        {
            "optimizer": keras.optimizers.Adam(
                schedules.get("cosine", 0.1, 2, 2, schedule_unit="epoch")
            ),
            "loss": losses.get("crossentropy", label_smoothing=0.3),
            "attack_loss": losses.get("dlr"),
            "weight_decay_mode": "decoupled",
            "weight_decay_on": "kernels",
            "clip_norm": 0.05,
            "weight_averaging": 0.9,
        },
    )
    def test_save_and_load(self, **options):
        robust = RobustClassifier(
            testing.small_network(), FastBAT(epsilon=0.1, implicit_lambda=3.0)
        )
        images, labels = testing.images_and_labels(4)
        path = f"{self.get_temp_dir()}/robust.keras"
        robust.save(path)
        self.assertFalse(keras.models.load_model(path).compiled)
        robust.compile(**options, weight_decay=0.3, jit_compile=True)
        robust.train_on_batch(images, labels)
        robust.save(path)
        loaded = keras.models.load_model(path)
        self.assertEqual(repr(loaded.method), repr(robust.method))
        self.assertTrue(loaded.compiles_step)
        self.assertAllClose(loaded(images), robust(images))
        # Training continues alike: momentum, weight decay, losses, draws.
        for model in (robust, loaded):
            model.train_on_batch(images, labels)
        for ours, theirs in zip(loaded.weights, robust.weights, strict=True):
            self.assertAllClose(ours, theirs, 1e-5, 1e-6)

    def test_numbers_of_numpy(self):
        robust = RobustClassifier(testing.small_network(), FastAT())
        robust.compile(
            weight_averaging=np.float32(0.5),
            steps_per_execution=np.int64(2),
            loss_weights=np.float32(0.5),
        )
        self.assertEqual(robust.steps_per_execution, 2)
        self.assertIsNotNone(robust.weight_average)

    def test_load_in_another_process(self):
        """In a process that has imported only the package."""
        robust = RobustClassifier(testing.small_network(), FastAT())
        rate = schedules.get("cosine", 0.25, 4, 2, warmup_epochs=1)
        robust.compile(keras.optimizers.SGD(rate), losses.get("dlr"))
        robust.train_on_batch(*testing.images_and_labels(4))
        path = f"{self.get_temp_dir()}/robust.keras"
        robust.save(path)
        process = command_line.python(
            "-c",
            "import keras, fastbat_tf\n"
            f"loaded = keras.models.load_model({path!r})\n"
            "print(float(loaded.optimizer.learning_rate), type(loaded.loss))",
        )
        self.assertEqual(
            process.stdout,
            "0.25 <class 'fastbat_tf.training.losses.DLR'>\n",
            process.stderr,
        )

    def test_refused(self):
        network = testing.small_network()
        robust = RobustClassifier(network, FastAT())
        with self.assertRaisesRegex(ValueError, "from_logits=True.*Received"):
            robust.compile(loss=keras.losses.SparseCategoricalCrossentropy())
        with self.assertRaisesRegex(ValueError, "from_logits=True.*Received"):
            robust.compile(loss="sparse_categorical_crossentropy")
        with self.assertRaisesRegex(ValueError, "weight_decay=-1"):
            robust.compile(weight_decay=-1)
        with self.assertRaisesRegex(ValueError, r"loss_weights=\[2.0, 1\]"):
            robust.compile(loss_weights=[2.0, 1])
        with self.assertRaisesRegex(ValueError, "jit_compile=yes"):
            robust.compile(jit_compile="yes")
        with self.assertRaisesRegex(ValueError, "expected to be built"):
            unbuilt = keras.Sequential([keras.layers.Flatten()])
            RobustClassifier(unbuilt, FastAT())
        robust.compile()
        images, labels = testing.images_and_labels(4)
        with self.assertRaisesRegex(ValueError, "images.dtype=uint8"):
            robust.train_on_batch((255 * images).astype("uint8"), labels)


if __name__ == "__main__":
    tf.test.main()
