"""Tests of what Keras does with a model beside training it."""

import pathlib
import tempfile

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from fastbat_tf import (
    FGSMMEPCS,
    FastAT,
    Plan,
    RobustClassifier,
)
from fastbat_tf.errors import InputError
from tests.support import testing

COUNT, BATCH = 16, 8
IMAGES, LABELS = testing.images_and_labels(COUNT)


@keras.saving.register_keras_serializable("lifecycle_test")
class Subclassed(keras.Model):
    """A convolution and a dense layer."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.convolution = keras.layers.Conv2D(2, 3, activation="softplus")
        self.pooling = keras.layers.GlobalAveragePooling2D()
        self.dense = keras.layers.Dense(4)

    def call(self, images, training=None):
        del training
        return self.dense(self.pooling(self.convolution(images)))


def sequential():
    return keras.Sequential(
        [keras.Input((8, 8, 3)), *vars(Subclassed())["_layers"]]
    )


def functional():
    model = sequential()
    return keras.Model(model.inputs, model.outputs)


def subclassed():
    model = Subclassed()
    model(IMAGES[:1])
    return model


KINDS = parameterized.named_parameters(
    ("functional", functional),
    ("sequential", sequential),
    ("subclassed", subclassed),
)


def compiled(build=functional, method=None, **settings):
    keras.utils.set_random_seed(0)
    robust = RobustClassifier(build(), method or FastAT(8 / 255))
    settings = {"optimizer": keras.optimizers.Adam(0.01), **settings}
    return robust.compile(**settings)


def fit(robust, epochs=1, **arguments):
    arguments = {"batch_size": BATCH, "shuffle": False, **arguments}
    return robust.fit(IMAGES, LABELS, epochs=epochs, verbose=0, **arguments)


def predict(robust, images=IMAGES):
    return robust.predict(images, verbose=0)


class FilesTest(parameterized.TestCase, tf.test.TestCase):
    def setUp(self):
        super().setUp()
        directory = self.enterContext(tempfile.TemporaryDirectory())
        self.directory = pathlib.Path(directory)

    def assert_equal_states(self, ours, theirs):
        for a, b in zip(
            [*ours.variables, *ours.optimizer.variables],
            [*theirs.variables, *theirs.optimizer.variables],
            strict=True,
        ):
            self.assertAllEqual(a, b, a.path)

    @KINDS
    def test_export(self, build):
        """The exported function is that of `predict`, also of a loaded model.

        A subclassed model in a file has never been called.
        """
        robust = RobustClassifier(build(), FastAT(), pixel_range=(0, 255))
        path = self.directory / "robust.keras"
        robust.save(path)
        loaded = keras.saving.load_model(path)
        loaded.export(self.directory / "exported", verbose=False)
        exported = tf.saved_model.load(str(self.directory / "exported"))
        for images in (255 * IMAGES, 255 * IMAGES[:3]):
            self.assertAllClose(
                exported.serve(images), predict(robust, images), 1e-5, 1e-5
            )

    def test_export_of_random_layers(self):
        """What is exported augments nothing, unlike in Keras' own export."""
        classifier = keras.Sequential(
            [
                keras.Input((8, 8, 3)),
                keras.layers.RandomTranslation(0.4, 0.4),
                keras.layers.Flatten(),
                keras.layers.Dropout(0.5),
                keras.layers.Dense(4),
            ]
        )
        robust = RobustClassifier(classifier, FastAT())
        robust.export(self.directory / "exported", verbose=False)
        exported = tf.saved_model.load(str(self.directory / "exported"))
        self.assertAllClose(exported.serve(IMAGES), predict(robust), 1e-5, 1e-5)

    def test_export_of_another_format(self):
        robust = RobustClassifier(functional(), FastAT())
        robust.export(self.directory / "lite.tflite", "litert", verbose=False)
        lite = tf.lite.Interpreter(str(self.directory / "lite.tflite"))
        (given,), (answer,) = (
            lite.get_input_details(),
            lite.get_output_details(),
        )
        lite.resize_tensor_input(given["index"], IMAGES.shape)
        lite.allocate_tensors()
        lite.set_tensor(given["index"], IMAGES)
        lite.invoke()
        self.assertAllClose(
            lite.get_tensor(answer["index"]), predict(robust), 1e-4, 1e-5
        )

    def test_an_h5_file_is_refused(self):
        with self.assertRaisesRegex(InputError, "in a .keras file.*robust.h5"):
            compiled().save(self.directory / "robust.h5")

    @KINDS
    def test_copies(self, build):
        """Clones have new weights; configs and files hold all of it."""
        robust = compiled(build, weight_averaging=0.5)
        fit(robust)
        clone = keras.models.clone_model(robust)
        self.assertIsInstance(clone, RobustClassifier)
        self.assertEqual(clone.method.get_config(), robust.method.get_config())
        clone.compile("adam", weight_averaging=0.5)
        fit(clone)
        self.assertNotAllClose(predict(clone), predict(robust))
        robust.save_weights(self.directory / "robust.weights.h5")
        clone.load_weights(self.directory / "robust.weights.h5")
        self.assertAllEqual(predict(clone), predict(robust))
        robust.save(self.directory / "robust.keras")
        loaded = keras.saving.load_model(self.directory / "robust.keras")
        for model in (robust, loaded):
            fit(model)
        self.assert_equal_states(robust, loaded)

    def test_backup(self):
        """A killed training continues as if it had not been killed."""

        class Killed(Exception):
            pass

        def kill(epoch, logs):
            del logs
            if epoch == 1:
                raise Killed

        def start():
            return compiled(
                method=FGSMMEPCS(8 / 255),
                plan=Plan(2, COUNT // BATCH, BATCH, COUNT),
                weight_averaging=0.5,
            )

        def run(robust, *callbacks):
            robust.fit(
                {"images": IMAGES, "index": np.arange(COUNT)},
                LABELS,
                batch_size=BATCH,
                epochs=2,
                shuffle=False,
                verbose=0,
                callbacks=list(callbacks),
            )

        backup = self.directory / "backup"
        robust = start()
        with self.assertRaises(Killed):
            run(
                robust,
                keras.callbacks.BackupAndRestore(backup),
                keras.callbacks.LambdaCallback(on_epoch_begin=kill),
            )
        resumed, whole = start(), start()
        run(resumed, keras.callbacks.BackupAndRestore(backup))
        run(whole)
        self.assert_equal_states(resumed, whole)

    def test_callbacks(self):
        robust = compiled(metrics=["accuracy"])
        best = self.directory / "best.weights.h5"
        history = fit(
            robust,
            epochs=3,
            initial_epoch=1,
            validation_data=(IMAGES, LABELS),
            callbacks=[
                keras.callbacks.ModelCheckpoint(
                    best,
                    monitor="val_accuracy",
                    save_best_only=True,
                    save_weights_only=True,
                ),
                keras.callbacks.ModelCheckpoint(
                    self.directory / "{epoch}.keras"
                ),
                keras.callbacks.EarlyStopping(
                    "val_loss",
                    patience=0,
                    start_from_epoch=1,
                    mode="max",
                    restore_best_weights=True,
                ),
                keras.callbacks.ReduceLROnPlateau(
                    "val_loss", factor=0.5, patience=1, mode="max"
                ),
                keras.callbacks.CSVLogger(self.directory / "log.csv"),
                keras.callbacks.TensorBoard(self.directory / "tb", 1),
            ],
        )
        self.assertEqual(history.epoch, [1, 2])
        # The loss falls, so the first of the two epochs has the highest.
        self.assertAllClose(robust.optimizer.learning_rate, 0.005)
        first = keras.saving.load_model(self.directory / "2.keras")
        last = keras.saving.load_model(self.directory / "3.keras")
        self.assertAllEqual(predict(robust), predict(first))
        self.assertNotAllClose(predict(robust), predict(last))
        last.load_weights(best)
        header = (self.directory / "log.csv").read_text().splitlines()[0]
        self.assertContainsSubset(
            ["epoch", "loss", "val_accuracy", "val_loss"], header.split(",")
        )

    def test_swapped_average(self):
        robust = compiled(
            optimizer=keras.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.5)
        )
        fit(robust, callbacks=[keras.callbacks.SwapEMAWeights()])
        swapped = [w.numpy() for w in robust.classifier.weights]
        plain = compiled(
            optimizer=keras.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.5)
        )
        fit(plain)
        plain.optimizer.finalize_variable_values(plain.trainable_variables)
        for ours, theirs in zip(swapped, plain.classifier.weights, strict=True):
            self.assertAllClose(ours, theirs)


