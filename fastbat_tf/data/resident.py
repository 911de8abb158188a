"""Makes training batches of a data set that lies on the devices."""

import numpy as np
import tensorflow as tf

from fastbat_tf.data.pipeline import epoch_order, read_rows
from fastbat_tf.draws import Draws

# The quotients themselves: a compiler would multiply by the rounded 1 / 255.
PIXELS = np.arange(256, dtype=np.float32) / np.float32(255)


class ResidentBatches:
    """Training batches of a data set that lies on the devices.

    They are those of `fastbat_tf.data.pipeline.training_batches`, to the bit,
    and are made in a graph, whether or not XLA compiles it: no host waits for
    the data. Each replica makes its own rows of a batch, in the order of the
    replicas.

    Args:
        examples: The `fastbat_tf.data.sources.Examples`.
        batch_size: Integer, over all replicas.
        seed: Integer.
        augmentation: A `fastbat_tf.data.Augmentation`. Defaults to None.
        with_index: Whether the images are a dict `{"images": images, "index":
            index}` with their indices in `examples`. Defaults to False.
        mixed_classes: Integer, the number of classes, if CutMix mixes the
            batches. Defaults to None: it does not.
    """

    def __init__(
        self,
        examples,
        batch_size,
        seed,
        *,
        augmentation=None,
        with_index=False,
        mixed_classes=None,
    ):
        self._examples = examples
        self._batch_size = batch_size
        self._seed = seed
        self._augmentation = augmentation
        self._with_index = with_index
        self._mixed_classes = mixed_classes

    def place(self, strategy):
        """Copies the data set to the device of each replica of this process.

        Args:
            strategy: A `tf.distribute.Strategy`.

        Returns:
            Images and labels, a tensor for each replica, as an argument of
            `strategy.run`.
        """
        if strategy.num_replicas_in_sync == 1:
            return tuple(tf.constant(part) for part in self._examples)
        devices = iter(strategy.extended.worker_devices)

        def copy(_):
            with tf.device(next(devices)):
                return tuple(tf.identity(part) for part in self._examples)

        return strategy.experimental_distribute_values_from_function(copy)

    def order(self, epoch):
        """The indices of the examples of an epoch's batches.

        Args:
            epoch: Integer.

        Returns:
            An int32 tensor `(batches, batch_size)`.
        """
        with tf.device("CPU:0"):
            return epoch_order(
                self._examples.size, self._batch_size, self._seed, epoch
            )

    def read(self, placed, order, epoch, batch):
        """Makes a batch, or a replica's part of it.

        Args:
            placed: Images and labels, those that `place` returned for this
                replica.
            order: What `order` returned.
            epoch: Integer or int64 scalar tensor.
            batch: Integer or int64 scalar tensor, the batch of the epoch.

        Returns:
            Images and labels, as a batch of `training_batches`.
        """
        images, labels = placed
        context = tf.distribute.get_replica_context()
        count = self._batch_size // context.num_replicas_in_sync
        images, labels, index = read_rows(
            lambda index: (tf.gather(images, index), tf.gather(labels, index)),
            tf.ensure_shape(order[batch], (self._batch_size,)),
            Draws(self._seed, epoch, batch),
            first=context.replica_id_in_sync_group * count,
            count=count,
            augmentation=self._augmentation,
            mixed_classes=self._mixed_classes,
        )
        images = tf.gather(PIXELS, tf.cast(images, tf.int32))
        if self._with_index:
            images = {"images": images, "index": index}
        return images, labels
