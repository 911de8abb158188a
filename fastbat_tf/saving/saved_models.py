"""Reads a SavedModel as a function from images to logits."""

import tensorflow as tf

from fastbat_tf.errors import InputError
from fastbat_tf.layers import tracing


def read(path):
    """Reads a SavedModel, whose signature `serving_default` classifies images.

    Args:
        path: Path of its directory.

    Returns:
        A `SavedNetwork`.

    Raises:
        InputError: If the signature does not have one input of floats, and a
            single output or one named `logits`.
    """
    loaded = tf.saved_model.load(str(path))
    signature = loaded.signatures.get("serving_default")
    inputs = signature.structured_input_signature[1] if signature else {}
    answers = signature.structured_outputs if signature else {}
    names = sorted(answers)  # A SavedModel has no fixed order.
    if len(inputs) != 1 or ("logits" not in names and len(names) != 1):
        raise InputError(
            "A SavedModel is expected to have the signature serving_default "
            "with one input, and with the output logits or a single output. "
            f"Received: signatures={sorted(loaded.signatures)}, "
            f"inputs={sorted(inputs)}, outputs={names}"
        )
    ((name, spec),) = inputs.items()
    if not spec.dtype.is_floating:
        raise InputError(
            "A SavedModel is expected to take floats, along which an attack "
            f"can move. Received: {name}={spec.dtype.name}"
        )
    answer = "logits" if "logits" in names else names[0]
    return SavedNetwork(
        loaded, lambda images: signature(**{name: images})[answer], spec
    )


class SavedNetwork:
    """A SavedModel as a function from images to logits.

    Args:
        loaded: The loaded SavedModel.
        ask: Function from images, as `spec` describes them, to logits.
        spec: The `tf.TensorSpec` of its input. If the size of the batch is
            fixed, images are classified in batches of that size.
    """

    def __init__(self, loaded, ask, spec):
        self._keeps_alive = loaded  # The variables of the signature.
        self._ask, self._spec = ask, spec
        self._fixed = spec.shape[0] if spec.shape.rank else None

    def __call__(self, images):
        """Returns logits `(batch, classes)` of images `(batch, ...)`."""
        images = tf.cast(tf.convert_to_tensor(images), self._spec.dtype)
        shape = self._spec.shape
        # A signature does not check its input.
        fits = shape.is_compatible_with(images.shape)
        if self._fixed is not None:
            fits = images.shape.rank == shape.rank and (
                shape[1:].is_compatible_with(images.shape[1:])
            )
        if not fits:
            raise InputError(
                f"The SavedModel expects images of the shape {shape}. "
                f"Received: images.shape={tuple(images.shape)}"
            )
        ask = self._ask if self._fixed is None else self._ask_in_parts
        answer = ask(images)
        if answer.shape.rank is None or None in answer.shape[1:]:
            answer = tf.ensure_shape(answer, (None, *self._sizes(images)))
        return answer

    def _ask_in_parts(self, images):
        count, size = tf.shape(images)[0], self._fixed
        # The last part is filled with copies of the first image.
        copies = tf.repeat(images[:1], -count % size, axis=0)
        filled = tf.concat([images, copies], axis=0)
        parts = tf.reshape(filled, (-1, size, *images.shape[1:]))
        sizes = self._sizes(images)
        answers = tf.map_fn(
            lambda part: tf.cast(self._ask(part), tf.float32),
            parts,
            fn_output_signature=tf.TensorSpec((size, *sizes), tf.float32),
        )
        return tf.reshape(answers, (-1, *sizes))[:count]

    def _sizes(self, images):
        """The sizes of an answer behind the batch, which attacks need."""
        sizes = (self._fixed or 1, *images.shape[1:])

        def ask():
            return self._ask(tf.zeros(sizes, self._spec.dtype))

        return tuple(tracing.apart(ask).shape[1:])
