"""Every kind of method on two workers: the weights of one device."""

import pathlib
import tempfile

import numpy as np
import pytest
import tensorflow as tf
from absl.testing import parameterized

from tests.methods.replicas_test import (
    CASES,
    MAIN_CASES,
    TOLERANCES,
    precision,
)
from tests.support import many_workers, worker_methods

MAIN = {name: CASES[name] for name in MAIN_CASES}


class TwoWorkersTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.product(dtype=("float64", "float32"), compiled=(False, True))
    @pytest.mark.slow
    def test_weights_of_one_device(self, dtype, compiled):
        directory = pathlib.Path(
            self.enterContext(tempfile.TemporaryDirectory())
        )
        paths = [directory / f"{index}.npz" for index in range(3)]
        options = MAIN, dtype
        ended = many_workers.run(
            _train_compiled if compiled else worker_methods.train_all,
            *((path, *options) for path in paths[:2]),
            directory=directory,
            seconds=1800,
        )
        for worker in ended:
            self.assertEqual(worker.status, 0, worker.output)
        with precision(dtype):
            worker_methods.train_all(paths[2], *options, strategy="none")
        first, second, one = (dict(np.load(path)) for path in paths)
        for name, weight in one.items():
            self.assertAllEqual(first[name], second[name], name)
            difference = np.abs(first[name] - weight).max()
            self.assertLess(difference, TOLERANCES[dtype], name)


def _train_compiled(*arguments):
    worker_methods.train_all(*arguments, jit_compile=True)


if __name__ == "__main__":
    tf.test.main()
