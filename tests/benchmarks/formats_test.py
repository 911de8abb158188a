"""What the benchmark of formats measures and prints."""

import contextlib
import io
import json
import pathlib
import re
import tempfile

import numpy as np
import tensorflow as tf
from absl.testing import absltest

from benchmarks import formats
from tests.support.command_line import TOP


def network(images):
    """Logits of two classes: dark and bright."""
    mean = np.asarray(images).mean((1, 2, 3))
    return np.stack([0.5 - mean, mean - 0.5], -1)


class FormatsTest(absltest.TestCase):
    def setUp(self):
        super().setUp()
        self.directory = pathlib.Path(
            self.enterContext(tempfile.TemporaryDirectory())
        )
        draws = np.random.default_rng(0)
        self.images = draws.random((70, 4, 4, 3), np.float32)

    def test_size_of_a_directory(self):
        (self.directory / "variables").mkdir()
        (self.directory / "variables" / "index").write_bytes(bytes(30))
        (self.directory / "saved_model.pb").write_bytes(bytes(12))
        self.assertEqual(formats.size_of(self.directory), 42)
        self.assertEqual(formats.size_of(self.directory / "saved_model.pb"), 12)

    def test_calls_take_turns(self):
        seen = []
        speeds = formats.measure_speed(
            {
                name: lambda batch, name=name: seen.append((name, len(batch)))
                for name in ("first", "second")
            },
            self.images,
            rounds=10,
        )
        ones = [(name, 1) for name in ("first", "second")] * (2 + 10)
        batches = [(name, 32) for name in ("first", "second")] * (2 + 2)
        self.assertEqual(seen, ones + batches)
        self.assertEqual(set(speeds), {"first", "second"})
        self.assertGreater(speeds["first"].batch_seconds, 0)

    def test_pixels_are_rounded(self):
        seen = formats.rounded(lambda images: images)(self.images)
        np.testing.assert_array_equal(
            np.asarray(seen), np.round(self.images * 255) / 255
        )

    def test_rounded_pixels_have_gradients(self):
        """Otherwise the evaluation warns of gradient masking."""
        images = tf.constant(self.images)
        with tf.GradientTape() as tape:
            tape.watch(images)
            seen = formats.rounded(lambda images: images)(images)
        gradient = tape.gradient(seen, images)
        np.testing.assert_allclose(gradient, np.ones_like(images), 1e-6)

    def test_table_of_costs(self):
        wrong = np.array([0.1, 0])  # Of another class if the mean is near 0.5.
        file = self.directory / "model"
        file.write_bytes(bytes(1_250_000))
        rows = formats.measure_costs(
            {"onnx": file, "tflite": file},
            {"onnx": network, "tflite": lambda x: network(x) + wrong},
            self.images,
            rounds=1,
        )
        self.assertEqual([row["logit_difference"] for row in rows][0], 0)
        self.assertAlmostEqual(rows[1]["logit_difference"], 0.1, 6)
        same = np.mean(
            network(self.images).argmax(-1)
            == (network(self.images) + wrong).argmax(-1)
        )
        self.assertBetween(same, 0.1, 0.9)
        self.assertEqual([row["same_class"] for row in rows], [1, same])
        lines = self.printed(formats.print_costs, rows)
        self.assertLen(lines, 4)
        self.assertRegex(
            lines[2],
            r"^\| onnx \| 1\.25 \|.* 1\.00 \|.*0\.0e\+00 \| 100\.0 % \|",
        )

    def test_table_of_attacks(self):
        labels = network(self.images).argmax(-1)
        rows = formats.measure_attacks(
            {"keras": network, "tflite": lambda x: -network(x)},
            (self.images, labels),
            ["square-2"],
            1 / 255,
            self.directory,
        )
        self.assertEqual(
            [row["format"] for row in rows],
            ["keras", "tflite", "keras, 8-bit pixels"],
        )
        first, wrong, _ = rows
        self.assertEqual(first["results"]["clean_accuracy"], 1)
        self.assertEqual(first["difference"]["value"], 0)
        self.assertEqual(wrong["robust_accuracy"], 0)
        self.assertEqual(
            wrong["difference"]["value"], -first["robust_accuracy"]
        )
        lines = self.printed(formats.print_robustness, rows)
        self.assertEqual(
            lines[0],
            "| format | clean | square-2 | all attacks | minus the first |",
        )
        self.assertStartsWith(lines[3], "| tflite | 0.0 (0.0 to ")

    def test_the_tables_of_the_documentation(self):
        numbers = json.loads((TOP / "docs" / "formats.json").read_text())
        page = (TOP / "docs" / "serving.md").read_text()
        for name, function, rows in (
            ("costs", formats.print_costs, numbers["costs"]),
            ("robustness", formats.print_robustness, numbers["robustness"]),
        ):
            block = re.search(
                f"(?s)<!-- begin: {name} of formats -->\n\n(.*?)\n\n<!-- end",
                page,
            )
            self.assertEqual(
                block[1].splitlines(), self.printed(function, rows)
            )

    def printed(self, function, *arguments):
        text = io.StringIO()
        with contextlib.redirect_stdout(text):
            function(*arguments)
        return text.getvalue().splitlines()


if __name__ == "__main__":
    absltest.main()
