"""`fit` tells methods what a plan would, and where the training is."""

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from absl.testing import parameterized

import fastbat_tf as fb
from fastbat_tf.errors import InputError
from fastbat_tf.methods.state import Slot
from tests.support import testing

COUNT, BATCH, EPOCHS = 10, 4, 3  # The last batch of an epoch is smaller.
STEPS = 3
IMAGES, LABELS = testing.images_and_labels(COUNT)
METHODS = {
    "fgsm_mep_cs": lambda: fb.FGSMMEPCS(label_factor=0.8),
    "fgsm_pgi": lambda: fb.FGSMPGI(reset_epochs=2),
    "fgsm_pco": fb.FGSMPCO,
    "fgsm_uap": fb.FGSMUAP,
    "fgsm_fuap": fb.FGSMFUAP,
    "gat": fb.GAT,
    "aaer": fb.AAER,
    "fastbat_remembered": lambda: fb.FastBAT(linearization="remembered"),
    "free": lambda: fb.Free(replays=2),
}


class Recorder(fb.Method):
    """Remembers the progress it has seen, and in which batch an example was."""

    needs_plan = remembers_examples = True

    def initial_state(self, sizes, draws):
        return {
            "seen": Slot((4,), -1, "examples", "int64"),
            "count": Slot((), 0),
        }

    def solve(self, context):
        return fb.Solution(tf.zeros_like(context.images))

    def update(self, context):
        progress = context.progress
        row = tf.stack(
            [
                tf.cast(number, tf.int64)
                for number in (
                    progress.epoch,
                    progress.batch,
                    progress.replay,
                    progress.epochs,
                )
            ]
        )
        rows = tf.repeat(row[None], tf.size(context.index), 0)
        return {"seen": rows, "count": context.state["count"] + 1}


def build(method=None, eager=False, **compiled):
    robust = fb.RobustClassifier(
        testing.small_network(width=2), method or Recorder()
    )
    optimizer = keras.optimizers.SGD(0.05, momentum=0.9)
    compiled.setdefault("run_eagerly", eager)
    return robust.compile(optimizer, metrics=[], **compiled)


def seen(robust):
    return robust.method_state.entries["seen"].numpy()


def data(count=COUNT):
    return {"x": IMAGES[:count], "y": LABELS[:count], "shuffle": False}


class FitTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.named_parameters(*METHODS.items())
    # Each that a plan tells something: epochs, examples, batches, replays.
    @pytest.mark.quick(
        "fgsm_mep_cs", "fgsm_pgi", "fgsm_uap", "free", "fastbat_remembered"
    )
    def test_fit_does_what_a_plan_says(self, make):
        """Bit for bit, with shuffled examples; the variables too."""
        results = []
        for explicit in (False, True):
            plan = fb.Plan(EPOCHS, STEPS, BATCH, COUNT) if explicit else None
            robust = build(make(), plan=plan)
            index = np.arange(COUNT, dtype="int32")
            images = {"images": IMAGES, "index": index}
            keras.utils.set_random_seed(5)
            robust.fit(
                images if explicit else IMAGES,
                LABELS,
                batch_size=BATCH,
                epochs=EPOCHS,
                verbose=0,
            )
            results.append([v.numpy() for v in robust.weights])
        self.assertEqual(len(results[0]), len(results[1]))
        for found, expected in zip(*results, strict=True):
            np.testing.assert_array_equal(found, expected)

    def test_progress_is_that_of_fit_in_xla(self):
        robust = build(jit_compile=True)
        for _ in range(2):
            robust.fit(**data(8), batch_size=4, epochs=2, verbose=0)
            last = np.repeat([[1, 0, 0, 2], [1, 1, 0, 2]], 4, 0)
            self.assertAllEqual(seen(robust), last)

    def test_progress_is_that_of_fit(self):
        robust = build(eager=True)
        kwargs = {**data(8), "batch_size": 4, "verbose": 0}
        robust.fit(**kwargs, epochs=2)
        last = np.repeat([[1, 0, 0, 2], [1, 1, 0, 2]], 4, 0)
        self.assertAllEqual(seen(robust), last)
        # A second one begins again, and keeps what is remembered.
        robust.fit(**kwargs, epochs=1)
        self.assertAllEqual(seen(robust)[:, 0], np.zeros(8))
        self.assertAllEqual(seen(robust)[:, 3], np.ones(8))
        self.assertEqual(float(robust.method_state.entries["count"]), 6)
        robust.fit(**kwargs, epochs=5, initial_epoch=3)
        self.assertAllEqual(seen(robust)[:, 0], np.full(8, 4))
        # Fewer steps than the data have.
        robust.fit(**kwargs, epochs=7, steps_per_epoch=1)
        self.assertAllEqual(seen(robust)[:4, :2], np.tile([6, 0], (4, 1)))
        # An epoch that a callback ends early, and then the training.
        stop = keras.callbacks.LambdaCallback(
            on_train_batch_end=lambda batch, logs: setattr(
                robust, "stop_training", True
            )
        )
        robust.fit(**kwargs, epochs=3, callbacks=[stop])
        robust.fit(**kwargs, epochs=3)
        self.assertAllEqual(seen(robust)[:, 0], np.full(8, 2))
        self.assertAllEqual(seen(robust)[:, 1], np.repeat([0, 1], 4))

    @parameterized.parameters(
        ({"run_eagerly": True, "plan": fb.Plan(2, 2, 4, 8)},),
        ({"steps_per_execution": 2},),
    )
    def test_each_fit_begins_at_epoch_0(self, settings):
        """With a plan, too, although it counts from the first step."""
        robust = build(**settings)
        for _ in range(2):
            robust.fit(**data(8), batch_size=4, epochs=2, verbose=0)
            last = np.repeat([[1, 0, 0, 2], [1, 1, 0, 2]], 4, 0)
            self.assertAllEqual(seen(robust), last)

    def test_a_generator_that_ends_early(self):
        found, expected = [], []

        class Seen(fb.Method):
            needs_plan = True

            def solve(self, context):
                progress = context.progress
                found.append((int(progress.epoch), int(progress.batch)))
                return fb.Solution(tf.zeros_like(context.images))

        class Told(keras.callbacks.Callback):
            def on_epoch_begin(self, epoch, logs=None):
                self.epoch = epoch

            def on_train_batch_end(self, batch, logs=None):
                expected.append((self.epoch, batch))

        robust = build(Seen(), eager=True)
        batches = (
            (IMAGES[start : start + 4], LABELS[start : start + 4])
            for start in (0, 4, 0)
        )
        robust.fit(
            batches,
            steps_per_epoch=2,
            epochs=3,
            verbose=0,
            callbacks=[Told()],
        )
        self.assertIn((1, 0), found)
        self.assertEqual(found, expected)

    def test_a_fit_of_the_same_kind_is_not_traced_again(self):
        counted = []

        class Counting(fb.RobustClassifier):
            def compute_gradients(self, *args, **kwargs):
                counted.append(1)
                return super().compute_gradients(*args, **kwargs)

        # Only one of them reads the number of epochs.
        for method, more in ((fb.FGSMPGI(), 0), (fb.NuAT(), 1)):
            counted.clear()
            robust = Counting(testing.small_network(width=2), method)
            robust.compile("sgd", metrics=[])
            for epochs, traces in (
                (2, 1),
                (2, 1),
                (3, 1 + more),
                (3, 1 + more),
            ):
                robust.fit(**data(8), batch_size=4, epochs=epochs, verbose=0)
                self.assertLen(counted, traces)

    def test_a_step_is_traced_once(self):
        """The variables of the optimizer and the metrics are there before."""
        counted = []

        class Counting(fb.RobustClassifier):
            def train_step(self, data):
                counted.append("train")
                return super().train_step(data)

            def test_step(self, data):
                counted.append("test")
                return super().test_step(data)

        for first in ("fit", "evaluate"):
            counted.clear()
            robust = Counting(testing.small_network(width=2), fb.FGSM())
            robust.compile("adam", weighted_metrics=["accuracy"])
            if first == "evaluate":
                robust.evaluate(IMAGES[:8], LABELS[:8], batch_size=4, verbose=0)
            robust.fit(**data(8), batch_size=4, verbose=0)
            self.assertEqual(
                counted, ["train"] if first == "fit" else ["test", "train"]
            )

    def test_data_of_another_size(self):
        robust = build(eager=True)
        robust.fit(**data(8), batch_size=4, verbose=0)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            robust.fit(**data(8), batch_size=2, verbose=0)
        with self.assertWarnsRegex(UserWarning, "10 examples.* 8: it forgets"):
            robust.fit(**data(4) | data(10), batch_size=5, verbose=0)
        self.assertEqual(seen(robust).shape, (10, 4))
        self.assertEqual(float(robust.method_state.entries["count"]), 8)
        robust.fit(**data(10), validation_split=0.2, batch_size=4, verbose=0)
        self.assertEqual(seen(robust).shape, (8, 4))
        self.assertAllEqual(seen(robust)[:, 1], np.repeat([0, 1], 4))
        # A batch of another size leaves nothing of the perturbation.
        free = build(fb.Free(replays=2), eager=True)
        for batch, rows in ((4, 4), (4, 4), (3, 3), (64, 8)):
            free.fit(**data(8), batch_size=batch, verbose=0)
            kept = free.method_state.entries["perturbation"]
            self.assertEqual(kept.shape[0], rows)

    def test_callbacks(self):
        """Even as Keras' own list, and with limited epochs."""
        robust = build(eager=True)
        ended = []
        callback = keras.callbacks.LambdaCallback(
            on_epoch_end=lambda epoch, logs: ended.append(epoch)
        )
        listed = keras.callbacks.CallbackList(
            [callback], add_history=True, model=robust
        )
        robust.fit(**data(4), epochs=2, callbacks=listed, verbose=0)
        self.assertEqual(ended, [0, 1])
        self.assertLen(listed.callbacks, 2)
        self.assertAllEqual(seen(robust)[:, 3], np.full(4, 2))
        keras.config.set_max_epochs(1)
        self.addCleanup(keras.config.set_max_epochs, None)
        robust.fit(**data(4), epochs=2, verbose=0)
        self.assertAllEqual(seen(robust)[:, 3], np.full(4, 1))

    def test_resumed_from_a_backup(self):
        whole = build(eager=True)
        whole.fit(**data(8), batch_size=4, epochs=3, verbose=0)
        folder = self.get_temp_dir()

        class Stop(keras.callbacks.Callback):
            def on_epoch_begin(self, epoch, logs=None):
                if epoch == 2:
                    raise KeyboardInterrupt

        backup = keras.callbacks.BackupAndRestore(folder)
        with self.assertRaises(KeyboardInterrupt):
            build(eager=True).fit(
                **data(8),
                batch_size=4,
                epochs=3,
                verbose=0,
                callbacks=[backup, Stop()],
            )
        resumed = build(eager=True)
        backup = keras.callbacks.BackupAndRestore(folder)
        resumed.fit(
            **data(8), batch_size=4, epochs=3, verbose=0, callbacks=[backup]
        )
        self.assertEqual(int(resumed.step), 6)
        for found, expected in zip(resumed.weights, whole.weights, strict=True):
            self.assertAllEqual(found, expected)

    def test_saved_and_loaded_between_fits(self):
        robust = build(fb.FGSMPGI(), eager=True)
        fresh = f"{self.get_temp_dir()}/fresh.weights.h5"
        robust.save_weights(fresh)
        # Of its own, the model has a single weight, the number of steps.
        self.assertLen(robust.weights, len(robust.classifier.weights) + 1)
        fit = {**data(8), "batch_size": 4, "verbose": 0, "epochs": 2}
        robust.fit(**fit)
        self.assertIsNone(robust.get_compile_config()["plan"])
        path = f"{self.get_temp_dir()}/robust.keras"
        robust.save(path)
        loaded = keras.models.load_model(path)
        robust.save_weights(f"{self.get_temp_dir()}/robust.weights.h5")
        again = build(fb.FGSMPGI(), eager=True)
        again.optimizer.build(again.trainable_variables)
        again.load_weights(f"{self.get_temp_dir()}/robust.weights.h5")
        robust.fit(**fit)
        loaded.run_eagerly = True
        for other in (loaded, again):
            other.fit(**fit)
            for name, value in robust.method_state.entries.items():
                self.assertAllEqual(other.method_state.entries[name], value)
            for a, b in zip(robust.weights, other.weights, strict=True):
                self.assertAllClose(a, b, 1e-5, 1e-6)
        # Weights from before the first `fit`: nothing is remembered.
        robust.load_weights(fresh, skip_mismatch=True)
        self.assertAllEqual(
            robust.method_state.entries["written"], np.full(8, -1)
        )

    @parameterized.parameters(
        ({"epochs": 2}, "epochs=3.* Received: epochs=2"),
        ({"batch_size": 5}, "steps_per_epoch=3.* steps_per_epoch=2"),
        ({"steps_per_epoch": 2}, "Received: steps_per_epoch=2"),
        ({"batch_size": 2, "steps_per_epoch": 3}, "Received: batch_size=2"),
        ({"x": IMAGES[:9], "y": LABELS[:9]}, "=10.* Received: examples=9"),
    )
    def test_a_fit_that_differs_from_its_plan(self, changed, message):
        robust = build(plan=fb.Plan(EPOCHS, STEPS, BATCH, COUNT), eager=True)
        given = {**data(), "batch_size": BATCH, "epochs": EPOCHS, "verbose": 0}
        with self.assertRaisesRegex(InputError, message):
            robust.fit(**given | changed)
        self.assertEqual(int(robust.step), 0)

    def test_without_fit(self):
        for make in (Recorder, fb.GAT, fb.Free):
            robust = build(make(), eager=True)
            with self.assertRaisesRegex(InputError, "Received: plan=None"):
                robust.train_on_batch(IMAGES, LABELS)

    def test_class_weight(self):
        robust = build(fb.Standard(), eager=True)
        with self.assertRaisesRegex(InputError, r"class_weight=\[1, 2\]$"):
            robust.fit(IMAGES, LABELS, class_weight=[1, 2], verbose=0)

    def test_replicas(self):
        with testing.two_cpu_strategy().scope():
            robust = build()
        # `compile` may be outside of the scope; so may `fit`.
        robust.fit(**data(8), batch_size=4, epochs=2, verbose=0)
        last = np.repeat([[1, 0, 0, 2], [1, 1, 0, 2]], 4, 0)
        self.assertAllEqual(seen(robust), last)


if __name__ == "__main__":
    tf.test.main()
