"""`fit`, `evaluate` and `predict` under strategies, several steps in a call."""

import json
import os
import socket
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from absl.testing import parameterized

from fastbat_tf import RobustClassifier, methods
from tests.support import testing

COUNT, BATCH = 22, 4  # The last batch is half as large.
IMAGES, LABELS = testing.images_and_labels(COUNT)
TOP = os.path.abspath(os.path.join(__file__, *[".."] * 3))


def build(strategy, steps, method="standard", **settings):
    with strategy.scope():
        network = testing.small_network(normalization=None)
        robust = RobustClassifier(network, methods.get(method))
        robust.compile(
            keras.optimizers.SGD(0.1, momentum=0.9),
            metrics=["accuracy"],
            steps_per_execution=steps,
            **settings,
        )
    return robust


class Calls(keras.callbacks.Callback):
    """Records the ends of the calls of the training function."""

    def __init__(self):
        super().__init__()
        self.ends = []

    def on_train_batch_end(self, batch, logs=None):
        self.ends.append(batch)


class ReplicasTest(parameterized.TestCase, tf.test.TestCase):
    def assert_same(self, ours, theirs, places=1e-6):
        self.assertAllClose(
            ours.get_weights(), theirs.get_weights(), places, places
        )
        self.assertEqual(int(ours.step.numpy()), int(theirs.step.numpy()))

    @parameterized.product(
        steps=(1, 3), run_eagerly=(False, True), kind=("arrays", "static")
    )
    @pytest.mark.quick("3 False static")
    def test_as_on_one_device(self, steps, run_eagerly, kind):
        trained, logs = [], []
        arguments = {"x": IMAGES, "y": LABELS, "batch_size": BATCH}
        if kind == "static":
            dataset = tf.data.Dataset.from_tensor_slices((IMAGES, LABELS))
            dataset = dataset.batch(BATCH, drop_remainder=True)
            arguments = {"x": dataset}
        for strategy in (
            testing.two_cpu_strategy(),
            tf.distribute.get_strategy(),
        ):
            robust = build(strategy, steps, run_eagerly=run_eagerly)
            calls = Calls()
            history = robust.fit(
                **arguments,
                epochs=2,
                shuffle=False,
                verbose=0,
                callbacks=[calls],
            ).history
            measured = robust.evaluate(
                IMAGES, LABELS, batch_size=BATCH, verbose=0, return_dict=True
            )
            # The gradient of a replica is that of its own images.
            history.pop("robust_gradient_norm")
            trained.append(robust)
            logs.append((history, measured, calls.ends))
        self.assert_same(*trained)
        self.assertAllClose(logs[0][:2], logs[1][:2])
        self.assertEqual(logs[0][2], logs[1][2])
        ours, theirs = (
            robust.predict(IMAGES, batch_size=BATCH, verbose=0)
            for robust in trained
        )
        self.assertAllClose(ours, theirs)
        self.assertShapeEqual(ours, theirs)

    def test_one_batch(self):
        robust = build(testing.two_cpu_strategy(), 3)
        batch = IMAGES[:5], LABELS[:5]
        logs = robust.train_on_batch(*batch, return_dict=True)
        self.assertIn("robust_gradient_norm", logs)
        measured = robust.test_on_batch(*batch, return_dict=True)
        self.assertContainsSubset(measured, logs)
        self.assertNotIn("robust_gradient_norm", measured)
        # Once, although each replica predicts all of them.
        predicted = robust.predict_on_batch(IMAGES[:5])
        self.assertAllClose(predicted, robust.classifier(IMAGES[:5]))

    @pytest.mark.slow
    def test_what_is_gathered_from_replicas(self):
        """A method that remembers examples, and a last batch that is smaller.

        A gathering in the loop of a graph cannot change its shape.
        """
        one, three = (
            build(testing.two_cpu_strategy(), steps, "fgsm_pgi")
            for steps in (1, 3)
        )
        for robust in (one, three):
            robust.fit(
                IMAGES, LABELS, batch_size=BATCH, shuffle=False, verbose=0
            )
        self.assertAllEqual(one.get_weights()[0], three.get_weights()[0])
        self.assert_same(one, three, places=0)

    @pytest.mark.slow
    def test_logs_of_a_step_that_are_no_metrics(self):
        class Logged(RobustClassifier):
            def train_step(self, data):
                logs = super().train_step(data)
                images, _ = data
                return {**logs, "pixels": tf.reduce_mean(images)}

        strategy = testing.two_cpu_strategy()
        with strategy.scope():
            robust = Logged(testing.small_network(), methods.get("standard"))
            robust.compile("sgd", steps_per_execution=2)
        dataset = tf.data.Dataset.from_tensor_slices((IMAGES, LABELS))
        seen = []
        robust.fit(
            dataset.batch(BATCH, drop_remainder=True),
            verbose=0,
            callbacks=[
                keras.callbacks.LambdaCallback(
                    on_train_batch_end=lambda _, logs: seen.append(
                        float(logs["pixels"])
                    )
                )
            ],
        )
        means = IMAGES[:20].reshape(5, -1).mean(axis=1)
        self.assertAllClose(seen, means[[1, 3, 4]])


