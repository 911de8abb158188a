"""The program in a terminal: the main job, seeds, an evaluation, Ctrl-C."""

import json
import pathlib
import re
import tempfile

import pytest
from absl.testing import absltest

from tests.support.terminal import CTRL_C, HIDDEN, Terminal

TINY = (
    "main.py",
    "--method=fastat",
    "--dataset=cifar10_mini",
    "--model=wrn10_1",
    "--validation_share=0.9",
    "--batch_size=100",
    "--validation_examples=20",
    "--validation_attack=pgd-1-1",
    "--max_examples=20",
    "--attacks=pgd-1-1",
)
STOPPED = "Stopped by Ctrl-C; run the same command to resume."
# A bar, and a part of the text beside it.
BAR = "━.*"


class TerminalTest(absltest.TestCase):
    def setUp(self):
        super().setUp()
        directory = self.enterContext(tempfile.TemporaryDirectory())
        self.run_dir = pathlib.Path(directory, "run")

    def check(self, terminal, status=0, columns=80):
        """Checks the status, and that the terminal is left in order."""
        self.assertEqual(terminal.end(), status, terminal.output)
        self.assertTrue(terminal.is_clean, terminal.output)
        self.assertNotIn("Traceback", terminal.output)
        for line in terminal.lines:
            if "/" not in line:  # The line does not break inside a path.
                self.assertLessEqual(len(line), columns, line)

    def seen(self, terminal, *patterns):
        text = "\n".join(terminal.lines)
        for pattern in patterns:
            self.assertRegex(text, pattern)

    def check_stopped(self, terminal):
        self.check(terminal, 130)
        self.assertEqual(terminal.lines[-2], STOPPED)

    def state(self):
        newest = max(self.run_dir.glob("backup/0*/state.json"))
        return json.loads(newest.read_text())

    @pytest.mark.slow
    def test_seeds_and_an_evaluation(self):
        terminal = Terminal(
            *TINY, "--epochs=1", "--seeds=0,1", f"--run_dir={self.run_dir}"
        )
        terminal.wait_for("Seed 1")
        terminal.resize(100)
        self.check(terminal, columns=100)
        self.seen(
            terminal,
            rf"epoch 1/1 +{BAR} 0/4 +compiling \.\.\. +\d+ s",
            rf"epoch 1/1 +{BAR} [1-4]/4 +loss \d\.\d+ +[\d.]+ s.* left",
            rf"run +{BAR} \d+% +\d+ s left",
            f"validation +{BAR}",
            r"\n[0-9:]{8} epoch +loss +train +val +val robust +s/step\n",
            r"\n[0-9:]{8}   1/1 +\d+\.\d{3} .*% +\d+\.\d{3}\n",
            f"pgd-1-1 +{BAR}",
            r"\n +--seeds=0,1\n",
            r"Seed 0 \(1 of 2\)",
            r"attack +epsilon +mean +sd +each",
            r"pgd-1-1 +8/255 +\d+\.\d\d% ",
            r"20 examples, seeds 0, 1\.",
        )

        evaluation = (
            "main.py",
            "--mode=evaluate",
            "--attacks=apgd-ce-2+apgd-t-2+fab-t-2+square-10",
            "--epsilons=1/255",
            "--max_examples=100",
            f"--run_dir={self.run_dir}/seed-0",
        )
        stopped = Terminal(*evaluation)
        stopped.wait_for("apgd-t-2 ")
        stopped.press(CTRL_C)
        self.check_stopped(stopped)
        wide = Terminal(*evaluation, columns=200)
        self.check(wide, columns=200)
        self.seen(
            wide,
            *(
                rf"\n[0-9:]{{8}} {name}, epsilon 1/255: (\d+) of \1 decided, "
                r"\d+ robust, \d+ s\n"
                for name in ("apgd-ce-2", "apgd-t-2", "fab-t-2", "square-10")
            ),
            f"square-10 +{BAR}",
            r"attack +epsilon +accuracy +95 % interval +worst class +seconds",
            r"apgd-ce-2\+apgd-t-2\+fab-t-2\+square-10 +1/255 ",
            r"  after fab-t-2 ",
        )

    @pytest.mark.slow
    def test_stopped_in_training_and_in_compilation(self):
        command = (*TINY, "--epochs=500", f"--run_dir={self.run_dir}")
        terminal = Terminal(*command)
        terminal.wait_for("epoch 3/500")
        terminal.press(CTRL_C)
        self.check_stopped(terminal)
        state = self.state()
        self.assertGreaterEqual(state["epoch"], 2)

        terminal = Terminal(*command)
        terminal.wait_for("compiling")
        terminal.press(CTRL_C)
        self.check_stopped(terminal)
        self.seen(terminal, f"Resuming: {state['epoch']} epochs and ")
        self.assertEqual(self.state(), state)

    def test_an_error_and_verbosity(self):
        """Before TensorFlow is loaded, and after it with verbosity -1."""
        terminal = Terminal(*TINY, "--epochs=0", f"--run_dir={self.run_dir}")
        self.assertEqual(terminal.end(), 2)
        self.assertRegex(terminal.lines[0], "^error: .*epochs=0$")
        self.assertLen(terminal.lines, 2)
        flags = ("--learning_rate=1e30", "--schedule=constant", "--epochs=1")
        command = (*TINY, *flags, "--method=standard", "--verbosity=-1")
        terminal = Terminal(*command, f"--run_dir={self.run_dir}")
        self.assertEqual(terminal.end(), 2)
        self.assertTrue(terminal.is_clean)
        self.assertNotIn(HIDDEN, terminal.output)
        text = " ".join(terminal.lines).strip()
        self.assertRegex(text, r"^error: .* is not finite in epoch 1, step \d;")

    def test_stopped_before_anything(self):
        """While TensorFlow is imported, and without a terminal."""
        terminal = Terminal(*TINY, f"--run_dir={self.run_dir}")
        maps = pathlib.Path(f"/proc/{terminal.pid}/maps")
        if not maps.exists():
            self.skipTest("There is no /proc.")
        while not re.search("libtensorflow_framework", maps.read_text()):
            pass
        terminal.press(CTRL_C)
        self.assertEqual(terminal.end(), 130, terminal.output)
        self.assertEqual(terminal.lines[-2], STOPPED)
        self.assertFalse(self.run_dir.exists())


if __name__ == "__main__":
    absltest.main()
