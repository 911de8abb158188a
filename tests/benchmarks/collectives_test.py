"""Counts the bytes that replicas exchange, and reads them off the page."""

import keras
import pytest
import tensorflow as tf
from absl.testing import absltest, parameterized

from benchmarks import collectives
from benchmarks.collectives import Traffic
from fastbat_tf import Plan, RobustClassifier, methods, models
from tests.support import testing

BATCH, SHAPE = 3, (8, 8, 3)
PIXELS = 4 * 8 * 8 * 3
# Sums and counts, which a step exchanges beside gradients.
FEW = 100
REPLAYS = methods.get("free").replays


def count(name, normalization=testing.ZOO_NORMALIZATION):
    """Returns the traffic of a small network, and the bytes of its weights."""
    strategy = testing.two_cpu_strategy()
    whole = BATCH * strategy.num_replicas_in_sync
    with strategy.scope():
        network = testing.small_network(normalization=normalization)
        robust = RobustClassifier(network, methods.get(name))
        robust.compile("sgd", plan=Plan(2, 1, whole, examples=whole))
    size = 4 * sum(v.shape.num_elements() for v in network.trainable_variables)
    return collectives.traffic(robust, SHAPE, BATCH), size


def all_reduce(value):
    """A sum over replicas, as TensorFlow puts it into a graph."""
    return tf.raw_ops.CollectiveReduceV2(
        input=value,
        group_size=2,
        group_key=1,
        instance_key=1,
        ordering_token=[],
        merge_op="Add",
        final_op="Id",
    )


class CountTest(parameterized.TestCase):
    @parameterized.parameters(
        ("standard", 1, 0),
        ("fastbat", 1, 0),
        ("trades", 1, 0),
        ("fgsm_pgi", 1, 2),  # A perturbation and its momentum.
        ("fgsm_pco", 1, 1),
        ("free", REPLAYS, REPLAYS),
    )
    @pytest.mark.quick("fastbat", "fgsm_pgi", "free")
    def test_gradients_and_memory(self, name, replays, remembered):
        found, size = count(name)
        self.assertBetween(
            found.reduced, replays * size, replays * (size + FEW)
        )
        self.assertGreaterEqual(found.reductions, replays)
        pixels = remembered * BATCH * PIXELS
        self.assertBetween(found.gathered, pixels, pixels + replays * FEW)
        self.assertEqual(found.gathers > 0, remembered > 0)

    def test_statistics_of_batch_normalization(self):
        synchronized = keras.layers.BatchNormalization
        plain, _ = count("standard", lambda name: synchronized(name=name))
        found, _ = count(
            "standard", lambda name: synchronized(name=name, synchronized=True)
        )
        # Mean and mean square of 4 channels, forwards and backwards.
        self.assertGreaterEqual(found.reduced - plain.reduced, 4 * 4 * 4)
        self.assertGreater(found.reductions, plain.reductions)

    def test_functions_that_are_called(self):
        inner = tf.function(lambda: all_reduce([1.0, 2.0]), autograph=False)

        @tf.function(autograph=False)
        def outer():
            return inner(), inner(), all_reduce(tf.zeros((5,)))

        found = collectives.count(outer.get_concrete_function(), 1)
        self.assertEqual(found, Traffic(reduced=2 * 8 + 20, reductions=3))

    def test_a_loop_is_refused(self):
        @tf.function(autograph=False)
        def loop():
            return tf.while_loop(lambda value: value < 4.0, all_reduce, [1.0])

        with self.assertRaisesRegex(ValueError, "outside of loops.*node="):
            collectives.count(loop.get_concrete_function(), 2)

    def test_an_unknown_size_is_refused(self):
        strategy = testing.two_cpu_strategy()

        @tf.function(autograph=False)
        def step(size):
            return strategy.run(
                lambda: tf.distribute.get_replica_context().all_reduce(
                    tf.distribute.ReduceOp.SUM, tf.zeros((size,))
                )
            )

        function = step.get_concrete_function(tf.TensorSpec((), tf.int32))
        with self.assertRaisesRegex(ValueError, "known shape.*shape="):
            collectives.count(function, 2)


class PageTest(absltest.TestCase):
    """The table in docs/distributed.md is that of today's methods."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.table = collectives.read_table(
            collectives.PAGE.read_text(), batch=128
        )

    def test_every_method_has_a_row(self):
        self.assertSameElements(self.table, collectives.ROWS)

    def test_gradients(self):
        """Once for each replay, of PreActResNet-18 of width 64.

        The methods sum little else: `fgsm_fuap` a perturbation for each class,
        1.6 % of the weights.
        """
        size = 4 * testing.count_trainable(models.preact_resnet18)
        self.assertAlmostEqual(size, 44.7e6, delta=0.05e6)
        for name, found in self.table.items():
            replays = REPLAYS if name == "free" else 1
            self.assertAlmostEqual(
                found.reduced / (replays * size), 1, delta=0.02, msg=name
            )

    def test_rows_are_read_as_they_are_written(self):
        pgd = Traffic(44_700_000, 0, 1, 0)
        found = {"a": pgd, "b-c": Traffic(1_000_000, 128 * 12_300, 2, 4)}
        found["d --e"] = pgd
        text = collectives.write_table(found, 128)
        self.assertIn("| `a`, `d --e` | 44.7 | 1 | 0.0 | 0 |\n", text)
        page = f"<!-- begin: {collectives.BLOCK} -->\n{text}\n"
        self.assertEqual(collectives.read_table(page, 128), found)


if __name__ == "__main__":
    absltest.main()
