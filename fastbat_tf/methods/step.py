"""The view that a method has of a training step, and the step's result."""

from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from fastbat_tf import replicas
from fastbat_tf.draws import Draws
from fastbat_tf.layers.gradient_scaling import ScaledPass
from fastbat_tf.layers.randomness import forward_pass
from fastbat_tf.methods.input_gradients import InputGradients
from fastbat_tf.methods.noise import RandomDraws
from fastbat_tf.methods.state import Progress


class StepContext(RandomDraws, InputGradients):
    """One replica's view of one training step.

    A method uses only this object, as if there were one device. It provides
    the batch, the network, the losses, random draws and the method's variables,
    and it logs scalars. Every forward pass in training mode updates the moving
    statistics of BatchNormalization once.

    Args:
        network: The classifier, a callable `network(images, training=...)`
            that returns logits `(batch, classes)`.
        loss: Function from labels and logits to losses `(batch,)`.
        images: Float tensor `(batch, height, width, channels)`, pixels in
            [0, 1].
        labels: Labels as the loss expects them, such as integers `(batch,)`.
        draws: The `Draws` of the step.
        index: Integer tensor `(batch,)`, the indices of the examples in the
            data set. Defaults to None, if the data have none.
        attack_loss: Function like `loss`, for the lower level. Defaults to
            `loss`.
        progress: A `fastbat_tf.methods.state.Progress`. Defaults to None, if
            the training has no plan.
        state: Dict of the method's variables, as tensors. Defaults to none.
        notes: Dict of the tensors noted so far. Defaults to none.
        features: Callable like `network` that returns the input of its last
            layer. Defaults to None.
        sample_weight: Float tensor `(batch,)`, the weights of the examples in
            the upper level. Defaults to None, for equal weights.
        reduction: String, the reduction of the Keras loss. Defaults to
            `"mean"`.
        scaled_pass: A `fastbat_tf.layers.gradient_scaling.ScaledPass`, for a
            network in float16. Defaults to None.
        shard: A `fastbat_tf.replicas.Shard`, the part of the batch that this
            replica has. Defaults to None, for all of it.
        largest: Dict of scalars, see `Method.largest`. Defaults to none.

    Attributes:
        images, labels, index, network, progress, state, sample_weight, largest:
            The arguments.
        variables: List of the trainable variables of the classifier.
        reports: Dict of the scalars reported so far.
        notes: Dict of the tensors noted so far, for `Method.update`.

    Example:

    ```python
    class WorseStart(fb.Method):
        epsilon: float = fb.option(8 / 255, kind="fraction")

        def solve(self, context: fb.StepContext):
            one = context.random_start(self.epsilon, "one")
            two = context.random_start(self.epsilon, "two")
            of_one, of_two = (
                context.attack_losses(context.logits(context.images + delta))
                for delta in (one, two)
            )
            is_worse = tf.reshape(of_one > of_two, [-1, 1, 1, 1])
            return fb.Solution(tf.where(is_worse, one, two))


    robust = fb.RobustClassifier(model, WorseStart())
    ```
    """

    def __init__(
        self,
        network: Any,
        loss: Callable[[Any, Any], Any],
        images: Any,
        labels: Any,
        *,
        draws: Draws,
        index: Any = None,
        attack_loss: Callable[[Any, Any], Any] | None = None,
        progress: Progress | None = None,
        state: dict[str, Any] | None = None,
        notes: dict[str, Any] | None = None,
        features: Any = None,
        sample_weight: Any = None,
        reduction: str | None = "mean",
        scaled_pass: ScaledPass | None = None,
        shard: replicas.Shard | None = None,
        largest: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(images, draws, shard)
        self.labels = labels
        self.index = index
        self.network = network
        self.variables: list[Any] = [
            v.value for v in network.trainable_variables
        ]
        # No `Progress | None`: a method that needs a plan always has one.
        self.progress: Any = progress
        self.state: dict[str, Any] = state or {}
        self.sample_weight = sample_weight
        self.reports: dict[str, Any] = {}
        self.notes = dict(notes or {})
        self.largest: dict[str, Any] = dict(largest or {})
        self._loss = loss
        self._attack_loss = attack_loss or loss
        self._features = features
        self._reduction = reduction
        self._scaled_pass = scaled_pass

    @property
    def label_ids(self) -> Any:
        """The labels as int32 `(batch,)`, even if they are one-hot.

        Of mixed labels, such as CutMix makes, it is the class with the largest
        share; of equal ones, the first.
        """
        labels = tf.convert_to_tensor(self.labels)
        if _are_probabilities(labels):
            return tf.argmax(labels, -1, tf.int32)
        labels = tf.reshape(labels, [-1])
        if labels.dtype.is_floating:  # Smoothed labels of two classes.
            labels = tf.round(labels)
        return tf.cast(labels, tf.int32)

    def probabilities(self, classes: int) -> Any:
        """The labels as probabilities, one-hot ones of integers.

        Args:
            classes: Integer, the number of classes.

        Returns:
            A tensor `(batch, classes)` of the type of the images.
        """
        labels = tf.convert_to_tensor(self.labels)
        if _are_probabilities(labels):
            return tf.cast(labels, self.images.dtype)
        return tf.one_hot(self.label_ids, classes, dtype=self.images.dtype)

    def tiled_labels(self, copies: int) -> Any:
        """The labels of several versions of the images, stacked.

        Args:
            copies: Integer, the number of versions.

        Returns:
            What `losses` takes as labels: integers `(copies * batch,)`, or
            probabilities `(copies * batch, classes)`.
        """
        labels = tf.convert_to_tensor(self.labels)
        if _are_probabilities(labels):
            return tf.tile(labels, [copies, 1])
        return tf.tile(self.label_ids, [copies])

    def logits(
        self, images: Any, training: bool = True, copies: int = 1
    ) -> Any:
        """Computes the logits of images.

        Args:
            images: Float tensor `(batch, height, width, channels)`.
            training: Whether BatchNormalization uses, and accumulates, the
                statistics of these images. Defaults to True.
            copies: Integer, the number of versions of the step's images that
                are stacked along the batch axis, so that each version sees the
                same random layers. Defaults to 1.

        Returns:
            A tensor `(batch, classes)` of the type of the images.
        """
        with forward_pass(training, copies, images.shape[0]):
            logits = self.network(images, training=training)
        # In mixed precision, losses are still computed in float32.
        return tf.cast(logits, self.images.dtype)

    def features(self, images: Any, training: bool = True) -> Any:
        """Computes the input of the network's last layer.

        It requires `Method.needs_features`.

        Args:
            images: Float tensor `(batch, height, width, channels)`.
            training: The mode of the forward pass. Defaults to True.

        Returns:
            A tensor `(batch, features)` of the type of the images.
        """
        with forward_pass(training, batch=images.shape[0]):
            features = self._features(images, training=training)
        return tf.cast(features, self.images.dtype)

    def losses(self, logits: Any, label_ids: Any = None) -> Any:
        """Computes the losses that the upper level minimizes.

        Args:
            logits: Tensor `(batch, classes)`.
            label_ids: Integers `(batch,)`, or what `tiled_labels` returns.
                Defaults to the labels of the step.

        Returns:
            A tensor `(batch,)`.
        """
        return self._loss(self._labels(logits, label_ids), logits)

    def attack_losses(self, logits: Any, label_ids: Any = None) -> Any:
        """Computes the losses that the attack, the lower level, maximizes.

        They are the losses of the upper level, unless
        `RobustClassifier.compile(attack_loss=...)` sets others.

        Args:
            logits: Tensor `(batch, classes)`.
            label_ids: Integers `(batch,)`, or what `tiled_labels` returns.
                Defaults to the labels of the step.

        Returns:
            A tensor `(batch,)`.
        """
        return self._attack_loss(self._labels(logits, label_ids), logits)

    def reduce(self, values: Any) -> Any:
        """Reduces values of the examples to the scalar that is minimized.

        It is what Keras does with the losses of a batch: the mean of the
        values, each times the weight of its example, if the loss has the
        reduction `"sum_over_batch_size"`. A method uses it for every term of
        the upper level that has a value for each example.

        Args:
            values: Float tensor `(batch,)`.

        Returns:
            A scalar.
        """
        reduced = self._reduce_own(values)
        if self._shard is None or self._shard.reduction is None:
            return reduced
        return reduced * tf.cast(self._shard.reduction, reduced.dtype)

    def _reduce_own(self, values):
        """Reduces values of this replica's examples."""
        weights = self.sample_weight
        if weights is not None:
            weights = tf.cast(
                tf.reshape(weights, tf.shape(values)), values.dtype
            )
            values *= weights
        if self._reduction in ("sum", "none", None):
            return tf.reduce_sum(values)
        if self._reduction == "mean_with_sample_weight" and weights is not None:
            return tf.math.divide_no_nan(
                tf.reduce_sum(values), tf.reduce_sum(weights)
            )
        return tf.reduce_mean(values)

    def report(self, **scalars: Any) -> None:
        """Logs scalars. Their names must be in `Method.reports`."""
        self.reports.update(scalars)

    def note(self, **tensors: Any) -> None:
        """Keeps tensors for `Method.update`, which finds them in `notes`."""
        self.notes.update(tensors)

    def sum_over_replicas(self, tensor: Any) -> Any:
        """Sums a tensor over all replicas; for `Method.update` only."""
        return replicas.sum_over(replicas.unless_empty(self._shard, tensor))

    def mean_over_replicas(self, tensor: Any) -> Any:
        """Averages a mean over all replicas; for `Method.update` only.

        Args:
            tensor: Float tensor, a mean over this replica's examples.

        Returns:
            A tensor, the mean over the examples of all replicas.
        """
        return replicas.sum_over(self.as_share(tensor))

    def as_share(self, tensor: Any) -> Any:
        """Scales a mean over this replica's examples for a sum of all.

        Args:
            tensor: Float tensor, a mean over this replica's examples, or a
                derivative of one.

        Returns:
            A tensor. The sum of those of all replicas is the mean over all
            examples.
        """
        if replicas.count() == 1:
            return tensor
        share = 1.0 / replicas.count()
        if self._shard is not None and self._shard.weight is not None:
            share *= tf.cast(self._shard.weight, tensor.dtype)
        return replicas.unless_empty(self._shard, tensor) * share

    def of_first_replica(self, tensor: Any) -> Any:
        """Returns what the first replica computed; for `Method.update` only.

        Args:
            tensor: Float tensor of the same shape on all replicas.
        """
        if replicas.count() == 1:
            return tensor
        context = tf.distribute.get_replica_context()
        is_first = tf.equal(context.replica_id_in_sync_group, 0)
        kept = tf.where(is_first, tensor, tf.zeros_like(tensor))
        return replicas.sum_over(kept)

    def _labels(self, logits, label_ids):
        if label_ids is None:
            return self.labels
        if _are_probabilities(label_ids):
            return label_ids
        if _are_probabilities(tf.convert_to_tensor(self.labels)):
            return tf.one_hot(label_ids, logits.shape[-1], dtype=logits.dtype)
        return label_ids


def _are_probabilities(labels):
    """Returns whether labels are `(batch, classes)`, such as one-hot."""
    return labels.shape.rank == 2 and labels.shape[-1] != 1


class StepResult(NamedTuple):
    """The result of one step on one replica.

    Attributes:
        loss: Scalar, the objective of this replica's batch.
        logits: `(batch, classes)`, at the perturbed images.
        gradients: List of tensors, one per trainable variable.
        reports: Dict of scalars to log.
        notes: Dict of tensors for `Method.update`.
        solution: The `Solution` of the method.
        perturbation_gradient: Gradient of the loss with respect to the
            perturbation, if the method needs it. Defaults to None.
        largest: Dict of the scalars that `Method.largest` returned. Defaults
            to none.
        addend: List like `gradients`, what `Method.add` adds to them as soon as
            both are summed over the replicas. Defaults to None.
    """

    loss: Any
    logits: Any
    gradients: Any
    reports: Any
    notes: Any
    solution: Any
    perturbation_gradient: Any = None
    largest: Any = {}
    addend: Any = None
