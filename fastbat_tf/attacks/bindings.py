"""Remembers what an attack has traced of Keras models."""

import weakref

import keras

from fastbat_tf.attacks.models import as_network
from fastbat_tf.layers.pixel_range import PixelRange


class Bindings:
    """The last `BoundAttack` of an attack on each model."""

    def __init__(self):
        self._known = weakref.WeakKeyDictionary()

    def get(self, attack, model, pixel_range, shape):
        """Binds an attack to a model, or returns what is bound already.

        Only Keras models are remembered: other callables may be functions of
        something else that has changed since.

        Args:
            attack: The `Attack`.
            model: The attacked model.
            pixel_range: As for the call of an attack.
            shape: Tuple of integers, that of an image.

        Returns:
            A `BoundAttack` and the `PixelRange` of the model.
        """
        if not isinstance(model, keras.Model):
            network, pixels = as_network(model, pixel_range)
            return attack.on(network, pixels), pixels
        if pixel_range is not None:
            pixel_range = PixelRange.parse(pixel_range)
        variables = [id(variable) for variable in model.variables]
        key = pixel_range, shape, variables, attack.traced()
        known, *bound = self._known.get(model, (None,))
        if known != key:
            _, pixels = as_network(model, pixel_range)
            # What is remembered must not keep the model in memory.
            weak = weakref.ref(model)
            bound = (
                attack.on(
                    lambda images: as_network(weak(), pixels)[0](images), pixels
                ),
                pixels,
            )
            self._known[model] = key, *bound
        return bound
