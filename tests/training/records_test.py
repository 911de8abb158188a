"""Files of a row per epoch, of this version and of earlier ones."""

import os
import pathlib
import subprocess
import sys
import tempfile
from unittest import mock

from absl.testing import absltest, parameterized

from fastbat_tf.training import records

# With a column of long ago, and one that is empty.
EARLIER = (
    "epoch,gradient_norm,loss,perturbed_accuracy,val_accuracy,val_x\r\n"
    "0,1.0,2.5,0.125,0.1,\r\n"
    "1,0.30000001192092896,1e-05,0.25,0.2,0.5\r\n"
)
ROW = {
    "epoch": 3,
    "learning_rate": 0.1,
    "loss": 0.5,
    "perturbed_accuracy": 0.5,
    "robust_gradient_norm": 0.25,
    "val_clean_accuracy": 0.3,
    "val_x": 0.75,
}
CONVERTED = (
    "epoch,learning_rate,loss,perturbed_accuracy,robust_gradient_norm,"
    "val_clean_accuracy,val_x\r\n"
    "1,,2.5,0.125,1.0,0.1,\r\n"
    "2,,1e-05,0.25,0.30000001192092896,0.2,0.5\r\n"
    "3,0.1,0.5,0.5,0.25,0.3,0.75\r\n"
)


class RecordsTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        directory = self.enterContext(tempfile.TemporaryDirectory())
        self.path = pathlib.Path(directory, "history.csv")

    def text(self):
        return self.path.read_bytes().decode()

    def write(self, text):
        self.path.write_bytes(text.encode())

    @parameterized.parameters(None, "", "epoch,loss\r\n", "\0\0\0\0")
    def test_no_rows(self, text):
        if text is not None:
            self.write(text)
        self.assertEqual(records.read(self.path), [])
        records.append(self.path, {"epoch": 1, "loss": 0.5})
        self.assertEqual(self.text(), "epoch,loss\r\n1,0.5\r\n")
        self.assertEqual(records.read(self.path), [{"epoch": 1, "loss": 0.5}])

    def test_reads_an_earlier_version(self):
        self.write(EARLIER)
        first, second = records.read(self.path)
        self.assertEqual(
            first,
            {
                "epoch": 1,
                "robust_gradient_norm": 1.0,
                "loss": 2.5,
                "perturbed_accuracy": 0.125,
                "val_clean_accuracy": 0.1,
                "val_x": None,
            },
        )
        self.assertEqual((second["epoch"], second["val_x"]), (2, 0.5))
        self.assertEqual(self.text(), EARLIER)

    def test_converts_an_earlier_version(self):
        self.write(EARLIER)
        records.append(self.path, ROW)
        self.assertEqual(self.text(), CONVERTED)
        # Once: the next rows are appended.
        with mock.patch.object(records, "replacing", side_effect=OSError):
            records.append(self.path, {**ROW, "epoch": 4})
        self.assertEqual(
            self.text(), CONVERTED + "4,0.1,0.5,0.5,0.25,0.3,0.75\r\n"
        )
        rows = records.read(self.path)
        self.assertEqual([row["epoch"] for row in rows], [1, 2, 3, 4])
        self.assertEqual(
            [row["learning_rate"] for row in rows], [None, None, 0.1, 0.1]
        )

    @parameterized.parameters("fsync", "replace")
    def test_killed_in_the_conversion(self, name):
        self.write(EARLIER)
        where = os if name == "fsync" else pathlib.Path
        with mock.patch.object(where, name, side_effect=KeyboardInterrupt):
            with self.assertRaises(KeyboardInterrupt):
                records.append(self.path, ROW)
        self.assertEqual(self.text(), EARLIER)
        records.append(self.path, ROW)
        self.assertEqual(self.text(), CONVERTED)

    @parameterized.parameters(
        (False, "accuracy", {}),
        (True, "perturbed_accuracy", {}),
        # The metric of another one, of a file of today.
        (False, "perturbed_accuracy", {"epoch": 1}),
    )
    def test_accuracy_of_the_training(self, has_attack, name, first):
        row = {"epoch": 0, "perturbed_accuracy": 0.5, **first}
        records.append(self.path, row)
        expected = [{"epoch": 1, name: 0.5}]
        self.assertEqual(records.read(self.path, has_attack), expected)

    def test_every_row_has_every_column(self):
        records.append(self.path, {"epoch": 1, "a": 1.0})
        records.append(self.path, {"epoch": 2, "a": 2.0, "b": 0.5})
        records.append(self.path, {"epoch": 3, "b": 1.5})
        self.assertEqual(
            self.text(), "epoch,a,b\r\n1,1.0,\r\n2,2.0,0.5\r\n3,,1.5\r\n"
        )

    @parameterized.parameters("2,0.5", "2", "", "2,0.5,0.25,7,7", "x,1,1")
    def test_a_row_that_was_cut(self, end):
        self.write(f"epoch,a,b\r\n1,1.0,nan\r\n{end}")
        first, *rest = records.read(self.path)
        self.assertEqual((first["epoch"], first["a"]), (1, 1.0))
        for row in rest:
            self.assertEqual(set(row), {"epoch", "a", "b"})
            self.assertEqual(row["epoch"], 2)
        self.assertLen(rest, int(end.startswith("2")))

    @parameterized.parameters(
        ([0.1, 0.3, 0.3], 2),
        ([None, 0.0, None], 2),
        ([float("nan"), 0.1], 2),
        ([None], None),
        ([], None),
    )
    def test_best_epoch(self, values, expected):
        rows = [
            {"epoch": epoch, "x": value}
            for epoch, value in enumerate(values, start=1)
        ]
        self.assertEqual(records.best_epoch(rows, "x"), expected)
        self.assertIsNone(records.best_epoch(rows, "y"))

    def test_needs_no_tensorflow(self):
        program = (
            "import sys\n"
            "sys.modules['tensorflow'] = sys.modules['keras'] = None\n"
            "from fastbat_tf.experiment import history\n"
            "print(history.read(sys.argv[1]))\n"
        )
        self.write("epoch,loss\n0,0.5\n")
        process = subprocess.run(
            [sys.executable, "-c", program, str(self.path)],
            capture_output=True,
            text=True,
            check=True,
        )
        self.assertEqual(process.stdout, "[{'epoch': 1, 'loss': 0.5}]\n")


if __name__ == "__main__":
    absltest.main()