class CompileTest(parameterized.TestCase, tf.test.TestCase):
    @parameterized.parameters(
        {"run_eagerly": True},
        {"steps_per_execution": 2},
        {"jit_compile": True},
    )
    def test_the_way_of_running_changes_no_number(self, **way):
        plain, other = compiled(), compiled(**way)
        histories = [fit(x).history for x in (plain, other)]
        self.assertAllClose(*histories, 1e-4, 1e-5)
        self.assertAllClose(predict(plain), predict(other), 1e-4, 1e-5)
        self.assertAllClose(
            *(
                x.evaluate(IMAGES, LABELS, batch_size=BATCH, verbose=0)
                for x in (plain, other)
            ),
            1e-4,
        )

    def test_again(self):
        """The last `compile` holds, with the same optimizer, too."""
        optimizer = keras.optimizers.SGD(0.1)
        robust = compiled(optimizer=optimizer, weight_decay=0.5)
        fit(robust)
        fresh = compiled()
        fresh.set_weights(robust.get_weights())
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        for model in (robust, fresh):
            given = optimizer if model is robust else keras.optimizers.SGD(0.1)
            model.compile(given, loss, weight_decay=0.0, clip_norm=0.1)
            fit(model)
        self.assertAllClose(predict(robust), predict(fresh))

    def test_batches(self):
        robust = compiled(metrics=["accuracy"])
        batch = IMAGES[:BATCH], LABELS[:BATCH]
        trained = robust.train_on_batch(*batch, return_dict=True)
        tested = robust.test_on_batch(*batch, return_dict=True)
        evaluated = robust.evaluate(*batch, verbose=0, return_dict=True)
        self.assertContainsSubset(tested, trained)
        self.assertAllClose(tested, evaluated)
        self.assertAllClose(
            robust.predict_on_batch(batch[0]), predict(robust, batch[0])
        )

    def test_steps_per_execution(self):
        for steps in ("auto", 0, 1.5):
            with self.assertRaisesRegex(
                InputError, f"steps_per_execution.*Received.*={steps}"
            ):
                compiled(steps_per_execution=steps)


