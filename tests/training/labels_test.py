"""Labels and indices that are refused before any weight changes."""

import numpy as np
import tensorflow as tf
from absl.testing import parameterized

import fastbat_tf as fb
from fastbat_tf.errors import InputError
from fastbat_tf.training import labels
from tests.support import testing

IMAGES, LABELS = testing.images_and_labels(4)
ONE_HOT = np.eye(4, dtype="float32")[LABELS]


def changed(array, value, dtype=None):
    array = array.astype(dtype or array.dtype).copy()
    array.flat[-2] = value
    return array


def compiled_as(mode):
    return {
        "jit_compile": mode == "xla",
        "run_eagerly": mode == "eager",
        "steps_per_execution": 2 if mode == "steps" else 1,
    }


class LabelsTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters("graph", "xla", "eager", "steps", "replicas")
    def test_fit_and_evaluate_refuse(self, mode):
        strategy = tf.distribute.get_strategy()
        if mode == "replicas":
            strategy = testing.two_cpu_strategy()
        with strategy.scope():
            robust = fb.RobustClassifier(
                testing.small_network(width=2), fb.FGSM()
            )
            robust.compile("sgd", metrics=[], **compiled_as(mode))
        for bad, received in (
            (changed(LABELS, -1), "label=-1$"),
            (changed(LABELS, 4), "label=4$"),
            (changed(LABELS, np.nan, "float32"), "label=nan$"),
            (changed(LABELS, 1.5, "float32"), "label=1.5$"),
        )[: None if mode == "eager" else 1]:
            for enter in (robust.fit, robust.evaluate):
                with self.assertRaisesRegex(InputError, received) as caught:
                    enter(IMAGES, bad, batch_size=2, verbose=0)
                self.assertRegex(
                    str(caught.exception),
                    r"^Labels are expected as integers from 0 to 3, [^\n]*$",
                )

    @parameterized.parameters("graph", "xla", "eager")
    def test_nothing_has_changed(self, mode):
        robust = fb.RobustClassifier(testing.small_network(width=2), fb.FGSM())
        robust.compile("sgd", metrics=[], **compiled_as(mode))
        before = [v.numpy() for v in robust.weights]
        for _ in range(2):
            with self.assertRaisesRegex(InputError, "label=4$"):
                robust.train_on_batch(IMAGES, changed(LABELS, 4))
        for variable, value in zip(robust.weights, before, strict=True):
            self.assertAllEqual(variable, value)
        robust.train_on_batch(IMAGES, LABELS)
        self.assertEqual(int(robust.step), 1)

    @parameterized.parameters("graph", "xla", "eager")
    def test_index_beyond_the_examples(self, mode):
        robust = fb.RobustClassifier(
            testing.small_network(width=2), fb.FGSMPGI()
        )
        robust.compile(
            "sgd", plan=fb.Plan(1, 1, 4, examples=8), **compiled_as(mode)
        )
        before = [v.numpy() for v in robust.weights]
        for bad in (8, -1):
            index = np.array([0, 1, bad, 3])
            with self.assertRaisesRegex(
                InputError, f"^Indices .* 0 to 7, .* Received: index={bad}$"
            ):
                robust.train_on_batch(
                    {"images": IMAGES, "index": index}, LABELS
                )
        with self.assertRaisesRegex(InputError, "Indices .*float32"):
            robust.train_on_batch(
                {"images": IMAGES, "index": np.ones(4, "float32")}, LABELS
            )
        for variable, value in zip(robust.weights, before, strict=True):
            self.assertAllEqual(variable, value)

    @parameterized.parameters(
        (LABELS, 4),
        (LABELS[:, None].astype("uint8"), 4),
        (LABELS.astype("float16"), 4),
        (LABELS.astype("int8"), 200),
        (ONE_HOT, 4),
        (ONE_HOT.astype("int64"), 4),
        (ONE_HOT.astype("bool"), 4),
        (2 * ONE_HOT - 1, 4),  # As hinge losses take them.
        (0.9 * ONE_HOT + 0.1 / 4, 4),
        (np.float16([0, 1, 0.05, 0.95]), 1),
        (np.array([True, False]), 1),
        (np.array([[1], [0]]), 2),
    )
    def test_allowed(self, given, classes):
        self.assertEqual(labels.check(given, classes), [])

    @parameterized.parameters(
        (None, 4, "beside the images.*labels=None"),
        (np.array(["a"]), 4, "numbers.*dtype=string"),
        (ONE_HOT, 5, r"\(batch, 5\).*shape=\(4, 4\)"),
        (ONE_HOT[None], 4, r"shape=\(1, 4, 4\)"),
        (np.array(2), 4, r"dataset.batch\(.*shape=\(\)"),
        (changed(ONE_HOT, 1.5), 4, "probabilities.*label=1.5"),
        (changed(ONE_HOT, np.nan), 4, "label=nan"),
        (changed(ONE_HOT, -0.5), 4, "label=-0.5"),
        (changed(ONE_HOT, 255, "uint8"), 4, "label=255"),
        (np.array([0, 2]), 1, "probabilities.*label=2"),
        (np.array([255], "uint8"), 4, "label=255"),
        (np.array([2**31], "int64"), 4, "label=2"),
        (np.array([np.inf], "float32"), 4, "label=inf"),
    )
    def test_refused(self, given, classes, message):
        with self.assertRaisesRegex(InputError, message):
            labels.check(given, classes)

    def test_a_label_that_the_loss_ignores(self):
        self.assertEqual(labels.check(changed(LABELS, -1), 4, ignored=-1), [])
        unsigned = changed(LABELS, 255, "uint8")
        self.assertEqual(labels.check(unsigned, 4, ignored=255), [])
        with self.assertRaises(InputError):
            labels.check(unsigned, 4, ignored=-1)


if __name__ == "__main__":
    tf.test.main()
