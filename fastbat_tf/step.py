"""What a method sees of one training step, and what comes of it."""

from typing import Any, NamedTuple

import tensorflow as tf


class Step:
    """One replica's view of one training step.

    A method is written against this object alone, as if there were one
    device: it gives the batch, the network in training mode, the loss, random
    draws, and takes scalars to log. Every forward pass made through it updates
    the moving statistics of BatchNormalization once.

    Attributes:
        images: Float tensor `(batch, height, width, channels)`, pixels in
            [0, 1].
        labels: Labels as the loss expects them, such as integers `(batch,)`.
        index: Integer tensor `(batch,)`, the examples' places in the data set,
            or None if the data have none.
        network: The classifier, a callable `network(images, training=...)`
            that returns logits `(batch, classes)`.
        variables: List of the trainable variables of the classifier.
        reports: Dict of the scalars reported so far.
    """

    def __init__(
        self,
        network,
        loss,
        images,
        labels,
        draws,
        index=None,
        attack_loss=None,
    ):
        self.images = images
        self.labels = labels
        self.index = index
        self.network = network
        self.variables = [v.value for v in network.trainable_variables]
        self.reports = {}
        self._loss = loss
        self._attack_loss = attack_loss or loss
        self._draws = draws

    def logits(self, images):
        """Logits of `images` in training mode, shape `(batch, classes)`."""
        return self.network(images, training=True)

    def losses(self, logits):
        """Per-example losses of the labels, shape `(batch,)`.

        What the upper level minimizes.
        """
        return self._loss(self.labels, logits)

    def attack_losses(self, logits):
        """Likewise, what the lower level raises: the same unless set apart."""
        return self._attack_loss(self.labels, logits)

    def uniform(self, name, radius):
        """Noise from U(-radius, radius), shaped and typed like the images.

        Args:
            name: String, names the draw: draws of different names are
                independent, the same name gives the same numbers.
            radius: Float, in pixels.
        """
        return self._draws.uniform(
            name, tf.shape(self.images), -radius, radius, self.images.dtype
        )

    def input_gradient(self, perturbation):
        """Per-example gradients of the attack's loss.

        Only the input is watched: no weight gradient is computed, and a
        second-order graph exists only if a tape of the caller records this.

        Returns:
            The gradient of the SUM of `attack_losses` over the batch at
            `images + perturbation` with respect to `perturbation`, so that
            each example has its own gradient.
        """
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(perturbation)
            logits = self.logits(self.images + perturbation)
            losses = self.attack_losses(logits)
        return tape.gradient(losses, perturbation)

    def report(self, **scalars):
        """Logs scalars; their names are listed in `Method.reports`."""
        self.reports.update(scalars)


class Outcome(NamedTuple):
    """What one replica computed in one step.

    Attributes:
        loss: Scalar, the objective of this replica's batch.
        logits: `(batch, classes)`, at the perturbed images.
        gradients: List of tensors, one per trainable variable.
        reports: Dict of scalars to log.
        solution: The `Solution` of the method.
    """

    loss: Any
    logits: Any
    gradients: Any
    reports: Any
    solution: Any
