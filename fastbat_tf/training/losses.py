"""Training losses of logits and integer labels."""

import keras
import tensorflow as tf

from fastbat_tf.attacks import losses as attack_losses
from fastbat_tf.errors import InputError, look_up


@keras.saving.register_keras_serializable("fastbat_tf")
class SmoothedCrossentropy(keras.losses.Loss):
    """Cross-entropy with smoothed labels.

    ```
    loss = - sum_j t_j log softmax(z)_j,   t_j = (1 - s) [j = y] + s / C
    ```

    over all C classes, where `s` is `label_smoothing`: the label keeps
    `1 - s + s / C`. Keras' `CategoricalCrossentropy` computes the same from
    one-hot labels.

    Reference: Szegedy et al., "Rethinking the Inception Architecture for
    Computer Vision", CVPR 2016 (arXiv 1512.00567).

    Args:
        label_smoothing: Float in [0, 1).
        **kwargs: Arguments of `keras.losses.Loss`.
    """

    def __init__(self, label_smoothing, **kwargs):
        super().__init__(**kwargs)
        self.label_smoothing = label_smoothing

    def call(self, y_true, y_pred):
        targets = tf.one_hot(
            _as_classes(y_true), y_pred.shape[-1], dtype=y_pred.dtype
        )
        return keras.losses.categorical_crossentropy(
            targets,
            y_pred,
            from_logits=True,
            label_smoothing=self.label_smoothing,
        )

    def get_config(self):
        return {**super().get_config(), "label_smoothing": self.label_smoothing}


@keras.saving.register_keras_serializable("fastbat_tf")
class DLR(keras.losses.Loss):
    """The difference-of-logits ratio, which is lower for a safer label.

    ```
    loss = (max_{i != y} z_i - z_y) / (z_pi1 - z_pi3)
    ```

    where `pi` orders the classes by logit, highest first. It is the loss that
    the attack `apgd-dlr` maximizes. With two classes, or where the denominator
    is zero, it is the numerator.

    Reference: Croce & Hein, "Reliable evaluation of adversarial robustness
    with an ensemble of diverse parameter-free attacks", ICML 2020 (arXiv
    2003.01690).

    Args:
        **kwargs: Arguments of `keras.losses.Loss`.
    """

    def call(self, y_true, y_pred):
        logits = tf.convert_to_tensor(y_pred)
        return attack_losses.dlr(logits, _as_classes(y_true), None)


def _as_classes(labels):
    # Keras passes labels as floats, or as a column.
    return tf.cast(tf.reshape(labels, [-1]), tf.int32)


def _crossentropy(label_smoothing=0.0):
    if label_smoothing:
        return SmoothedCrossentropy(label_smoothing)
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


_LOSSES = {"crossentropy": _crossentropy, "dlr": DLR}


def get(name, **options):
    """Builds a loss of logits and integer labels.

    Args:
        name: `"crossentropy"` or `"dlr"`.
        **options: `label_smoothing`, a float in [0, 1), for
            `"crossentropy"`.

    Returns:
        A `keras.losses.Loss`.

    Example:

    >>> get("crossentropy", label_smoothing=0.3).label_smoothing
    0.3
    """
    return look_up(_LOSSES, "loss", loss=name)(**options)


def check(name, loss):
    """Rejects a loss that training cannot use.

    Training minimizes a mean over the examples, so it takes no other
    reduction. The attack uses the loss of each example, whatever the
    reduction.

    Args:
        name: `"loss"` or `"attack_loss"`, the name of the argument.
        loss: The value of the argument.

    Raises:
        InputError: If it is not a Keras loss of logits, has another reduction,
            or computes in half precision.
    """
    if not isinstance(loss, keras.losses.Loss) or not loss.get_config().get(
        "from_logits", True
    ):
        raise InputError(
            f"`{name}` is expected to be a keras.losses.Loss with "
            f"from_logits=True. Received: {name}={loss}"
        )
    if name == "loss" and loss.reduction in ("sum", "none", None):
        raise InputError(
            "Training minimizes the mean of `loss`; expected "
            'reduction="sum_over_batch_size". '
            f"Received: loss.reduction={loss.reduction}"
        )
    if tf.as_dtype(loss.dtype).size < 4:
        raise InputError(
            f"`{name}` is computed in float32, even in mixed precision; "
            f"expected dtype=None. Received: {name}.dtype={loss.dtype}"
        )


def by_example(loss):
    """Turns a Keras loss into one that returns a value for each example.

    As in Keras, labels are cast to the dtype of the logits, and further axes
    are averaged.

    Args:
        loss: A `keras.losses.Loss`.

    Returns:
        A function from labels and logits to losses `(batch,)`. It raises an
        `InputError` if `loss.call` has reduced the batch.
    """

    def losses(labels, logits):
        values = loss.call(tf.cast(labels, logits.dtype), logits)
        values = tf.convert_to_tensor(values)
        if values.shape.rank == 0:
            raise InputError(
                "`loss.call` is expected to return one value for each "
                f"example. Received: loss={loss.name}, which returns a scalar"
            )
        if values.shape.rank in (None, 1):
            return values
        return tf.reduce_mean(values, tuple(range(1, values.shape.rank)))

    return losses
