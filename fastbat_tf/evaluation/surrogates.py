"""Reads and checks the surrogates of transfer attacks."""

from collections.abc import Callable
from typing import Any

import numpy as np

from fastbat_tf.attacks.classifier import Classifier
from fastbat_tf.attacks.records import Clean
from fastbat_tf.attacks.sharding import Sharding
from fastbat_tf.attacks.surrogates import as_surrogates, named
from fastbat_tf.errors import InputError
from fastbat_tf.evaluation import checks, inputs
from fastbat_tf.layers.pixel_range import PixelRange


class Surrogates:
    """The surrogates of an evaluation.

    Args:
        given: A model in any form that the evaluation takes, a list of such, or
            None.
        as_network: Function of a model, and of the `default` of its pixel
            range, that returns a network and its `PixelRange`.
        pixels: The `PixelRange` of the attacked model.

    Attributes:
        networks: List of networks, from images in [0, 1] to logits.
    """

    def __init__(
        self,
        given: Any,
        as_network: Callable[..., tuple[Any, PixelRange]],
        pixels: PixelRange,
    ) -> None:
        self._given = as_surrogates(given)
        found = [as_network(each, default=pixels) for each in self._given]
        self.networks = [network for network, _ in found]
        self._ranges = [pixels for _, pixels in found]

    @property
    def settings(self) -> dict[str, Any]:
        """What the outcome depends on, a dict of JSON types."""
        checksums = [inputs.fingerprint_of_model(each) for each in self._given]
        found: dict[str, Any] = {"surrogate": _alone(checksums)}
        if not all(pixels.is_unit for pixels in self._ranges):
            ranges = [list(pixels) for pixels in self._ranges]
            found["surrogate_pixel_range"] = _alone(ranges)
        return found

    def check(
        self, clean: Clean, batch_size: int, sharding: Sharding
    ) -> list[str]:
        """Rejects surrogates with other classes than the attacked model.

        Args:
            clean: The `Clean` examples.
            batch_size: Integer, images per call.
            sharding: The `Sharding`.

        Returns:
            Warnings about them.

        Raises:
            InputError: If a surrogate does not suit.
        """
        texts = []
        for number, network in enumerate(self.networks):
            name = named(self._given, number)
            classify = Classifier(network, batch_size, sharding)
            answers = _answer(classify, clean, name)
            signs = checks.check_network(
                classify.network, answers, batch_size, sharding=sharding
            )
            texts += [f"{name}: {text}" for text in signs.values()]
            self.networks[number] = classify.network
        return texts


def _alone(values):
    """Several values, the only one, or None."""
    return values if len(values) > 1 else next(iter(values), None)


def _answer(classify, clean, name):
    # Every model has the label 0, so the number of classes is checked first.
    answers = classify(clean.images, np.zeros_like(clean.labels))
    ours, theirs = clean.logits.shape[-1], answers.logits.shape[-1]
    if ours != theirs:
        raise InputError(
            f"{name} is expected to have the model's {ours} classes. "
            f"Received: classes={theirs}"
        )
    return answers._replace(labels=clean.labels)
