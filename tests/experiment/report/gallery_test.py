"""Tests of the images of a report."""

import base64
import io
import pathlib
import re
import tempfile

import numpy as np
import PIL.Image
from absl.testing import absltest, parameterized

from fastbat_tf.experiment.report import charts, gallery, record
from fastbat_tf.experiment.report.blocks import Picture, Table
from tests.support import written_runs
from tests.support.written_evaluations import CLASSES

KINDS = ["fixed"] * 8 + ["fragile"] * 4 + ["robust"] * 4
EPSILON = 8 / 255
MOST_BYTES = 350_000  # Of a run.


def pngs(picture):
    """The images in a picture, as arrays of gray levels."""
    found = re.findall(rb"data:image/png;base64,([^\"]+)", picture.content)
    files = [io.BytesIO(base64.b64decode(text)) for text in found]
    return [np.asarray(PIL.Image.open(file).convert("RGB")) for file in files]


class GalleryTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.enterContext(charts.style())
        directory = self.enterContext(tempfile.TemporaryDirectory())
        self.run_dir = pathlib.Path(directory) / "run"

    def write(self, shape, kinds=tuple(KINDS), epsilon=EPSILON, **options):
        """Writes a gallery of such images, and returns its arrays."""
        written_runs.write_evaluation(self.run_dir, **options)
        random = np.random.default_rng(0)
        count = len(kinds)
        image = random.random((count, *shape), np.float32)
        sign = random.choice([-1, 1], image.shape)
        label = np.arange(count) % 10
        arrays = {
            "index": 5 * np.arange(count),
            "label": label,
            "kind": np.array(kinds),
            "image": image,
            "adversarial": np.float32(np.clip(image + epsilon * sign, 0, 1)),
            "clean_class": np.where(np.arange(count) == 1, 9, label),
            "clean_confidence": random.random(count, np.float32),
            "adversarial_class": (label + np.arange(count) % 3) % 10,
            "adversarial_confidence": random.random(count, np.float32),
            "attack": np.array("pgd-10-1"),
            "epsilon": np.array(epsilon),
            "norm": np.array("linf"),
        }
        np.savez(self.run_dir / "gallery.npz", **arrays)
        return arrays

    def blocks(self):
        return gallery.blocks(record.read([self.run_dir]))

    def pictures(self, blocks):
        return [block for block in blocks if isinstance(block, Picture)]

    @parameterized.parameters(2, 4)
    def test_channels_that_are_no_colors(self, channels):
        known = self.write((8, 8, channels), KINDS[:1])
        (picture,) = self.pictures(self.blocks())
        gray = np.round(255 * known["image"][0].mean(axis=-1))
        self.assertLess(np.abs(pngs(picture)[0][..., 0] - gray).max(), 2)

    def test_answers_that_are_not_a_number(self):
        """The network names no class then, which is written as -1."""
        arrays = self.write((8, 8, 3), KINDS[:3])
        arrays["adversarial_class"] = np.array([0, -1, -1])
        np.savez(self.run_dir / "gallery.npz", **arrays)
        *_, table = self.blocks()
        found = [row[5] for row in table.rows[1:]]
        self.assertEqual(found, [CLASSES[0], "no class", "no class"])

    def test_images_are_those_of_the_file(self):
        """Pixel by pixel, and the difference by the stated factor."""
        known = self.write((32, 32, 3))
        blocks = self.blocks()
        pictures = self.pictures(blocks)
        self.assertEqual(
            [picture.name for picture in pictures],
            [f"gallery-1-{kind}" for kind in ("fixed", "fragile", "robust")],
        )
        shown = [png for picture in pictures for png in pngs(picture)]
        self.assertLen(shown, 3 * 16)
        scale = float(
            re.search(r"times ([\d.]+), gray is 0", pictures[0].caption)[1]
        )
        self.assertAlmostEqual(scale, 0.5 / EPSILON, delta=0.1)
        for k in range(16):
            image, adversarial = known["image"][k], known["adversarial"][k]
            difference = 0.5 + scale * (adversarial - image)
            for png, expected in zip(
                shown[3 * k : 3 * k + 3],
                (image, adversarial, difference),
                strict=True,
            ):
                np.testing.assert_array_equal(
                    png, np.round(255 * np.clip(expected, 0, 1))
                )
        for picture in pictures:
            self.assertIn(b"image-rendering:pixelated", picture.content)

    def test_table_and_texts_equal_the_file(self):
        known = self.write((8, 8, 3))
        text, first, *_, table = self.blocks()
        self.assertEqual(
            text.text,
            "Of 8 fixed images, 7 are classified correctly, and of these 3 "
            "also under pgd-10-1 at 8/255 (L∞). The attack changes a pixel by "
            "at most 8 of 255 gray levels.",
        )
        self.assertIsInstance(table, Table)
        for k, row in enumerate(table.rows[1:]):
            self.assertEqual(
                row,
                (
                    str(known["index"][k]),
                    KINDS[k],
                    CLASSES[known["label"][k]],
                    CLASSES[known["clean_class"][k]],
                    f"{100 * known['clean_confidence'][k]:.2f}%",
                    CLASSES[known["adversarial_class"][k]],
                    f"{100 * known['adversarial_confidence'][k]:.2f}%",
                ),
            )
        drawn = first.content.decode()
        self.assertIn(">\N{CHECK MARK}\N{NO-BREAK SPACE}airplane</text>", drawn)
        self.assertIn(">\N{BALLOT X}\N{NO-BREAK SPACE}truck</text>", drawn)
        share = f"{100 * known['clean_confidence'][0]:.0f}%"
        self.assertIn(f">{share}</text>", drawn)

    @parameterized.parameters((28, 28, 1), (64, 64, 3), (224, 150, 3))
    def test_size_is_bounded(self, *shape):
        known = self.write(shape)
        pictures = self.pictures(self.blocks())
        self.assertLess(sum(len(p.content) for p in pictures), MOST_BYTES)
        png = pngs(pictures[0])[0]
        height, width = png.shape[:2]
        self.assertAlmostEqual(height / width, shape[0] / shape[1], delta=0.05)
        if shape[0] < 64:
            self.assertEqual((height, width), shape[:2])
            expected = np.round(255 * known["image"][0]).repeat(3, axis=-1)
            np.testing.assert_array_equal(png, expected)
        if shape[0] > 64:
            self.assertIn(
                f"Reduced from 224 to {height} pixels", pictures[0].caption
            )
            self.assertGreater(height, 64)

    def test_few_images_without_a_difference_or_names(self):
        self.write((8, 8, 3), ("fixed", "robust"), 0.0, class_names=None)
        blocks = self.blocks()
        pictures = self.pictures(blocks)
        self.assertLen(pictures, 2)
        self.assertIn("difference times 1, gray is 0", pictures[0].caption)
        self.assertIn(">class 0</text>", pictures[0].content.decode())
        *_, difference = pngs(pictures[0])
        np.testing.assert_array_equal(difference, 128)

    def test_long_names_are_cut(self):
        names = [f"a name of a class that does not fit, {k}" for k in range(10)]
        self.write((8, 8, 3), class_names=names)
        drawn = self.pictures(self.blocks())[0].content.decode()
        self.assertNotIn(names[0], drawn)
        self.assertRegex(
            drawn, r">a name.{0,8}\N{HORIZONTAL ELLIPSIS}.*0</text>"
        )

    def test_no_images(self):
        written_runs.write_run(self.run_dir, old=True)
        text, command = self.blocks()
        self.assertIn("kept no images (gallery.npz)", text.text)
        self.assertEqual(
            command.text,
            f"python main.py --mode=evaluate --run_dir={self.run_dir} "
            "--attacks=pgd-10-1,fgsm",
        )

    def test_several_runs(self):
        written_runs.write_run(self.run_dir)
        other, seeds = (
            self.run_dir.parent / "other",
            self.run_dir.parent / "seeds",
        )
        written_runs.write_run(other, unfinished=True)
        written_runs.write_seeds(seeds, seeds=(0, 1))
        blocks = gallery.blocks(record.read([self.run_dir, other, seeds]))
        headings = [b.text for b in blocks if b[-1] == "heading"]
        self.assertEqual(headings, ["run", "other", "seeds"])
        names = {picture.name for picture in self.pictures(blocks)}
        self.assertLen(names, 6)
        texts = [block.text for block in blocks if hasattr(block, "kind")]
        self.assertIn("Not known yet: nothing was measured.", texts)
        self.assertIn("Of one of 2 seeds, seeds/seed-0.", texts)


if __name__ == "__main__":
    absltest.main()
