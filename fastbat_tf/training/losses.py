"""Training losses."""

import inspect
import numbers

import keras
import tensorflow as tf

# The class of all losses that Keras makes of functions.
from keras.src.losses.losses import LossFunctionWrapper

from fastbat_tf.attacks import losses as attack_losses
from fastbat_tf.errors import InputError, look_up

# Losses whose labels are integers `(batch,)`, not one value per class.
_OF_INTEGERS = {
    "categoricalgeneralizedcrossentropy",
    "sparsecategoricalcrossentropy",
}
# Losses of probabilities that have no `from_logits`.
_OF_PROBABILITIES = {
    "categoricalgeneralizedcrossentropy",
    "dice",
    "kldivergence",
    "poisson",
    "tversky",
}


@keras.saving.register_keras_serializable("fastbat_tf")
class Crossentropy(keras.losses.Loss):
    """Cross-entropy of labels in any form.

    Labels are integers `(batch,)` or `(batch, 1)`, or probabilities of the
    classes `(batch, classes)`, such as one-hot labels. For a classifier with a
    single output, they are 0, 1 or a probability of class 1.

    Args:
        from_logits: Boolean, whether predictions are logits. Defaults to True.
        **kwargs: Arguments of `keras.losses.Loss`.
    """

    def __init__(self, from_logits=True, **kwargs):
        super().__init__(**{"name": "crossentropy", **kwargs})
        self.from_logits = from_logits

    def call(self, y_true, y_pred):
        units = y_pred.shape[-1]
        labels = tf.convert_to_tensor(y_true)
        if units == 1:
            labels = tf.reshape(labels, [-1, 1])
            compute = keras.losses.binary_crossentropy
        elif labels.shape.rank == 2 and labels.shape[-1] == units:
            compute = keras.losses.categorical_crossentropy
        else:
            labels = tf.reshape(labels, [-1])
            compute = keras.losses.sparse_categorical_crossentropy
        return compute(labels, y_pred, from_logits=self.from_logits)

    def get_config(self):
        return {**super().get_config(), "from_logits": self.from_logits}


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

    from_logits = True

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

    from_logits = True

    def call(self, y_true, y_pred):
        logits = tf.convert_to_tensor(y_pred)
        return attack_losses.dlr(logits, _as_classes(y_true), None)


def _as_classes(labels):
    # Keras passes labels as floats, or as a column.
    return tf.cast(tf.reshape(labels, [-1]), tf.int32)


def _crossentropy(label_smoothing=0.0, of_probabilities=False):
    if of_probabilities:
        return keras.losses.CategoricalCrossentropy(
            from_logits=True, label_smoothing=label_smoothing
        )
    if label_smoothing:
        return SmoothedCrossentropy(label_smoothing)
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


_LOSSES = {"crossentropy": _crossentropy, "dlr": DLR}


def get(name, **options):
    """Builds a loss of logits and labels, which are integers by default.

    Args:
        name: `"crossentropy"` or `"dlr"`.
        **options: For `"crossentropy"`, `label_smoothing`, a float in [0, 1),
            and `of_probabilities`: whether labels are probabilities `(batch,
            classes)`.

    Returns:
        A `keras.losses.Loss`.

    Example:

    >>> get("crossentropy", label_smoothing=0.3).label_smoothing
    0.3
    """
    return look_up(_LOSSES, "loss", loss=name)(**options)


def as_loss(name, given, outputs):
    """Makes a `keras.losses.Loss` of what `compile` is given.

    Args:
        name: `"loss"` or `"attack_loss"`, the name of the argument.
        given: A `keras.losses.Loss`, a function of labels and predictions, the
            name of a Keras loss, a list or dict that holds only one of these,
            or None for `Crossentropy`.
        outputs: The `Outputs` of the classifier.

    Returns:
        A `keras.losses.Loss`.

    Raises:
        InputError: If it is not a loss, or one that does not fit the outputs.
    """
    loss = given
    if isinstance(loss, dict | list | tuple) and "class_name" not in loss:
        losses = keras.tree.flatten(loss)
        if len(losses) != 1:
            raise InputError(
                f"`{name}` is expected to be one loss, of the classified "
                f"output. Received: {name}={given}"
            )
        loss = losses[0]
    if loss is None or str(loss).lower() in ("crossentropy", "ce"):
        return Crossentropy(outputs.from_logits)
    try:
        loss = keras.losses.get(loss)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"`{name}` is expected to be a keras.losses.Loss, a function or "
            f"the name of a Keras loss. Received: {name}={given}"
        ) from error
    if not isinstance(loss, keras.losses.Loss):
        function_name = getattr(loss, "__name__", type(loss).__name__)
        loss = LossFunctionWrapper(loss, name=function_name)
    if type(loss).__call__ is not keras.losses.Loss.__call__:
        raise InputError(
            "The values of the examples come from the method `call` of a loss; "
            "expected a class that does not override `__call__`. "
            f"Received: {name}={type(loss).__name__}"
        )
    _check_fit(name, loss, outputs)
    return loss


def as_weight(loss_weights):
    """Returns the factor of the only loss, or None.

    Args:
        loss_weights: Float, a list or dict of one float, or None.

    Raises:
        InputError: If it is anything else.
    """
    values = keras.tree.flatten(loss_weights)
    if loss_weights is None:
        return None
    if len(values) != 1 or not isinstance(values[0], numbers.Real):
        raise InputError(
            "`loss_weights` is expected to be one float, since there is one "
            f"loss. Received: loss_weights={loss_weights}"
        )
    return float(values[0])


