"""What a person sees of an attack and of its result."""

import copy
import inspect
import pickle

import numpy as np
import tensorflow as tf
from absl.testing import absltest, parameterized

from fastbat_tf import attacks

SETTINGS = ["norm", "batch_size", "seed", "jit_compile"]
CLASSES = [
    attacks.APGD,
    attacks.APGDTargeted,
    attacks.AutoAttack,
    attacks.FAB,
    attacks.FGSM,
    attacks.PGD,
    attacks.Square,
    attacks.Transfer,
]


class ShownTest(parameterized.TestCase):
    @parameterized.parameters(*CLASSES)
    def test_the_signature_lists_every_setting(self, attack_class):
        """`help` shows names and defaults instead of `**settings`."""
        parameters = inspect.signature(attack_class).parameters
        self.assertEqual(list(parameters)[-4:], SETTINGS)
        self.assertEqual(
            [parameters[name].default for name in SETTINGS],
            ["linf", 250, 0, "auto"],
        )
        self.assertLen(set(parameters), len(parameters))

    def test_a_class_of_the_user_keeps_its_arguments(self):
        class Own(attacks.PGD):
            def __init__(self, strength, **options):
                super().__init__(strength, **options)

        self.assertEqual(
            list(inspect.signature(Own).parameters), ["strength", "options"]
        )
        self.assertEqual(repr(Own(0.5, seed=3)), "Own(0.5, seed=3)")

    @parameterized.parameters(
        (attacks.PGD(0.5, steps=3, norm="l2"), "PGD(0.5, steps=3, norm='l2')"),
        (attacks.Square(queries=7), "Square(queries=7)"),
        (
            attacks.AutoAttack(version="custom", attacks=["fgsm"]),
            "AutoAttack(version='custom', attacks=['fgsm'])",
        ),
    )
    def test_an_attack_prints_what_it_was_given(self, attack, expected):
        self.assertEqual(repr(attack), expected)

    def test_copies_are_built_from_the_arguments(self):
        attack = attacks.build("pgd-3-2", epsilon=0.5, norm="l2")
        labels, images = np.array([0]), np.full((1, 8, 8, 1), 0.5, np.float32)
        attack(lambda x: tf.reshape(x, [-1, 64])[:, :2], images, labels)
        for again in (
            copy.copy(attack),
            copy.deepcopy(attack),
            pickle.loads(pickle.dumps(attack)),
        ):
            self.assertEqual(repr(again), repr(attack))
            self.assertEqual(again.title, "pgd-3-2")
            self.assertEqual((again.steps, again.restarts), (3, 2))
            self.assertEqual((again.epsilon, again.norm.name), (0.5, "l2"))

    def test_unknown_arguments_are_refused(self):
        with self.assertRaisesRegex(TypeError, "unexpected keyword .*'step'"):
            attacks.PGD(step=3)

    def test_the_result_prints_in_one_line(self):
        found = attacks.AdversarialExamples(
            np.zeros((3, 8, 8, 1), np.float32),
            np.arange(3),
            np.array([True, False, True]),
        )
        self.assertEqual(
            repr(found),
            "<AdversarialExamples: images (3, 8, 8, 1), 2 of 3 robust>",
        )
        # It is a tuple of arrays all the same.
        images, _, robust = pickle.loads(pickle.dumps(found))
        self.assertEqual((images.shape, robust.sum()), ((3, 8, 8, 1), 2))


if __name__ == "__main__":
    absltest.main()