# What each of two workers does; its arguments are the number of steps in a
# call, and whether XLA compiles.
WORKER = """
import sys
import tensorflow as tf
strategy = tf.distribute.MultiWorkerMirroredStrategy()
import json, keras
import numpy as np
from fastbat_tf import RobustClassifier, methods
steps, compiled = int(sys.argv[1]), sys.argv[2] == "True"
with np.load(sys.argv[3]) as data:
    images, labels = data["images"], data["labels"]
with strategy.scope():
    keras.utils.set_random_seed(0)
    network = keras.Sequential([
        keras.Input((8, 8, 3)),
        keras.layers.Conv2D(2, 3, activation="softplus"),
        keras.layers.Flatten(),
        keras.layers.Dense(4),
    ])
    robust = RobustClassifier(network, methods.get("standard"))
    robust.compile(
        keras.optimizers.SGD(0.1, momentum=0.9),
        metrics=["accuracy"],
        steps_per_execution=steps,
        jit_compile=compiled,
    )
seen = []
dataset = tf.data.Dataset.from_tensor_slices((images, labels))
history = robust.fit(
    dataset.batch(4, drop_remainder=True).repeat(), steps_per_epoch=5,
    epochs=2, shuffle=False, verbose=0, validation_data=(images, labels),
    callbacks=[keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: seen.append(logs["loss"]))],
).history
history.pop("robust_gradient_norm")
predicted = robust.predict(images, batch_size=4, verbose=0)
print(json.dumps({
    "history": history,
    "seen": [float(loss) for loss in seen],
    "evaluated": robust.evaluate(images, labels, batch_size=4, verbose=0),
    "predicted": predicted.tolist(),
    "weights": [weight.tolist() for weight in robust.get_weights()[:4]],
}))
"""


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def run_workers(count, *arguments):
    """What each of so many workers prints; 1 is a process without others."""
    workers = [f"127.0.0.1:{port}" for port in free_ports(count)]
    processes = []
    for index in range(count):
        task = {"type": "worker", "index": index}
        config = {"cluster": {"worker": workers}, "task": task}
        environment = {**os.environ, "TF_CONFIG": json.dumps(config)}
        processes.append(
            subprocess.Popen(
                [sys.executable, "-c", WORKER, *map(str, arguments)],
                cwd=TOP,
                env=environment,
                stdout=subprocess.PIPE,
                text=True,
            )
        )
    printed = [process.communicate(timeout=300)[0] for process in processes]
    return [json.loads(text.splitlines()[-1]) for text in printed]


class WorkersTest(parameterized.TestCase, tf.test.TestCase):
    @parameterized.product(steps=(1, 3), compiled=(False, True))
    @pytest.mark.slow
    def test_as_one_worker(self, steps, compiled):
        path = os.path.join(self.get_temp_dir(), "data.npz")
        np.savez(path, images=IMAGES, labels=LABELS)
        first, second = run_workers(2, steps, compiled, path)
        self.assertEqual(first, second)
        (alone,) = run_workers(1, steps, compiled, path)
        self.assertAllClose(first, alone, 1e-5, 1e-5)


if __name__ == "__main__":
    tf.test.main()
