"""Evaluates a network on a data set."""

import contextlib
import functools
from typing import Any

import numpy as np
import tensorflow as tf

from fastbat_tf.attacks.inputs import (
    as_count,
    as_pixels,
    check_classes,
    check_pixel_range,
)
from fastbat_tf.attacks.records import Clean
from fastbat_tf.attacks.sharding import Sharding
from fastbat_tf.data.classes import as_classes, check_count
from fastbat_tf.errors import InputError


class NumpyNetwork:
    """A function of NumPy arrays, as a network that TensorFlow can call.

    TensorFlow has no gradient of it, and XLA cannot compile it.

    Args:
        function: Callable from a float32 array `(batch, height, width,
            channels)` to logits `(batch, classes)`, as anything that NumPy
            converts to an array.
        classes: Integer, the number of classes.
        reason: String, why TensorFlow cannot trace it.
    """

    def __init__(self, function, classes, reason):
        self.function = function
        self.classes = classes
        self.reason = reason
        self._error = None

    def __call__(self, images):
        """Returns the logits, a float32 tensor `(batch, classes)`."""
        logits = tf.numpy_function(self._ask, [images], tf.float32)
        logits.set_shape([images.shape[0], self.classes])
        return logits

    def _ask(self, images):
        try:
            # A function may write to what it is given.
            logits = np.asarray(self.function(images.copy()), np.float32)
            expected = len(images), self.classes
            if logits.shape != expected:
                raise InputError(
                    f"The model is expected to return logits of {expected}. "
                    f"Received: shape={logits.shape}"
                )
        except Exception as error:
            self._error = error
            raise
        return logits

    @contextlib.contextmanager
    def raises_own_errors(self):
        """Raises what the function raised instead of what TensorFlow makes."""
        try:
            yield
        except tf.errors.OpError:
            error, self._error = self._error, None
            if error is None:
                raise
            raise error from None


def is_numpy(network):
    """Whether a network is a function of NumPy arrays."""
    return isinstance(network, NumpyNetwork)


def raises_own_errors(network):
    """Returns a context in which a function of NumPy raises its own errors."""
    if is_numpy(network):
        return network.raises_own_errors()
    return contextlib.nullcontext()


class Classifier:
    """Classifies a data set in batches, with a network that is traced once.

    Args:
        network: Any callable from float32 images `(batch, height, width,
            channels)` in [0, 1] to logits `(batch, classes)`.
        batch_size: Integer, images per call of the network. Defaults to 250.
        sharding: The `Sharding` whose workers share the examples. Defaults to
            None: one worker.

    Attributes:
        network: The network. From the first call on, it is a `NumpyNetwork` if
            TensorFlow cannot trace it, but NumPy arrays are what it takes; and
            its logits have a known number of classes, which losses need.
        sharding: The `Sharding`.

    Raises:
        InputError: If the network is a `RobustClassifier` with a pixel range
            other than [0, 1].
    """

    def __init__(self, network, batch_size=250, sharding=None):
        check_pixel_range(network)
        self.network = network
        self.batch_size = as_count("batch_size", batch_size)
        self.sharding = sharding or Sharding()
        self._ask = None
        self._is_open = False

    def __call__(self, images, labels):
        """Checks images and labels, and computes the logits.

        Args:
            images: uint8 array, or float array in [0, 1], of shape
                `(examples, height, width, channels)`.
            labels: Array of labels that `as_classes` takes, such as integers
                `(examples,)`.

        Returns:
            A `Clean`.

        Raises:
            InputError: If the images are not pixels, the labels are not
                classes, or the network does not return logits.
        """
        images = as_pixels(images)
        labels, count = as_classes(labels, len(images))
        if self._ask is None:
            self._ask = self._trace(images)
        logits = self.sharding.rows(
            lambda share: self._ask_all(images[share]), len(images)
        )
        check_count(count, logits.shape[-1])
        check_classes(labels, logits.shape[-1])
        if self._is_open:
            self._is_open = False
            self.network = functools.partial(
                _with_classes, self.network, logits.shape[-1]
            )
        return Clean(images, labels, logits)

    def logits_alone(self, images):
        """Computes logits without the other workers.

        Args:
            images: Array of images, as the call takes them.

        Returns:
            float32 array `(examples, classes)`.
        """
        images = as_pixels(images)
        if self._ask is None:
            self._ask = self._trace(images)
        return self._ask_all(images)

    def _trace(self, images):
        """Traces the network, or what makes a NumPy function one."""
        found = []

        def call(batch):
            found[:] = [self.network(batch)]
            return found[0]

        specs = [tf.TensorSpec([None, *images.shape[1:]], tf.float32)]
        # A new object, since TensorFlow identifies functions by their code
        # and would warn that the same one is retraced repeatedly.
        ask = tf.function(functools.partial(call), specs, autograph=False)
        try:
            ask.get_concrete_function()
            failure = None
        except InputError:
            raise
        # A function of NumPy may raise anything if it is given a tensor.
        except Exception as error:
            failure = error
        answer = found.pop() if failure is None else None
        if failure is None and not isinstance(answer, np.ndarray):
            self._is_open = _is_open(answer)
            return ask
        reason = "it returns a NumPy array" if failure is None else failure
        self.network = self._as_numpy(images[: self.batch_size], reason)
        return tf.function(
            functools.partial(self.network), specs, autograph=False
        )

    def _as_numpy(self, batch, reason):
        """Asks the network as a function of NumPy arrays, about one image."""
        logits: Any = None
        try:
            logits = np.asarray(self.network(batch[:1].copy()))
        except Exception as error:
            # Tensors have not all attributes of arrays, and a symbolic one is
            # not converted: the function is of NumPy, and this is its error.
            if isinstance(reason, AttributeError | NotImplementedError):
                reason = error
        is_array = logits is not None and logits.dtype.kind in "iuf"
        if is_array and logits.ndim == 2:
            reason = _first_line(reason)
            return NumpyNetwork(self.network, logits.shape[-1], reason)
        if not is_array and isinstance(reason, Exception):
            if isinstance(reason, TypeError | ValueError | tf.errors.OpError):
                raise _refusal(batch, reason) from reason
            raise reason
        shape = getattr(logits, "shape", None)
        raise InputError(
            "The model is expected to return logits of shape (batch, "
            f"classes). Received: shape={shape} for 1 image"
        )

    def _ask_all(self, images):
        return np.concatenate(
            [
                self._ask_batch(images[first : first + self.batch_size])
                for first in range(0, len(images), self.batch_size)
            ]
        )

    def _ask_batch(self, batch):
        try:
            with (
                refuse_too_large(self.batch_size),
                raises_own_errors(self.network),
            ):
                answer = self._ask(batch)
        except InputError:
            raise
        except (TypeError, ValueError, tf.errors.OpError) as error:
            raise _refusal(batch, error) from error
        shape = getattr(answer, "shape", None)
        if shape is None or len(shape) != 2 or len(batch) != shape[0]:
            raise InputError(
                "The model is expected to return logits of shape (batch, "
                f"classes). Received: shape={shape} for {len(batch)} images"
            )
        return np.asarray(answer, np.float32)


