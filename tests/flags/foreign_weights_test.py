"""Tests `--init_weights` with files of PyTorch, before TensorFlow loads."""

import numpy as np
from absl.testing import absltest
from safetensors.numpy import save_file

from fastbat_tf.experiment import differences
from fastbat_tf.experiment.config import ModelConfig
from tests.support.command_line import CommandLineTest, main
from tests.support.torch_cases import recorded


class ForeignWeightsTest(CommandLineTest):
    def setUp(self):
        super().setUp()
        arrays, _ = recorded("deepmind_swish_wrn10_2")
        self.path = str(self.directory / "weights.safetensors")
        save_file(arrays, self.path)
        self.mean = tuple(arrays["mean"].ravel().tolist())
        self.std = tuple(arrays["std"].ravel().tolist())
        self.flags = (
            "--model=wrn10_2",
            "--activation=swish",
            "--padding=same",
            f"--init_weights={self.path}",
        )

    def test_the_constants_belong_to_the_settings(self):
        _, _, config = self.command(*self.flags)
        self.assertEqual(
            config.model,
            ModelConfig(
                "wrn10_2",
                activation="swish",
                stem="cifar",
                dropout=0.0,
                padding="same",
                init_weights=self.path,
                mean=self.mean,
                std=self.std,
            ),
        )
        command = differences.command(config)
        self.assertIn("--padding=same", command)
        self.assertNotIn("mean", command)
        _, _, again = self.command(*command.split()[2:])
        self.assertEqual(again, config)

    def test_nonormalize(self):
        self.assert_refused(
            main(*self.flags, "--nonormalize"),
            "normalizes pixels; .*no --nonormalize. Received: init_weights=",
        )
        save_file({"conv1.weight": np.ones(2, "float32")}, self.path)
        _, _, config = self.command(*self.flags, "--nonormalize")
        self.assertEqual((config.model.mean, config.model.std), (None, None))

    def test_refused(self):
        for name, content, reason in (
            ("bad.safetensors", b"\x80\x04K\x01.", "expected one of safeten"),
            ("no.safetensors", None, r"of PyTorch \(.safetensors, .pt, .pth"),
            ("bad.bin", b"", r"of PyTorch \(.safetensors, .pt, .pth"),
        ):
            path = self.directory / name
            if content is not None:
                path.write_bytes(content)
            self.assert_refused(
                main(f"--init_weights={path}"),
                f"{reason}.* Received: init_weights={path}",
            )


if __name__ == "__main__":
    absltest.main()
