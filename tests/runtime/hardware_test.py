"""What a training runs on."""

import json
import pathlib
import platform
import tempfile
from unittest import mock

import tensorflow as tf
from absl.testing import absltest, parameterized

from fastbat_tf.runtime import hardware


class HardwareTest(parameterized.TestCase):
    def test_here(self):
        found = hardware.describe(tf.distribute.get_strategy(), xla=True)
        self.assertEqual(
            list(found),
            ["device", "kind", "replicas", "cores", "platform", "xla"],
        )
        self.assertTrue(found["device"])
        self.assertEqual((found["replicas"], found["xla"]), (1, True))
        self.assertGreaterEqual(found["cores"], 1)
        self.assertEqual(json.loads(json.dumps(found)), found)

    @parameterized.parameters(
        (["NVIDIA H100"], "NVIDIA H100"),
        (["NVIDIA H100", "NVIDIA H100"], "NVIDIA H100"),
        (["NVIDIA H100", "NVIDIA L4"], "NVIDIA H100, NVIDIA L4"),
        ([None], "GPU"),
    )
    def test_gpus(self, names, expected):
        details = [{"device_name": name} if name else {} for name in names]
        with (
            mock.patch.object(
                tf.config, "list_physical_devices", return_value=names
            ),
            mock.patch.object(
                tf.config.experimental,
                "get_device_details",
                side_effect=details,
            ),
        ):
            found = hardware.describe(tf.distribute.get_strategy(), xla=False)
        self.assertEqual((found["device"], found["kind"]), (expected, "GPU"))

    @parameterized.parameters(
        ("model name\t: AMD EPYC 7B13\nmodel name\t: AMD\n", "AMD EPYC 7B13"),
        ("model\t\t: 1\n", "arm"),  # Of another architecture.
        (None, "arm"),  # Of another system.
    )
    def test_processor(self, text, expected):
        directory = self.enterContext(tempfile.TemporaryDirectory())
        path = pathlib.Path(directory, "cpuinfo")
        if text is not None:
            path.write_text(text)
        with (
            mock.patch.object(hardware, "CPU_INFO", path),
            mock.patch.object(platform, "processor", return_value="arm"),
        ):
            self.assertEqual(hardware.processor_name(), expected)


if __name__ == "__main__":
    absltest.main()
