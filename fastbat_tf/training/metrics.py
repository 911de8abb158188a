"""The metrics that `RobustClassifier.compile` is given."""

import keras

from fastbat_tf.errors import InputError

_ACCURACY = ("accuracy", "acc", "binary_accuracy")


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
