"""What a person sees of an attack and of its result."""

import copy
import inspect
import pickle

import numpy as np
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
        self.assertEqual(repr(copy.copy(attack)), expected)

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
