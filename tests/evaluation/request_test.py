"""Tests that invalid input of an evaluation is refused, in one line."""

import pathlib

import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from fastbat_tf.errors import InputError
from fastbat_tf.evaluation.robustness import evaluate_robustness
from tests.support.toy_evaluation import SHAPE, as_floats, toy_data, toy_network


def half_of(network):
    return lambda images: network(images)[::2]


IMAGES, LABELS = toy_data(8)


class RefusedTest(parameterized.TestCase, tf.test.TestCase):
    """Each error is one line, with the expected and the received value."""

    def assert_refused(self, message, model=None, data=None, **kwargs):
        arguments = {"attacks": ["pgd-1-1"], "epsilons": [0.1], **kwargs}
        if data is None:
            data = (IMAGES, LABELS)
        with self.assertRaisesRegex(InputError, message) as caught:
            model = toy_network() if model is None else model
            evaluate_robustness(model, data, **arguments)
        self.assertIsInstance(caught.exception, ValueError)
        text = str(caught.exception)
        self.assertIn("Received: ", text)
        self.assertNotIn("\n", text)

    @parameterized.parameters(
        (["pgd-1-1", "cw"], r"one of fgsm\[.*square.* Received: attack=cw$"),
        (["pgd-50"], r"pgd-STEPS-RESTARTS\b.* Received: attack=pgd-50$"),
        (["pgd-0-1"], "attack=pgd-0-1$"),
        (["fgsm+transfer"], r"attack=fgsm\+transfer$"),
        ([], r"`attacks` .*at least one.* Received: attacks=\[\]$"),
        (["fgsm", "fgsm"], "none twice.*attacks="),
        ("cw", r"one of fgsm\[.* Received: attack=cw$"),
        ("fgsm,pgd-1-1", "Received: attack=fgsm,pgd-1-1$"),
        # `fit(images, labels)` has taught this call.
        (LABELS, r"dataset=\(images, labels\).*attacks=ndarray of shape"),
        ([3, 1], r"dataset=\(images, labels\).* Received: attacks=\[3, 1\]$"),
        ([print], r'such as \["pgd-50-10", "autoattack"\]\. Received'),
        (3, "list of names, .* Received: attacks=3$"),
    )
    def test_attacks(self, attacks, message):
        self.assert_refused(message, attacks=attacks)

    @parameterized.parameters(
        ([0.0], r"above 0 .*, such as 8/255\. Received: epsilon=0.0$"),
        ([0.1, -0.1], "above 0.* Received: epsilon=-0.1$"),
        ([float("nan")], "Received: epsilon=nan$"),
        ([8], "at most 1 for linf: for 8 gray levels 8/255.*epsilon=8.0$"),
        (300.0, "at most 1 for linf, .* Received: epsilon=300.0$"),
        # Taken as numbers, too.
        (np.array(8.0), "for 8 gray levels 8/255.*epsilon=8.0$"),
        (tf.constant([0.1, 8.0]), "for 8 gray levels 8/255.*epsilon=8.0$"),
        (np.array(["8"]), "a number or a list.*epsilons=ndarray of shape"),
        ([], r"`epsilons` .*at least one.* Received: epsilons=\[\]$"),
        ([0.1, 0.1], r"none twice.* Received: epsilons=\[0.1, 0.1\]$"),
        ("8/255", "`epsilons` .*Received: epsilons='8/255'$"),
        (["8/255"], r"`epsilons` .*Received: epsilons=\['8/255'\]$"),
    )
    def test_epsilons(self, epsilons, message):
        self.assert_refused(message, epsilons=epsilons)

    def test_epsilon_of_l2(self):
        self.assert_refused(
            "finite.*epsilon=inf$", norm="l2", epsilons=[float("inf")]
        )

    def test_norm(self):
        self.assert_refused("linf, l2.* Received: norm=l1$", norm="l1")

    @parameterized.parameters(
        # `fit` takes whole numbers as floats, so the evaluation does, too.
        ((LABELS + 0.5).astype("float32"), "integers.*dtype=float32$"),
        (LABELS[:7], r"same number.*labels.shape=\(7,\)$"),
        (LABELS + 4, r"in \[0, 4\).*Received: range=\("),
        (LABELS - 5, r"in \[0, 4\).*Received: range=\(-"),
        # One-hot labels are as good as integers, if they fit the model.
        (np.eye(5)[LABELS], "model's 4 classes. Received: labels for 5"),
        (np.full((8, 4), 0.25), r"likeliest .*labels\[0\] with several of"),
        (np.where(LABELS > 1, 1, -1), "4 classes. Received: labels for 2"),
        (3, r"same number.*labels.shape=\(\)$"),
    )
    def test_labels(self, labels, message):
        self.assert_refused(message, data=(IMAGES, labels))

    @parameterized.parameters(
        (IMAGES.astype("float32"), r"in \[0, 1\].*range=\(0.0, 255.0\)$"),
        (as_floats(IMAGES) - 0.1, r"in \[0, 1\].*range=\(-0.1"),
        (IMAGES * np.float32("nan"), r"in \[0, 1\].*range=\(nan"),
        (IMAGES.astype("int32"), "uint8.*images.dtype=int32$"),
        (IMAGES[..., 0], r"images.shape=\(8, 4, 4\)$"),
        (
            as_floats(IMAGES) * np.float32(1.000002),
            r"in \[0, 1\].*1\.00000\d+\)$",
        ),
        (IMAGES[0], r"same number.*images.shape=\(4, 4, 3\)"),
    )
    def test_images(self, images, message):
        self.assert_refused(message, data=(images, LABELS))

    @parameterized.parameters(
        (lambda images: images, "logits.*shape="),
        (lambda images: toy_network()(images)[:, 0], "logits.*shape="),
        (half_of(toy_network()), "logits.*for 8 images$"),
        (lambda images: {"logits": toy_network()(images)}, "logits.*shape="),
        (toy_network(classes=1), "two classes.*classes=1$"),
        (7, "keras.Model, a path, or a callable .*Received: model=7$"),
        (IMAGES, "come before the data set.*model=ndarray of shape"),
        ((IMAGES, LABELS), "come before the data set.*model=tuple of 2$"),
        ("no/such.keras", "there is none.*model_path=no/such.keras$"),
        (pathlib.Path("no", "such"), "model_path=no/such$"),
    )
    def test_model(self, model, message):
        self.assert_refused(message, model=model)

    def test_empty(self):
        empty = tf.data.Dataset.from_tensor_slices((IMAGES, LABELS)).batch(8)
        self.assert_refused("at least one batch", data=empty.take(0))
        self.assert_refused(
            r"at least one\. .*shape=\(0, ", data=(IMAGES[:0], LABELS[:0])
        )

    def test_data_sets(self):
        examples = tf.data.Dataset.from_tensor_slices((IMAGES, LABELS))
        batches = examples.batch(4)
        self.assert_refused("to be finite;.*infinite$", data=batches.repeat())
        self.assert_refused(r"call dataset.batch\(...\)", data=examples)
        self.assert_refused(
            "Labels are expected beside", data=batches.map(lambda x, y: x)
        )
        self.assert_refused(r"pair \(images, labels\)", data=IMAGES)
        self.assert_refused("dataset=function$", data=toy_network())
        self.assert_refused(r"pair \(images, labels\)", data=(IMAGES,))

    @parameterized.parameters(-1, 9)
    def test_max_examples(self, count):
        self.assert_refused(f"max_examples={count}$", max_examples=count)

    def test_batch_size(self):
        self.assert_refused("batch_size=0$", batch_size=0)

    def test_surrogate(self):
        self.assert_refused(
            "together. Received: attacks=fgsm,transfer-fgsm, surrogate=None$",
            attacks=["fgsm", "transfer-fgsm"],
        )
        self.assert_refused(
            "together. Received: attacks=pgd-1-1, surrogate=<function",
            surrogate=toy_network(),
        )
        self.assert_refused(
            "there is none.*model_path=no/such$",
            attacks=["transfer"],
            surrogate="no/such",
        )

    def test_save_images(self):
        self.assert_refused(
            "`save_images` .* directory .* Received: directory=None$",
            save_images=True,
        )

    def test_nothing_is_written(self):
        directory = pathlib.Path(self.get_temp_dir(), "nothing")
        for refused in (
            {"attacks": ["cw"]},
            {"epsilons": [0]},
            {"model": "no/such"},
            {"data": (IMAGES.astype("float32"), LABELS)},
            {"max_examples": 99},
            {"attacks": ["transfer"]},
        ):
            self.assert_refused("Received", directory=directory, **refused)
            self.assertFalse(directory.exists())

    def test_images_that_the_network_does_not_take(self):
        larger = np.zeros((7, SHAPE[0] + 1, *SHAPE[1:]), np.float32)
        self.assert_refused(
            r"^The model cannot classify these.* "
            r"Received: images.shape=\(7, 5, 4, 3\)",
            data=(larger, LABELS[:7]),
        )


if __name__ == "__main__":
    tf.test.main()
