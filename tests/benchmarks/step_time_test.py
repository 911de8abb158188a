"""What the timing of steps says about devices, ratios and goals."""

import os
import unittest
from unittest import mock

from benchmarks import device, goals
from benchmarks.goals import Measured, Seconds


class DeviceTest(unittest.TestCase):
    def test_processor_with_its_instructions_and_limits(self):
        limits = {"ONEDNN_MAX_CPU_ISA": "AVX2"}
        cpuinfo = self._write(
            "model name\t: AMD EPYC 7551\nflags\t\t: fpu avx avx2 bmi\n"
        )
        with (
            mock.patch.object(device, "CPUINFO", cpuinfo),
            mock.patch.dict(os.environ, limits),
        ):
            described = device.describe()
        self.assertTrue(described.startswith("AMD EPYC 7551 (AVX2), "))
        self.assertIn(" cores", described)
        self.assertIn("ONEDNN_MAX_CPU_ISA=AVX2", described)

    def test_processor_that_the_system_does_not_name(self):
        with mock.patch.object(device, "CPUINFO", self._write("")):
            self.assertTrue(device.describe().startswith("CPU, "))

    def _write(self, text):
        file = mock.Mock()
        file.exists.return_value = True
        file.read_text.return_value = text
        return file


class GoalsTest(unittest.TestCase):
    # The middle of three steps takes 16 ms and 20 ms of CPU.
    OURS = Measured(
        12.0,
        [Seconds(0.016, 0.02), Seconds(0.03, 0.03), Seconds(0.01, 0.01)],
        1.5,
    )

    def test_ratios_are_those_of_the_rounds(self):
        theirs = Measured(
            1.0,
            [Seconds(0.032, 0.08), Seconds(0.06, 0.12), Seconds(0.02, 0.04)],
            3.0,
        )
        text = goals.compare(self.OURS, theirs)
        self.assertIn("0.50 of the wall time", text)
        self.assertIn("0.25 of the CPU time, 0.50 of the memory", text)
        unknown = goals.compare(self.OURS, theirs._replace(memory=None))
        self.assertNotIn("memory", unknown)

    def test_goals_beside_what_is_measured(self):
        text = goals.beside(self.OURS, "float32")
        self.assertIn("at most 17 ms (measured: 16.0)", text)
        self.assertIn("(in such steps: 112)", text)
        self.assertIn("30 s (measured: 12.0)", text)
        self.assertIn("9 ms", goals.beside(self.OURS, "mixed_bfloat16"))
        self.assertIn("no goal", goals.beside(self.OURS, "mixed_float16"))


if __name__ == "__main__":
    unittest.main()