def _is_open(answer):
    """Whether a trace does not tell how many classes a network has."""
    if not isinstance(answer, tf.Tensor):  # It is refused where it is called.
        return False
    return answer.shape.rank is None or answer.shape[-1:] == [None]


def _with_classes(network, classes, images):
    return tf.ensure_shape(network(images), (None, classes))


def check_gradient(network, images):
    """Raises an `InputError` if logits have no gradient to the images.

    Args:
        network: Callable from images to logits.
        images: float32 array `(batch, height, width, channels)`; one image is
            enough. It may be None for a `NumpyNetwork`.
    """
    reason = _missing_gradient(network, images)
    if reason:
        raise InputError(
            "An attack by gradients expects the model as a function of "
            "differentiable TensorFlow operations; attacks.Square (square) "
            "takes any function, also of NumPy arrays. "
            f"Received: model without gradient ({reason})"
        )


def _missing_gradient(network, images):
    """Returns why there is no gradient, or None."""
    if is_numpy(network):
        return network.reason
    images = tf.constant(images)
    try:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(images)
            logits = network(images)
        gradient = tape.gradient(logits, images)
    except LookupError:  # `losses.ask` names the operation.
        return None
    except Exception as error:  # The user's function may raise anything.
        return _untraceable(network, images, error)
    if gradient is None:
        return "an operation between images and logits has none"
    return None


def _untraceable(network, images, error):
    """Returns an error's first line unless the network can be traced."""
    call = tf.function(functools.partial(network), autograph=False)
    try:
        call.get_concrete_function(tf.TensorSpec(images.shape, images.dtype))
    except Exception:  # Again; the first error says more.
        return _first_line(error)
    return None


def _refusal(batch, error):
    return InputError(
        "The model cannot classify these images; expected one that "
        f"takes their shape. Received: images.shape={batch.shape} "
        f"({_first_line(error)})"
    )


def _first_line(error):
    reason = str(error) or type(error).__name__
    return reason.splitlines()[0]


@contextlib.contextmanager
def refuse_too_large(batch_size):
    """Raises an `InputError` if a batch does not fit in memory."""
    try:
        yield
    except tf.errors.ResourceExhaustedError as error:
        raise InputError(
            "There is not enough memory for a batch; reduce the batch size. "
            f"Received: batch_size={batch_size}"
        ) from error
