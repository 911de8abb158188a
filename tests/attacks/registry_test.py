"""Tests the names of attacks, and the data that they take."""

import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from fastbat_tf import attacks
from fastbat_tf.attacks.apgd import APGD, APGDTargeted
from fastbat_tf.attacks.fab import FAB
from fastbat_tf.attacks.fgsm import FGSM
from fastbat_tf.attacks.inputs import as_pixels
from fastbat_tf.attacks.pgd import PGD
from fastbat_tf.attacks.registry import AttackSpec
from fastbat_tf.attacks.square import Square
from fastbat_tf.errors import InputError
from tests.support.attack_problems import SHAPE, between, linear_problem


class RegistryTest(parameterized.TestCase, tf.test.TestCase):
    @parameterized.parameters(
        ("fgsm", FGSM, {"steps": 1}),
        ("pgd-50-10", PGD, {"steps": 50, "restarts": 10}),
        ("pgd-5-1-margin", PGD, {"loss_name": "margin"}),
        ("pgd-5-1-dlr", PGD, {"loss_name": "dlr"}),
        ("apgd-ce", APGD, {"steps": 100, "loss_name": "ce"}),
        ("apgd-dlr-20", APGD, {"steps": 20, "loss_name": "dlr"}),
        ("apgd-t", APGDTargeted, {"steps": 100, "target_classes": 9}),
        ("fab-t-20", FAB, {"steps": 19, "target_classes": 9}),
        ("square", Square, {"steps": 4999, "white_box": False}),
        ("square-70", Square, {"steps": 69}),
        ("apgd-ce-rand", APGD, {"samples": 20, "loss_name": "ce"}),
        ("apgd-dlr-rand-7", APGD, {"samples": 20, "steps": 7}),
    )
    def test_builds_by_name(self, name, expected_class, attributes):
        attack = attacks.get(name, len, norm="l2", batch_size=3)
        attack = attack.attack
        self.assertIs(type(attack), expected_class)
        self.assertEqual(attack.norm.name, "l2")
        self.assertEqual(attack.batch_size, 3)
        for attribute, value in attributes.items():
            self.assertEqual(getattr(attack, attribute), value, attribute)

    @parameterized.parameters(
        "",
        "PGD-5-1",
        "pgd",
        "pgd-5",
        "pgd-0-1",
        "pgd-5-1-mse",
        "pgd-5-1 ",
        "apgd",
        "apgd-ce-0",
        "square-",
        "fab",
        "autoattack-plus",
        "mim",
    )
    def test_unknown_name(self, name):
        with self.assertRaises(InputError) as caught:
            attacks.parse(name)
        message = str(caught.exception)
        self.assertNotIn("\n", message)
        self.assertEndsWith(message, f"Received: attack={name}")
        for spec in attacks.ATTACKS.values():
            self.assertIn(spec.form, message)

    @parameterized.parameters(
        "fgsm+autoattack",
        "fgsm+transfer",
        "apgd-ce+apgd-ce",
        "transfer-square",
        "transfer-fab-t",
        "transfer-transfer",
        "transfer-autoattack",
    )
    def test_attacks_that_fit_in_no_other(self, name):
        with self.assertRaises(InputError) as caught:
            attacks.parse(name)
        self.assertRegex(
            str(caught.exception),
            r"expected to be one of fgsm.*, .* none of them twice",
        )
        self.assertEndsWith(str(caught.exception), f"Received: attack={name}")

    @parameterized.parameters(
        ("fgsm+mim", "attack=mim"),
        ("fgsm+", r"attack=fgsm\+"),
        ("transfer-mim", "attack=mim"),
    )
    def test_unknown_name_within_another(self, name, received):
        with self.assertRaisesRegex(InputError, f"Unknown.*{received}$"):
            attacks.parse(name)

    @parameterized.parameters(
        ("toy", {"steps": None, "queries": None}),
        ("toy-12", {"steps": "12", "queries": None}),
        ("toy-12-3", {"steps": "12", "queries": "3"}),
        ("toy-0", None),
        ("toy-", None),
        ("toys", None),
        ("toy-12-3-4", None),
    )
    def test_a_form_is_a_pattern(self, name, arguments):
        spec = AttackSpec("toy.ToyAttack", "toy[-STEPS[-QUERIES]]")
        match = spec.match(name)
        self.assertEqual(match and match.groupdict(), arguments)

    def test_transfer_needs_a_surrogate(self):
        self.assertTrue(attacks.parse("transfer").needs_surrogate)
        self.assertFalse(attacks.parse("pgd-1-1").needs_surrogate)
        with self.assertRaisesRegex(InputError, "Received: .*surrogate=None"):
            attacks.get("transfer", len)

    @parameterized.parameters(
        *("linf", "Linf", "LINF", "l_inf", "L-inf", "inf", np.inf),
        *(np.float32(np.inf), float("inf")),
    )
    def test_spellings_of_linf(self, norm):
        self.assertEqual(attacks.parse_norm(norm), "linf")
        self.assertEqual(attacks.FGSM(norm=norm).norm.name, "linf")

    @parameterized.parameters(
        *("l2", "L2", "l_2", "L-2", 2, 2.0, np.int64(2), np.float32(2))
    )
    def test_spellings_of_l2(self, norm):
        self.assertEqual(attacks.parse_norm(norm), "l2")
        self.assertEqual(attacks.FGSM(norm=norm).epsilon, 128 / 255)

    @parameterized.parameters("l1", "", 1, None, np.nan, True)
    def test_no_norm(self, norm):
        with self.assertRaisesRegex(
            InputError, f"linf, l2. Received: norm={norm}$"
        ):
            attacks.parse_norm(norm)

    def test_unknown_norm(self):
        with self.assertRaisesRegex(InputError, "linf, l2.*norm=l1"):
            attacks.get("fgsm", len, norm="l1")


