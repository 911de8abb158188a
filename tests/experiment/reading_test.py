"""How the data of a run are read."""

import sys
from unittest import mock

from absl.testing import absltest

from fastbat_tf.data import loading
from fastbat_tf.data.options import DataConfig
from fastbat_tf.experiment import reading
from fastbat_tf.experiment.config import Config
from fastbat_tf.runtime import display


class DrawnError(Exception):
    pass


class BarsTest(absltest.TestCase):
    """Imports of TensorFlow Datasets end the thread that draws bars."""

    def test_libraries_are_imported_before_bars_are_drawn(self):
        calls = mock.Mock()
        calls.task.side_effect = DrawnError
        with (
            mock.patch.object(loading, "import_libraries", calls.libraries),
            mock.patch.object(display, "task", calls.task),
            self.assertRaises(DrawnError),
        ):
            reading.read_data(Config())
        self.assertEqual(
            calls.mock_calls,
            [
                mock.call.libraries(Config().data),
                mock.call.task("reading the data"),
            ],
        )

    def test_only_what_reads_the_data_is_imported(self):
        with mock.patch.dict(sys.modules, {"tensorflow_datasets": None}):
            loading.import_libraries(DataConfig("cifar10_mini"))
            with self.assertRaises(ImportError):
                loading.import_libraries(DataConfig("cifar10"))


if __name__ == "__main__":
    absltest.main()