class StrategyTest(tf.test.TestCase):
    def test_compiled_outside_of_the_scope(self):
        """All that `compile` makes belongs to the strategy of the model."""
        with testing.two_cpu_strategy().scope():
            robust = RobustClassifier(functional(), FastAT())
        robust.compile("adam", weight_averaging=0.5)
        fit(robust)
        # An optimizer of another scope would count every replica's step.
        self.assertEqual(robust.optimizer.iterations, COUNT // BATCH)
        path = f"{self.get_temp_dir()}/robust.keras"
        robust.save(path)
        self.assertAllClose(
            predict(keras.saving.load_model(path)), predict(robust), 1e-3, 1e-3
        )
        with testing.two_cpu_strategy().scope():
            loaded = keras.saving.load_model(path)
        fit(loaded)

    def test_xla_outside_of_the_scope(self):
        """`fit` is called there, and XLA must not write the weights."""
        with testing.two_cpu_strategy().scope():
            robust = RobustClassifier(functional(), FastAT())
            robust.compile("sgd", jit_compile=True)
        before = robust.get_weights()
        robust.fit(IMAGES, LABELS, batch_size=8, verbose=0)
        self.assertNotAllClose(before[0], robust.get_weights()[0])

    def test_another_scope_is_refused(self):
        strategy = testing.two_cpu_strategy()
        with strategy.scope():
            inside, adam_inside = functional(), keras.optimizers.Adam()
            robust_inside = RobustClassifier(functional(), FastAT())
        outside, adam_outside = functional(), keras.optimizers.Adam()
        robust_outside = compiled()
        model = "expected to be created and trained with one distribution"
        optimizer = "optimizer is expected to be created in the scope"
        with self.assertRaisesRegex(InputError, model):
            RobustClassifier(inside, FastAT())
        with self.assertRaisesRegex(InputError, optimizer):
            robust_inside.compile(adam_outside)
        with self.assertRaisesRegex(InputError, optimizer):
            robust_outside.compile(adam_inside)
        with strategy.scope():
            for use in (
                lambda: RobustClassifier(outside, FastAT()),
                lambda: robust_outside.compile("sgd"),
                lambda: fit(robust_outside),
                lambda: predict(robust_outside),
            ):
                with self.assertRaisesRegex(InputError, model):
                    use()


if __name__ == "__main__":
    tf.test.main()
