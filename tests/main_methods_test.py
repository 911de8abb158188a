"""Methods that remember, count and replay, from the command line."""

import csv

import pytest
from absl.testing import absltest, parameterized

from tests.support.command_line import TINY, CommandLineTest, main


class MainMethodsTest(CommandLineTest):
    def history(self):
        with (self.run_dir / "history.csv").open(newline="") as stream:
            return list(csv.DictReader(stream))

    @parameterized.parameters(
        # 8 updates: one pass of 4 batches, each replayed twice.
        ("--method=free --replays=2", 1),
        ("--method=fgsm_mep_cs --reset_epochs=1", 2),
        ("--method=fastbat --linearization=remembered", 2),
    )
    @pytest.mark.slow
    def test_training(self, flags, epochs):
        process = main(*TINY, f"--run_dir={self.run_dir}", *flags.split())
        self.assertEqual(process.returncode, 0, process.stderr)
        rows = self.history()
        self.assertLen(rows, epochs)
        self.assertGreater(float(rows[-1]["val_clean_accuracy"]), 0.0)
        # The best weights are read without the method's state.
        process = main(
            "--mode=evaluate",
            f"--run_dir={self.run_dir}",
            "--attacks=fgsm",
            "--max_examples=20",
        )
        self.assertEqual(process.returncode, 0, process.stderr)

    @parameterized.parameters(
        (
            "--method=free --epochs=6",
            "`epochs` .* multiple of `replays`.* epochs=6, replays=4$",
        ),
        (
            "--method=free --replays=0",
            r"`replays` .* in \[1, inf\).* replays=0$",
        ),
        ("--method=gat --form=new", "paper, benchmark.* form=new$"),
        ("--method=gat --coefficient=-1", r"in \[0, inf\).* coefficient=-1.0$"),
        ("--method=nfgsm --replays=2", "not apply .* nfgsm.* replays=2$"),
        ("--method=trades --steps=0", r"`steps` .* in \[1, inf\).* steps=0$"),
        ("--method=fgsm_uap --uap_epsilon=10", r"\[0, 1\].*uap_epsilon=10.0$"),
        (
            "--method=liet --max_mask_ratio=0.05",
            r"in \[min_mask_ratio, 1\].*=0.05, min_mask_ratio=0.1$",
        ),
    )
    def test_refused(self, flags, message):
        process = main(*TINY, f"--run_dir={self.run_dir}", *flags.split())
        self.assert_refused(process, message)
        self.assert_nothing_written()


if __name__ == "__main__":
    absltest.main()
