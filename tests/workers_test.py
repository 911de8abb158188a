"""What workers tell each other: one process, and two."""

import json
import pathlib
import tempfile

import numpy as np
import tensorflow as tf
from absl.testing import absltest

from fastbat_tf import distribution, workers
from fastbat_tf.errors import InputError
from tests.support import many_workers, testing

# Not a number with a payload, a negative zero, a number below the normal ones.
BITS = np.array([0x7FC00123, 0x80000000, 1, 0x3F800000], np.uint32)


class OneWorkerTest(absltest.TestCase):
    def test_strategies_of_one_process(self):
        one = workers.of(tf.distribute.get_strategy())
        self.assertIs(workers.of(testing.two_cpu_strategy()), one)
        self.assertEqual((one.index, one.count, one.is_chief), (0, 1, True))

    def test_it_tells_itself(self):
        one = workers.Workers()
        array = BITS.view(np.float32)
        (found,) = one.gather(array)
        self.assertIs(found, array)
        self.assertIs(one.from_chief(array), array)
        value = {"a": [1, None]}
        self.assertEqual(one.object_from_chief(value), value)
        self.assertEqual(one.gather_objects(value), [value])
        self.assertEqual(one.highest(3), 3)
        one.agree("version", value)
        self.assertEqual(one.on_chief(lambda: 5), 5)
        with self.assertRaisesRegex(InputError, "^no$"):
            one.on_chief(refuse)


def refuse():
    raise InputError("no")


def exchange(directory):
    """Runs in each of two processes, and writes what it has received."""
    everyone = workers.of(distribution.get_strategy("multiworker", 60))
    index = everyone.index
    found = {
        "place": [index, everyone.count, everyone.is_chief],
        "objects": everyone.gather_objects({"index": index}),
        "object": everyone.object_from_chief([index]),
        "highest": everyone.highest(7 - index),
        "on_chief": everyone.on_chief(lambda: {"index": index}),
        "part": everyone.part(),
    }
    floats = BITS.view(np.float32)[: 2 + 2 * index].reshape(-1, 2)
    found["arrays"] = [
        [array.dtype.str, array.shape, array.view(np.uint32).tolist()]
        for array in everyone.gather(floats)
    ]
    found["others"] = [
        [array.dtype.str, array.shape, array.tolist()]
        for given in (np.zeros((index, 3), bool), np.array("ä" * (index + 1)))
        for array in everyone.gather(given)
    ]
    # More than what is sent at a time.
    large = np.random.default_rng(5).normal(size=2**20 + 3)
    received = everyone.from_chief(large if everyone.is_chief else None)
    found["large"] = received.tobytes() == large.tobytes()
    found["half"] = str(everyone.from_chief(np.float16(index + 0.5)))
    found["errors"] = errors = []
    for call in (
        lambda: everyone.agree("version", {"keras": "3", "numpy": index}),
        lambda: everyone.agree("data set", index),
        lambda: everyone.on_chief(refuse),
        lambda: everyone.agree("version", {"keras": "3"}),
    ):
        try:
            call()
        except InputError as error:
            errors.append(str(error))
    path = pathlib.Path(directory, f"{index}.json")
    path.write_text(json.dumps(found))


class TwoWorkersTest(absltest.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        directory = cls.enterClassContext(tempfile.TemporaryDirectory())
        ended = many_workers.run(
            exchange, (directory,), (directory,), directory=directory
        )
        for worker in ended:
            assert worker.status == 0, worker.output
        cls.found = [
            json.loads(pathlib.Path(directory, f"{index}.json").read_text())
            for index in range(2)
        ]

    def test_each_has_its_place(self):
        places = [found.pop("place") for found in self.found]
        self.assertEqual(places, [[0, 2, True], [1, 2, False]])
        # All have received the same.
        self.assertEqual(*self.found)

    def test_objects(self):
        found = self.found[1]
        self.assertEqual(found["objects"], [{"index": 0}, {"index": 1}])
        self.assertEqual(found["object"], [0])
        self.assertEqual(found["on_chief"], {"index": 0})
        self.assertEqual(found["highest"], 7)

    def test_arrays_keep_their_bits(self):
        bits = BITS.tolist()
        self.assertEqual(
            self.found[0]["arrays"],
            [
                ["<f4", [1, 2], [bits[:2]]],
                ["<f4", [2, 2], [bits[:2], bits[2:]]],
            ],
        )
        self.assertEqual(
            self.found[0]["others"],
            [
                ["|b1", [0, 3], []],
                ["|b1", [1, 3], [[False] * 3]],
                ["<U1", [], "ä"],
                ["<U2", [], "ää"],
            ],
        )
        self.assertTrue(self.found[1]["large"])
        self.assertEqual(self.found[1]["half"], "0.5")

    def test_refusals(self):
        self.assertEqual(
            self.found[1]["errors"],
            [
                "All workers are expected to have the same version; worker 1 "
                "has numpy=1, and the chief numpy=0. Received: numpy=1",
                "All workers are expected to have the same data set; worker 1 "
                "has data set=1, and the chief data set=0. "
                "Received: data set=1",
                "no",
            ],
        )


if __name__ == "__main__":
    absltest.main()
