"""A run on the user's own images, from training to export."""

import json
import pathlib
import re
import shutil
import tempfile

import numpy as np
import pytest
import tensorflow as tf
from absl.testing import absltest
from PIL import Image

from tests.support.command_line import CommandLineTest, main
from tests.support.image_data import write, write_folder

TINY = (
    "--dataset=folder",
    "--image_size=16",
    "--width=2",
    "--epochs=1",
    "--batch_size=8",
    "--attacks=pgd-2-1",
    "--validation_attack=pgd-2-1",
)


class FolderTest(CommandLineTest):
    def setUp(self):
        super().setUp()
        self.top = write_folder(
            pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        )
        self.flags = (
            *TINY,
            f"--data_dir={self.top}",
            f"--run_dir={self.run_dir}",
        )

    @pytest.mark.slow
    def test_train_evaluate_export(self):
        write(self.top / "train/cat/.hidden.png", np.zeros((3, 3), np.uint8))
        (self.top / "train/cat/broken.png").write_text("")
        process = main(*self.flags, "--skip_unreadable")
        self.assertEqual(process.returncode, 0, process.stderr)
        self.assertIn("Skipped 1 unreadable image", process.stdout)
        settings = json.loads((self.run_dir / "config.json").read_text())
        self.assertEqual(settings["data"]["classes"], ["ant", "bird", "cat"])
        self.assertIn("\n3 classes: ant, bird, cat\n", process.stdout)
        self.assertLess(
            process.stdout.index("classes"), process.stdout.index("Running")
        )

        # The images move, and those of the training are removed.
        moved = self.directory / "moved"
        shutil.move(self.top / "test", moved / "test")
        shutil.rmtree(self.top)
        process = main(
            "--mode=evaluate",
            f"--run_dir={self.run_dir}",
            f"--data_dir={moved}",
            "--attacks=fgsm",
        )
        self.assertEqual(process.returncode, 0, process.stderr)
        results = json.loads((self.run_dir / "results.json").read_text())
        rows = {row["attack"]: row for row in results["attacks"]}
        self.assertEqual(rows["fgsm"]["examples"], 12)
        clean = re.search(r"none \(clean\)\s+([\d.]+)%", process.stdout)[1]
        self.assertAlmostEqual(
            float(clean), 100 * results["clean_accuracy"], delta=0.01
        )

        process = main("--mode=export", f"--run_dir={self.run_dir}")
        self.assertEqual(process.returncode, 0, process.stderr)
        model = tf.saved_model.load(self.run_dir / "saved_model")
        answer = model.signatures["serving_default"](
            images=tf.zeros((5, 16, 16, 3))
        )
        self.assertEqual(answer["logits"].shape, (5, 3))

    def assert_run_refused(self, message, *flags):
        self.assert_refused(main(*self.flags, *flags), message)
        self.assertFalse(self.run_dir.exists())

    def test_unreadable_image(self):
        file = self.top / "test" / "bird" / "002.jpg"
        file.write_bytes(file.read_bytes()[:99])
        self.assert_run_refused(rf"cannot be read.* Received: file={file} \(")

    def test_fewer_images_than_a_batch(self):
        self.assert_run_refused("33 images.*batch_size=34$", "--batch_size=34")

    def test_class_missing_from_test(self):
        shutil.rmtree(self.top / "test" / "bird")
        self.assert_run_refused("Each class.* Received: class=bird, data_dir=")

    @pytest.mark.slow
    def test_model_of_other_classes(self):
        process = main(*self.flags)
        self.assertEqual(process.returncode, 0, process.stderr)
        write(self.top / "test/dog/1.png", np.zeros((4, 4, 3), np.uint8))
        process = main("--mode=evaluate", f"--run_dir={self.run_dir}")
        self.assert_refused(process, "those of DIR/train, ant, bird, cat")

    @pytest.mark.slow
    def test_image_formats(self):
        """Trains on gray, transparent, palette and 16-bit images."""
        image = Image.open(self.top / "train/cat/001.png")
        for name, mode in (("gray", "L"), ("clear", "RGBA"), ("palette", "P")):
            image.convert(mode).save(self.top / f"train/cat/{name}.png")
        levels = np.arange(81, dtype=np.uint16).reshape(9, 9) * 800
        write(self.top / "train/cat/deep.png", levels)
        process = main(*self.flags)
        self.assertEqual(process.returncode, 0, process.stderr)


if __name__ == "__main__":
    absltest.main()
