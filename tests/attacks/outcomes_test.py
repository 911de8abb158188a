"""Tests that the attacks break what the original programs break.

Fast attacks run on all 160 images, slow ones on the first images; `python -m
tests.support.attack_outcomes` compares all of them.
"""

import functools
import pathlib
import tempfile

import numpy as np
import pytest
import tensorflow as tf
from absl.testing import parameterized

from tests.support import attack_outcomes, golden_network

FILE = pathlib.Path(__file__).parents[1] / "golden/attacks/attacks_eps8.npz"


@functools.cache
def recording():
    return golden_network.load(FILE)


class AttackOutcomesTest(parameterized.TestCase, tf.test.TestCase):
    @parameterized.parameters(
        ("pgd-10-1", None),
        ("apgd-ce", None),
    )
    def test_same_outcomes(self, name, count):
        self.check(name, count)

    @parameterized.parameters(
        ("apgd-dlr", None),
        ("pgd-50-10", 40),
        ("apgd-t", 12),
        ("fab-t", 12),
        ("square", 8),
        ("autoattack", 8),
    )
    @pytest.mark.slow
    def test_same_outcomes_slowly(self, name, count):
        self.check(name, count)

    def check(self, name, count):
        clean, ours = attack_outcomes.compare(recording(), [name], count)
        self.assertTrue(clean.passed, clean)
        self.assertTrue(ours.passed, ours)
        # If all examples or none were robust, the test would be void.
        self.assertBetween(ours.ours.sum(), 1, clean.ours.sum() - 1)

    def test_all_attacks_of_the_file_are_compared(self):
        self.assertEqual(
            set(attack_outcomes.recorded_attacks(recording()).values()),
            {
                "pgd-10-1",
                "pgd-50-10",
                "apgd-ce",
                "apgd-dlr",
                "apgd-t",
                "fab-t",
                "square",
                "autoattack",
            },
        )

    def run_program(self, arrays, *arguments):
        """The exit status for a file with the given arrays."""
        path = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        path /= "set.npz"
        with np.load(FILE) as file:
            np.savez(path, **{**file, **arrays})
        return attack_outcomes.main([*arguments, str(path)])

    def test_exit_status(self):
        outcome = recording().arrays["pgd_10_1"]
        few = slice(40)
        shrunken = {
            name: recording().arrays[name][few]
            for name in recording().arrays
            if not name.startswith("weights/")
        }
        self.assertEqual(self.run_program(shrunken, "--attacks=pgd-10-1"), 0)
        # Three more are robust.
        other = outcome[few].copy()
        other[np.flatnonzero(~other)[:3]] = True
        shrunken["pgd_10_1"] = other
        self.assertEqual(self.run_program(shrunken, "--attacks=pgd-10-1"), 1)
        # Equally many, but different ones: 2 of 40 differ.
        other = outcome[few].copy()
        other[np.flatnonzero(~other)[0]] = True
        other[np.flatnonzero(outcome[few])[0]] = False
        shrunken["pgd_10_1"] = other
        self.assertEqual(self.run_program(shrunken, "--attacks=pgd-10-1"), 1)

    def test_what_cannot_be_read(self):
        self.assertEqual(attack_outcomes.main(["no_such_file.npz"]), 2)
        self.assertEqual(attack_outcomes.main([str(FILE), "--attacks=x"]), 2)
        logits = recording().arrays["logits"] + 1
        self.assertEqual(
            self.run_program({"logits": logits}, "--attacks=pgd-10-1"), 2
        )


if __name__ == "__main__":
    tf.test.main()
