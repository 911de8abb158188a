"""The recorded steps of the FastAT Benchmark, method by method."""

import pathlib
from unittest import mock

import pytest
import tensorflow as tf
from absl.testing import parameterized

from fastbat_tf import methods
from tests.support import (
    golden_cases,
    golden_methods,
    golden_network,
    golden_steps,
)

FOLDER = pathlib.Path(__file__).parents[1] / "golden/methods"
FILES = sorted(FOLDER.glob("*.npz"))


class GoldenMethodsTest(tf.test.TestCase, parameterized.TestCase):
    def test_files_are_there(self):
        self.assertSameElements([f.stem for f in FILES], golden_cases.CASES)

    def test_all_other_methods_are_recorded(self):
        recorded = {case.method for case in golden_cases.CASES.values()}
        # `fastbat` has its own recordings; TRADES has formulas_test.py, and
        # MART mart_test.py.
        held = recorded | {"standard", "trades", "mart", "fastbat"}
        self.assertContainsSubset(held, methods.METHODS)
        self.assertLen(held, 24)
        missing = sorted(methods.METHODS.keys() - held)
        if missing:
            self.skipTest(f"Without a recorded step: {', '.join(missing)}")

    @parameterized.parameters(*FILES)
    def test_replay(self, file):
        recording = golden_network.load(file)
        passed, line = golden_methods.check(recording, ("eager",))
        self.assertTrue(passed, line)

    @parameterized.parameters("gat", "liet", "pgd_at", "free_at")
    @pytest.mark.slowest
    def test_replay_of_branches_and_loops_as_a_graph(self, name):
        recording = golden_network.load(FOLDER / f"{name}.npz")
        passed, line = golden_methods.check(recording, ("graph",))
        self.assertTrue(passed, line)

    @parameterized.parameters(
        # What the benchmark does otherwise than the papers.
        ("gat", "form", "paper"),
        ("nu_at", "attack_mode", "inference"),
        ("pgd_at", "attack_mode", "training"),
        ("grad_align", "form", "paper"),
        ("n_aaer", "form", "paper"),
        ("fgsm_uap", "form", "paper"),
        ("fgsm_cuap", "form", "paper"),
        ("fgsm_fuap", "form", "paper"),
        ("free_at", "start", "carried"),
        ("fgsm_pgi", "label_factor", 0.6),
        # And what a plausible mistake would be.
        ("fgsm_pgi", "momentum_decay", 0.0),
        ("fgsm_pco", "reach", 1.0),
        ("fgsm_mep_cs", "tolerance", 10.0),
        ("fgsm_rs_cs", "label_factor", 1.0),
        ("elle", "coefficient", 0.0),
        ("zero_grad", "quantile", 0.4),
        ("ssat", "checkpoints", 2),
        ("liet", "random_smoothing", 0.5),
        ("rs_aaer", "logit_coefficient", 0.0),
    )
    @pytest.mark.slowest
    def test_another_step_is_noticed(self, name, option, value):
        recording = golden_network.load(FOLDER / f"{name}.npz")
        case = golden_methods.case_of(recording)
        changed = case._replace(
            options=lambda s: {**case.options(s), option: value}
        )
        with mock.patch.dict(golden_cases.CASES, {name: changed}):
            passed, line = golden_methods.check(recording, ("eager",))
        self.assertFalse(passed, line)

    def test_float32_is_refused(self):
        self.assertEqual(
            golden_steps.main(["--float32", str(FOLDER / "fgsm_at.npz")]), 2
        )
        self.assertEqual(golden_steps.main([str(FOLDER / "fgsm_at.npz")]), 0)


if __name__ == "__main__":
    tf.test.main()
