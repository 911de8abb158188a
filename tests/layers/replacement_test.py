"""Functions that are replaced for a while."""

import threading
import types

from absl.testing import absltest

from fastbat_tf.layers.replacement import Replacement


class ReplacementTest(absltest.TestCase):
    def setUp(self):
        super().setUp()
        self.owner = types.ModuleType("owner")  # It has a hash.
        self.owner.first, self.owner.second = 1, 2
        self.replacement = Replacement(
            {(self.owner, "first"): 10, (self.owner, "second"): 20}
        )

    def values(self):
        return self.owner.first, self.owner.second

    def test_nested_blocks(self):
        with self.replacement:
            with self.replacement:
                self.assertEqual(self.values(), (10, 20))
            self.assertEqual(self.values(), (10, 20))
        self.assertEqual(self.values(), (1, 2))
        self.assertEqual(self.replacement.originals[self.owner, "first"], 1)

    def test_an_exception_restores_the_values(self):
        with self.assertRaises(KeyError), self.replacement:
            raise KeyError
        self.assertEqual(self.values(), (1, 2))

    def test_blocks_that_overlap_in_threads(self):
        """The one that began first ends first."""
        opened, closed = threading.Event(), threading.Event()

        def other():
            with self.replacement:
                opened.set()
                closed.wait()

        thread = threading.Thread(target=other)
        with self.replacement:
            thread.start()
            opened.wait()
        self.assertEqual(self.values(), (10, 20))
        closed.set()
        thread.join()
        self.assertEqual(self.values(), (1, 2))


if __name__ == "__main__":
    absltest.main()
