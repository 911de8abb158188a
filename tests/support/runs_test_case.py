"""The base of tests that write runs, and read them for the report."""

import pathlib
import tempfile

from absl.testing import parameterized

from fastbat_tf.experiment.report import record
from tests.support import written_runs


class RunsTestCase(parameterized.TestCase):
    """Has a directory, in which it writes runs by name.

    Attributes:
        directory: The `pathlib.Path`.
    """

    def setUp(self):
        super().setUp()
        directory = self.enterContext(tempfile.TemporaryDirectory())
        self.directory = pathlib.Path(directory)

    def write(self, name, method="fastbat", **arguments):
        written_runs.write_run(self.directory / name, method, **arguments)

    def records(self, *names):
        return record.read([self.directory / name for name in names])
