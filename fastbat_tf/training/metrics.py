"""The metrics that `RobustClassifier.compile` is given."""

import keras

from fastbat_tf.errors import InputError

_ACCURACY = ("accuracy", "acc", "binary_accuracy")


@keras.saving.register_keras_serializable("fastbat_tf")
class LikeliestAccuracy(keras.metrics.SparseCategoricalAccuracy):
    """How often the prediction is the likeliest class of the label.

    Of mixed labels, such as CutMix makes, this is the class with the larger
    share; of two equal ones, the first.

    Example:

    >>> accuracy = LikeliestAccuracy()
    >>> labels = tf.constant([[0.7, 0.3], [0.2, 0.8]])
    >>> accuracy.update_state(labels, tf.constant([[2.0, 1.0]] * 2))
    >>> float(accuracy.result())
    0.5
    """

    def update_state(self, y_true, y_pred, sample_weight=None):
        if len(y_true.shape) == 2:
            y_true = keras.ops.argmax(y_true, -1)
        return super().update_state(y_true, y_pred, sample_weight)


def prepare(name, metrics, outputs):
    """Prepares metrics for the outputs of a classifier.

    Keras' `"accuracy"` of a single output compares it with 0.5. For a logit,
    it is replaced by an accuracy that compares it with 0.

    Args:
        name: `"metrics"` or `"weighted_metrics"`, the name of the argument.
        metrics: List of Keras metrics, or None.
        outputs: The `Outputs` of the classifier.

    Returns:
        A list, or None.

    Raises:
        InputError: If it is not a list.
    """
    if metrics is None:
        return None
    if isinstance(metrics, dict) and len(metrics) == 1:
        (metrics,) = metrics.values()
        if not isinstance(metrics, list | tuple):
            metrics = [metrics]
    if not isinstance(metrics, list | tuple):
        raise InputError(
            f"`{name}` is expected to be a list, such as "
            f'{name}=["accuracy"]. Received: {name}={metrics}'
        )
    if not (outputs.is_binary and outputs.from_logits):
        return list(metrics)
    return keras.tree.map_structure(_at_zero, list(metrics))


def _at_zero(metric):
    if isinstance(metric, str) and metric in _ACCURACY:
        return keras.metrics.BinaryAccuracy(metric, threshold=0.0)
    return metric
