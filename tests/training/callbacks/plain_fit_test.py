"""`RobustAccuracy` in the `fit` of Keras models that are not ours."""

import contextlib
import io
import pathlib
import tempfile

import keras
import numpy as np
import tensorflow as tf
from absl.testing import absltest, parameterized

import fastbat_tf as fb
from fastbat_tf.errors import InputError
from tests.support.testing import images_and_labels

IMAGES, LABELS = images_and_labels(12, classes=3)
VALIDATION = images_and_labels(6, classes=3, seed=1)
ATTACK = fb.attacks.PGD(0.1, steps=2)


class Inference(keras.layers.Layer):
    """Noise that is drawn in inference, too."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.seed_generator = keras.random.SeedGenerator(5)

    def call(self, inputs):
        noise = keras.random.normal(
            keras.ops.shape(inputs),
            dtype=inputs.dtype,
            seed=self.seed_generator,
        )
        return inputs + 1e-3 * noise


def plain_model(scale=1.0, activation=None, **settings):
    keras.utils.set_random_seed(3)
    model = keras.Sequential(
        [
            keras.Input(IMAGES.shape[1:]),
            keras.layers.Rescaling(scale),
            keras.layers.Conv2D(2, 3, strides=2),
            keras.layers.BatchNormalization(),
            Inference(),
            keras.layers.ReLU(),
            keras.layers.Flatten(),
            keras.layers.Dropout(0.3),
            keras.layers.Dense(3, activation=activation),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(
        from_logits=activation is None
    )
    model.compile(
        keras.optimizers.Adam(0.01), loss, metrics=["accuracy"], **settings
    )
    return model


def fit(model, *callbacks, epochs=2, **settings):
    return model.fit(
        IMAGES,
        LABELS,
        batch_size=4,
        epochs=epochs,
        callbacks=[*callbacks],
        **{"verbose": 0, **settings},
    ).history


class PlainFitTest(parameterized.TestCase, tf.test.TestCase):
    def test_training_goes_on_as_without_it(self):
        models = [plain_model() for _ in range(2)]
        keras.utils.set_random_seed(7)
        before = fit(models[0], validation_data=VALIDATION)
        keras.utils.set_random_seed(7)
        measured = fb.RobustAccuracy(VALIDATION, ATTACK)
        after = fit(models[1], measured, validation_data=VALIDATION)
        added = {"val_clean_accuracy", "val_robust_accuracy"}
        self.assertEqual(set(after) - set(before), added)
        for name, values in before.items():
            self.assertEqual(after[name], values, name)
        for ours, theirs in zip(
            models[1].variables + models[1].optimizer.variables,
            models[0].variables + models[0].optimizer.variables,
            strict=True,
        ):
            self.assertAllEqual(ours, theirs)

    def test_is_what_the_attack_finds(self):
        model = plain_model(activation="softmax", jit_compile=True)
        history = fit(model, fb.RobustAccuracy(VALIDATION, ATTACK))
        # The noise of the model is the same in both measurements: it is small.
        adversarial = ATTACK(model, *VALIDATION)
        self.assertAllClose(
            history["val_robust_accuracy"][-1],
            adversarial.robust.mean(),
            atol=1 / 6 + 1e-6,
        )
        clean = model.predict(VALIDATION[0], verbose=0).argmax(-1)
        self.assertAllClose(
            history["val_clean_accuracy"][-1],
            np.mean(clean == VALIDATION[1]),
            atol=1 / 6 + 1e-6,
        )

    def test_a_second_fit_of_other_layers(self):
        model = keras.Sequential(
            [
                keras.Input(IMAGES.shape[1:]),
                keras.layers.Flatten(),
                keras.layers.Dense(3),
            ]
        )
        measured = fb.RobustAccuracy(VALIDATION, ATTACK)
        for _ in range(2):
            loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
            model.compile("sgd", loss)
            fit(model, measured, epochs=1)
            # Of the weights and layers of now.
            expected = ATTACK(model, *VALIDATION).images - VALIDATION[0]
            self.assertAllClose(
                measured.result.perturbation, expected, atol=1e-6
            )
            model.pop()
            model.add(keras.layers.Dense(3))

    def test_stops_and_saves_by_it(self):
        directory = self.enterContext(tempfile.TemporaryDirectory())
        path = pathlib.Path(directory, "best.keras")
        model = plain_model()
        # Nothing improves on the first epoch.
        model.optimizer.learning_rate = 0.0
        stopping = keras.callbacks.EarlyStopping(
            "val_robust_accuracy", mode="max", patience=1
        )
        saving = keras.callbacks.ModelCheckpoint(
            path, "val_robust_accuracy", mode="max", save_best_only=True
        )
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            history = fit(
                model,
                fb.RobustAccuracy(VALIDATION, ATTACK),
                stopping,
                saving,
                epochs=5,
                verbose=2,
            )
        self.assertLen(history["val_robust_accuracy"], 2)
        self.assertTrue(path.exists())
        self.assertIn("val_robust_accuracy: ", printed.getvalue())

    @parameterized.parameters("early", "checkpoint")
    def test_a_reader_that_is_listed_before(self, kind):
        if kind == "early":
            reader = keras.callbacks.EarlyStopping(
                "val_robust_accuracy", mode="max"
            )
        else:
            reader = keras.callbacks.ModelCheckpoint(
                "best.keras", "val_clean_accuracy", mode="max"
            )
        with self.assertRaisesRegex(
            InputError, "after RobustAccuracy in the list.*Received: callbacks="
        ):
            fit(plain_model(), reader, fb.RobustAccuracy(VALIDATION, ATTACK))

    def test_a_column_that_is_taken(self):
        measured = [fb.RobustAccuracy(VALIDATION, ATTACK) for _ in range(2)]
        with self.assertRaisesRegex(InputError, "name=val_clean_accuracy"):
            fit(plain_model(), *measured)

    def test_refused_before_the_first_epoch(self):
        inputs = keras.Input(IMAGES.shape[1:])
        rounded = keras.layers.Lambda(tf.round)(inputs)
        outputs = keras.layers.Dense(3)(keras.layers.Flatten()(rounded))
        model = keras.Model(inputs, outputs)
        model.compile("sgd", "sparse_categorical_crossentropy")
        steps = []
        watch = keras.callbacks.LambdaCallback(
            on_train_batch_end=lambda batch, logs: steps.append(batch)
        )
        with self.assertRaisesRegex(InputError, "Square.*without gradient"):
            fit(model, fb.RobustAccuracy(VALIDATION, ATTACK), watch)
        images, labels = VALIDATION
        with self.assertRaisesRegex(InputError, r"Labels.*\[0, 3\)"):
            fit(plain_model(), fb.RobustAccuracy((images, labels + 2)), watch)
        with self.assertRaisesRegex(InputError, "model's 3 classes.*5 classes"):
            fit(
                plain_model(),
                fb.RobustAccuracy((images, np.eye(5)[labels])),
                watch,
            )
        self.assertEmpty(steps)
        with self.assertRaisesRegex(InputError, "Received: attack='pgd'"):
            fb.RobustAccuracy(VALIDATION, "pgd")

    def test_data_of_each_form(self):
        images, labels = VALIDATION
        gray_levels = np.round(255 * images).astype(np.uint8)
        model = plain_model(scale=1 / 255)
        batches = tf.data.Dataset.from_tensor_slices(
            {"image": gray_levels, "label": labels}
        ).batch(4)

        class Batches(keras.utils.PyDataset):
            def __len__(self):
                return 3

            def __getitem__(self, number):
                part = slice(2 * number, 2 * number + 2)
                return gray_levels[part], labels[part]

        measured = [
            fb.RobustAccuracy(data, ATTACK, pixel_range=(0, 255))
            for data in (
                (gray_levels, labels),
                (gray_levels.astype(np.float32), np.eye(3)[labels]),
                batches,
                Batches(),
                (
                    (x[None], y[None])
                    for x, y in zip(gray_levels, labels, strict=True)
                ),
            )
        ]
        for each in measured:
            each.set_model(model)
            self.assertAllClose(each.examples.images, gray_levels / 255)
            self.assertAllEqual(each.examples.labels, labels)
        self.assertIn("val_robust_accuracy", fit(model, measured[-1], epochs=1))

    def test_mixed_precision_in_a_strategy(self):
        strategy = tf.distribute.MirroredStrategy(["CPU:0"])
        policy = keras.config.dtype_policy()
        keras.config.set_dtype_policy("mixed_bfloat16")
        try:
            with strategy.scope():
                model = plain_model()
        finally:
            keras.config.set_dtype_policy(policy)
        history = fit(model, fb.RobustAccuracy(VALIDATION, ATTACK))
        self.assertLen(history["val_robust_accuracy"], 2)


if __name__ == "__main__":
    absltest.main()
