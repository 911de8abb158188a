"""Trains on one device and on four logical ones, in a process of its own.

    python -m tests.support.four_replicas CASE

It prints a line for each precision, with and without XLA: the largest
difference of a weight. The tests' own process has two logical devices.
"""

import sys
from unittest import mock

import tensorflow as tf

REPLICAS = 4


class Patient(tf.distribute.MirroredStrategy):
    """Gives each replica a data set of its own.

    TensorFlow gives them one, through a `MultiDeviceIterator`. With that of
    four devices, on two cores, a training sometimes waited for ever: the main
    thread in an operation of its own (in another run, in the one that makes
    the iterator of the last device), three threads that fetch ahead in
    `GeneratorDataset`, all others idle. There were no collectives, so they are
    not the cause; why the operation never ends is not known.
    """

    def experimental_distribute_dataset(self, dataset, options=None):
        modes = tf.distribute.InputReplicationMode
        options = tf.distribute.InputOptions(
            experimental_fetch_to_device=False,
            experimental_replication_mode=modes.PER_REPLICA,
            experimental_place_dataset_on_device=True,
        )
        return self.distribute_datasets_from_function(
            lambda context: dataset.map(_part(context.input_pipeline_id)),
            options,
        )


def _part(replica):
    """Returns a function from a batch to the rows of a replica."""

    def rows(*batch):
        count = tf.shape(tf.nest.flatten(batch)[0])[0]
        # Of two rows, the first and third replica have one.
        begin, end = (-(-i * count // REPLICAS) for i in (replica, replica + 1))
        return tf.nest.map_structure(lambda part: part[begin:end], batch)

    return rows


def main(case):
    # Importing `tests` has made two devices, which are not used yet.
    (cpu,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(
        cpu, [tf.config.LogicalDeviceConfiguration()] * REPLICAS
    )
    from tests.methods import replicas_test  # noqa: PLC0415

    strategy = Patient(
        [f"CPU:{i}" for i in range(REPLICAS)],
        cross_device_ops=tf.distribute.ReductionToOneDevice(),
    )
    replaced = mock.patch.object(
        replicas_test.testing, "two_cpu_strategy", lambda: strategy
    )
    for dtype in replicas_test.TOLERANCES:
        one, _ = replicas_test.train(case, 1, dtype, jit_compile=False)
        for compiled in (False, True):
            with replaced:
                four, _ = replicas_test.train(
                    case, REPLICAS, dtype, jit_compile=compiled
                )
            print(dtype, compiled, largest_difference(one, four), flush=True)


def largest_difference(one, other):
    return max(
        float(tf.reduce_max(tf.abs(a.numpy() - b.numpy())))
        for a, b in zip(one.weights, other.weights, strict=True)
        if "float" in a.dtype
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
