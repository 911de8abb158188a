"""The losses of the training, of logits and integer labels."""

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

    over all C classes: the label keeps `1 - s + s / C`. It is what Keras'
    `CategoricalCrossentropy` does for one-hot labels, for integers.

    Reference: Szegedy et al., "Rethinking the Inception Architecture for
    Computer Vision", CVPR 2016 (arXiv 1512.00567).

    Args:
        label_smoothing: Float in [0, 1), s.
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
    """The difference of logits ratio, lower for a safer label.

    ```
    loss = (max_{i != y} z_i - z_y) / (z_pi1 - z_pi3)
    ```

    with pi the classes from the highest logit down. It is the very loss that
    the attack `apgd-dlr` raises. With two classes, or where the logits of the
    denominator are equal, it is the numerator.

    Reference: Croce & Hein, "Reliable evaluation of adversarial robustness
    with an ensemble of diverse parameter-free attacks", ICML 2020 (arXiv
    2003.01690).
    """

    def call(self, y_true, y_pred):
        logits = tf.convert_to_tensor(y_pred)
        return attack_losses.dlr(logits, _as_classes(y_true), None)


def _as_classes(labels):
    # Keras hands labels over as floats, or as a column.
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
        **options: `label_smoothing`, a float in [0, 1), of the cross-entropy.

    Example:

    >>> get("crossentropy", label_smoothing=0.3).label_smoothing
    0.3
    """
    return look_up(_LOSSES, "loss", loss=name)(**options)


def check(name, loss):
    """Refuses what is no loss of logits, given as the argument `name`."""
    if not isinstance(loss, keras.losses.Loss) or not loss.get_config().get(
        "from_logits", True
    ):
        raise InputError(
            f"`{name}` is expected to be a keras.losses.Loss with "
            f"from_logits=True. Received: {name}={loss}"
        )