class DataTest(parameterized.TestCase, tf.test.TestCase):
    @parameterized.parameters(
        ({"images": np.full((2, 4, 4, 3), 255.0)}, r"floats are .*in \[0, 1\]"),
        ({"images": np.full((2, 4, 4, 3), 255)}, "uint8.*dtype=int64"),
        ({"images": np.zeros((0, 4, 4, 3))}, "at least one"),
        ({"images": np.full((2, 4, 4, 3), np.nan)}, r"range=\(.*nan"),
        ({"labels": np.zeros(3, int)}, r"2 integers.*labels.shape=\(3,\)"),
        ({"labels": np.full(2, 0.5)}, r"labels\[0\] with several of 0.5"),
        ({"labels": np.array([0, 2])}, r"in \[0, 2\).*range=\(0, 2\)"),
        ({"labels": np.array([-1, 0])}, r"range=\(-1, 0\)"),
        ({"epsilon": 8.0}, "epsilon=8.0"),
        ({"epsilon": -0.1}, "epsilon=-0.1"),
        ({"epsilon": np.nan}, "epsilon=nan"),
    )
    def test_refused(self, changed, message):
        given = {
            "images": np.zeros((2, 4, 4, 3)),
            "labels": np.zeros(2, int),
            "epsilon": 0.1,
        } | changed
        with self.assertRaisesRegex(InputError, "Received: ") as caught:
            FGSM().on(linear_problem(2).network)(**given)
        self.assertRegex(str(caught.exception), message)
        self.assertNotIn("\n", str(caught.exception))

    @parameterized.parameters(np.inf, np.nan, -1.0)
    def test_refused_radius_of_l2(self, epsilon):
        problem = linear_problem(2)
        attack = FGSM(norm="l2").on(problem.network)
        with self.assertRaisesRegex(InputError, f"Received: epsilon={epsilon}"):
            attack(problem.images, problem.labels, epsilon)
        attack(
            problem.images, problem.labels, 8.0
        )  # In L2 this is a valid radius.

    @parameterized.parameters(
        (lambda batch: batch, r"shape=\(2, 4, 4, 3\) for 2 images"),
        (lambda batch: tf.zeros((3, 2)), r"shape=\(3, 2\) for 2 images"),
        (lambda batch: [batch[:, 0, 0]], "shape=None"),
        (lambda batch: batch[:, 0, 0, :1], "classes=1"),
    )
    def test_refused_answer(self, network, message):
        images = np.zeros((2, *SHAPE))
        with self.assertRaisesRegex(InputError, f"Received: {message}"):
            FGSM().on(network)(images, np.zeros(2, int), 0.1)

    @parameterized.parameters(
        (np.array([0, 51, 255], np.uint8), [0, 0.2, 1]),
        (np.array([0, 0.2, 1], np.float64), [0, 0.2, 1]),
        (np.array([0, 0.2, 1], np.float32), [0, 0.2, 1]),
    )
    def test_as_pixels(self, images, expected):
        pixels = as_pixels(images.reshape(1, 1, 3, 1))
        self.assertEqual(pixels.dtype, np.float32)
        self.assertAllEqual(pixels.ravel(), np.array(expected, np.float32))

    def test_labels_in_a_column(self):
        network, images, labels, radii, _ = linear_problem(5)
        flat, column = (
            FGSM().on(network)(images, given, between(radii["linf"], 2))
            for given in (labels, labels[:, np.newaxis])
        )
        self.assertAllEqual(flat.robust, column.robust)

    @parameterized.parameters(0, 1)
    def test_nan_is_not_a_correct_answer(self, position):
        def network(images):
            return images[:, 0, 0, :2] * 0 + tf.one_hot(
                position, 2, np.nan, 1.0
            )

        images = np.zeros((2, *SHAPE))
        for label in (0, 1):
            labels = np.full(2, label)
            result = FGSM().on(network)(images, labels, 0.1)
            self.assertAllEqual(result.clean_correct, [False, False])


if __name__ == "__main__":
    tf.test.main()