def _check_fit(name, loss, outputs):
    """Rejects a loss that would misread what the classifier returns."""
    if tf.as_dtype(loss.dtype).size < 4:
        raise InputError(
            f"`{name}` is computed in float32, even in mixed precision; "
            f"expected dtype=None. Received: {name}.dtype={loss.dtype}"
        )
    kind = _kind(loss)
    if outputs.is_binary and kind.startswith(("sparsecat", "categorical")):
        raise InputError(
            f"`{name}` is expected to suit one output, such as "
            f"BinaryCrossentropy(from_logits={outputs.from_logits}). "
            f"Received: {name}={loss.name}, units=1"
        )
    # The attack may maximize another function of the same logits: it is given
    # what it takes. What training minimizes is also what `evaluate` reports.
    takes = takes_logits(loss)
    if name == "loss" and takes is not None and takes != outputs.from_logits:
        returns = "logits" if outputs.from_logits else "probabilities"
        raise InputError(
            f"The classifier returns {returns}; expected a loss with "
            f"from_logits={outputs.from_logits}, or RobustClassifier(..., "
            f"from_logits={takes}) if that is wrong. "
            f"Received: loss={loss.name}, from_logits={takes}"
        )


def takes_logits(loss):
    """Returns whether a loss takes logits rather than probabilities.

    Args:
        loss: A `keras.losses.Loss`.

    Returns:
        A boolean; None if the loss does not say, and takes any values.
    """
    own = getattr(loss, "from_logits", None)
    if own is None:
        own = getattr(loss, "_fn_kwargs", {}).get("from_logits")
    if own is None and isinstance(loss, LossFunctionWrapper):
        parameters = inspect.signature(loss.fn).parameters
        if "from_logits" in parameters:
            own = parameters["from_logits"].default
    if own is None and _kind(loss) in _OF_PROBABILITIES:
        return False
    return own if own is None else bool(own)


def _kind(loss):
    """Returns the name of a Keras loss, class or function, in one spelling."""
    named = type(loss).__name__
    if type(loss) is LossFunctionWrapper:
        named = getattr(loss.fn, "__name__", "")
    return named.replace("_", "").lower()


def _check_labels(loss, labels, classes):
    """Rejects labels of a form that a loss of Keras would misread or refuse.

    Some losses would broadcast integers `(batch, 1)` to all classes.
    """
    own = loss.fn if type(loss) is LossFunctionWrapper else type(loss)
    is_keras = getattr(own, "__module__", "").startswith("keras.")
    shape = tf.TensorShape(labels.shape)
    rank, last = shape.rank, shape[-1:]
    if not is_keras or classes in (1, None) or not rank:
        return
    is_sparse = rank == 1 or (rank == 2 and last[0] == 1)
    is_dense = rank == 2 and last[0] == classes
    takes_sparse = _kind(loss) in _OF_INTEGERS
    if (is_dense and takes_sparse) or (is_sparse and not takes_sparse):
        expected = (
            "integers (batch,)"
            if takes_sparse
            else f"(batch, {classes}), as keras.utils.to_categorical makes them"
        )
        raise InputError(
            f"The loss expects labels of the form {expected}. "
            f"Received: loss={loss.name}, labels.shape={tuple(shape)}"
        )


def by_example(loss, outputs, reduction="mean", is_weighted=False):
    """Turns a Keras loss into a function that returns a value per example.

    As in Keras, labels are cast to the dtype of the logits, and further axes
    are averaged, or added up if the values of a batch are.

    Args:
        loss: A `keras.losses.Loss`.
        outputs: The `Outputs` of the classifier. The loss is given logits or
            probabilities, as it takes them, or else what the classifier
            returns.
        reduction: String, the reduction over the batch. Defaults to `"mean"`.
        is_weighted: Boolean, whether the examples have weights. Defaults to
            `False`.

    Returns:
        A function from labels and logits `(batch, classes)` to losses
        `(batch,)`. It raises an `InputError` if the loss does not return a
        value for each example: one that averages over the batch would make the
        gradient of an attack too small, by a factor of the batch size.
    """
    adds_up = reduction in ("sum", "none", None) or (
        # Keras divides by the sum of the weights of the examples.
        is_weighted and reduction == "mean_with_sample_weight"
    )
    takes = takes_logits(loss)
    form = outputs
    if takes is not None and takes != outputs.from_logits:
        form = outputs.of_logits() if takes else outputs.of_probabilities()

    def losses(labels, logits):
        predictions = form.to_outputs(logits)
        _check_labels(loss, labels, predictions.shape[-1])
        labels = tf.cast(labels, logits.dtype)
        values = tf.convert_to_tensor(loss.call(labels, predictions))
        shape = values.shape
        # One of them may not be known before the step runs.
        sizes = None, logits.shape[0], labels.shape[0]
        if shape.rank == 0 or (shape.rank and shape[0] not in sizes):
            raise InputError(
                "The loss is expected to return one value for each example, "
                "and not to average over them; Keras averages afterwards. "
                f"Received: loss={loss.name}, which returns the shape "
                f"{tuple(shape)}"
            )
        if shape.rank in (None, 1):
            return values
        if reduction in ("none", None):
            raise InputError(
                "A loss without a reduction is expected to return one value "
                "for each example. Received: "
                f"loss={loss.name}, which returns the shape {tuple(shape)}"
            )
        combine = tf.reduce_sum if adds_up else tf.reduce_mean
        return combine(values, tuple(range(1, shape.rank)))

    return losses
