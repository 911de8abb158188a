"""A classifier as methods and attacks see it."""

from typing import Any

from fastbat_tf.errors import InputError
from fastbat_tf.layers import outputs, structure
from fastbat_tf.layers.pixel_range import PixelRange


class Network:
    """A Keras classifier as a function from pixels in [0, 1] to logits.

    Args:
        classifier: A built `keras.Model`.
        pixel_range: A `PixelRange`, the pixels that it takes. Defaults to
            [0, 1].
        from_logits: Boolean, whether it returns logits rather than
            probabilities. Defaults to None: its last layer tells.
        image_input: The input that takes the images, if there are several: its
            name, or its key in the structure of the inputs. Defaults to None.
        logits_output: The output that is classified, if there are several: its
            name or its key. Defaults to None.
        guess: Boolean, whether outputs that look like probabilities are taken
            for such, rather than refused. Defaults to False.

    Attributes:
        classifier: The `keras.Model`.
        outputs: The `Outputs`, the form of what the classifier returns.
        pixel_range: The pixels that it takes, `(0, 1)`; None after
            `in_own_range`.

    Raises:
        InputError: If the images or the classified output are not found, or
            are not of the expected shape.
    """

    pixel_range: tuple[float, float] | None = (0, 1)

    def __init__(
        self,
        classifier,
        pixel_range=None,
        *,
        from_logits=None,
        image_input=None,
        logits_output=None,
        guess=False,
    ):
        self.classifier = classifier
        self._pixel_range = pixel_range or PixelRange()
        self._image_keys = _find_keys(
            "image_input",
            image_input,
            getattr(classifier, "_inputs_struct", None),
        )
        self._output_keys = _find_keys(
            "logits_output",
            logits_output,
            getattr(classifier, "_outputs_struct", None),
        )
        self._only_input = _find_only_input(classifier)
        self._others = None
        self.outputs = outputs.find(
            classifier, self.pick, from_logits, guess=guess
        )

    def __call__(self, images, training=False):
        """Computes logits.

        Args:
            images: Float tensor `(batch, height, width, channels)` in [0, 1].
            training: Boolean, the mode of the layers. Defaults to False.

        Returns:
            A float tensor `(batch, classes)`.
        """
        answer = self.pick(self.apply(self.classifier, images, training))
        return self.outputs.to_logits(answer)

    def apply(self, model, images, training=False):
        """Calls a model that takes what the classifier takes.

        Args:
            model: A `keras.Model`, such as a part of the classifier.
            images: Float tensor `(batch, height, width, channels)` in [0, 1].
            training: Boolean, the mode of the layers. Defaults to False.

        Returns:
            What the model returns.
        """
        images = self._pixel_range.from_unit(images)
        return model(self.join(images, self._others), training=training)

    @property
    def image_shape(self):
        """The shape of an image, `(height, width, channels)`.

        Sizes that the classifier leaves open are None.
        """
        specs: Any = structure.input_specs(self.classifier)
        return tuple(self.split(specs)[0].shape[1:])

    @property
    def trainable_variables(self):
        """The trainable variables of the classifier."""
        return self.classifier.trainable_variables

    def in_own_range(self):
        """Returns this network as a function of pixels in its own range."""
        return self._with(_pixel_range=PixelRange(), pixel_range=None)

    def beside(self, others):
        """Returns this network for the other inputs of a batch.

        Args:
            others: What `split` returns beside the images.
        """
        if others is None:
            return self
        return self._with(_others=others)

    def _with(self, **changes):
        network = object.__new__(Network)
        vars(network).update(vars(self), **changes)
        return network

    def split(self, given):
        """Splits what the classifier takes into the images and the rest.

        Args:
            given: Tensor, or a dict or list of the inputs of the classifier.

        Returns:
            The images, and the dict or list with None in their place; None if
            there is no other input.

        Raises:
            InputError: If it does not hold the images.
        """
        if not isinstance(given, dict | list | tuple):
            return given, None
        key = _key_in(given, self._image_keys)
        if isinstance(given, dict) and self._only_input not in (None, key):
            raise InputError(
                "The classifier has one input, expected as a tensor or in a "
                f"dict by its name, {self._only_input}. "
                f"Received: keys={', '.join(map(str, given))}"
            )
        if key is None:
            raise InputError(
                "`image_input` is expected to name the input that takes the "
                f"images. Received: image_input={self._image_keys[0]}, "
                f"inputs={_keys(given)}"
            )
        if len(given) == 1:
            return given[key], None
        others = dict(given) if isinstance(given, dict) else list(given)
        others[key] = None
        return given[key], others

    def join(self, images, others):
        """Puts images and the rest together; the inverse of `split`."""
        if others is None:
            return images
        given = others.copy()
        given[_key_in(others, self._image_keys)] = images
        return given

    def pick(self, answer):
        """Returns the classified one of several outputs."""
        if not isinstance(answer, dict | list | tuple):
            return answer
        key = _key_in(answer, self._output_keys)
        if key is None:
            raise InputError(
                "`logits_output` is expected to name the output that is "
                f"classified. Received: logits_output={self._output_keys[0]}, "
                f"outputs={_keys(answer)}"
            )
        return answer[key]


def _keys(structure):
    is_dict = isinstance(structure, dict)
    return list(structure if is_dict else range(len(structure)))


def _key_in(structure, candidates):
    """Returns the key of an item, which is the only one or a candidate."""
    keys = _keys(structure)
    if len(keys) == 1:
        return keys[0]
    return next((key for key in candidates if key in keys), None)


def _find_only_input(classifier):
    """Returns the name of the only input; None if there are several.

    It is None, too, if the model has no named inputs.
    """
    inputs = getattr(classifier, "inputs", None) or ()
    return inputs[0]._keras_history[0].name if len(inputs) == 1 else None


def _find_keys(argument, name, structure):
    """Returns the keys under which batches may hold an input or output.

    Args:
        argument: String, the name of the argument.
        name: Its value: the name of the input or output, or its key.
        structure: The inputs or outputs of a functional model, as tensors;
            None for other models.

    Returns:
        A tuple of strings and integers: Keras takes dicts by the names of the
        inputs for lists, and the other way round.

    Raises:
        InputError: If a functional model has no such input or output.
    """
    if not isinstance(structure, dict | list | tuple) or len(structure) == 1:
        return (name,)
    keys = _keys(structure)
    names = [structure[key]._keras_history[0].name for key in keys]
    for position, aliases in enumerate(zip(keys, names, strict=True)):
        if name is not None and name in aliases:
            return (*aliases, position)
    raise InputError(
        f"`{argument}` is expected to be one of {names}, of which the "
        f"classifier has several. Received: {argument}={name}"
    )
