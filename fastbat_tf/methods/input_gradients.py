"""The derivatives that a method takes of a network, in any precision."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from fastbat_tf.layers.derivatives import connected
from fastbat_tf.layers.gradient_scaling import ScaledPass, retried_gradient


class InputGradients:
    """The part of a `StepContext` that differentiates.

    In a network in float16, every backward pass is scaled, so that gradients
    that float16 cannot hold become neither zero nor infinite.
    """

    images: Any
    variables: list[Any]
    logits: Callable[..., Any]
    attack_losses: Callable[..., Any]
    _scaled_pass: ScaledPass | None

    def input_gradient(
        self,
        perturbation: Any,
        losses: Callable[[Any], Any] | None = None,
        training: bool = True,
    ) -> Any:
        """Computes per-example gradients of the attack's loss.

        No weight gradient is computed. Second derivatives are possible only if
        a tape of the caller records this call.

        Args:
            perturbation: Tensor like the images.
            losses: Function from logits to losses `(batch,)`. Defaults to
                `attack_losses`.
            training: The mode of the forward pass. Defaults to True.

        Returns:
            The gradient of the SUM of the losses over the batch at
            `images + perturbation` with respect to `perturbation`, so that
            each example has its own gradient.
        """
        return self.input_gradient_and_logits(perturbation, losses, training)[0]

    def input_gradient_and_logits(
        self,
        perturbation: Any,
        losses: Callable[[Any], Any] | None = None,
        training: bool = True,
    ) -> tuple[Any, Any]:
        """Computes per-example gradients of the attack's loss, and logits.

        Args:
            perturbation: Tensor like the images.
            losses: Function from logits to losses `(batch,)`. Defaults to
                `attack_losses`.
            training: The mode of the forward pass. Defaults to True.

        Returns:
            The gradient, as `input_gradient` returns it, and the logits at
            `images + perturbation`.
        """
        return self.gradient_and_logits(
            perturbation,
            lambda delta: self.logits(self.images + delta, training),
            losses or self.attack_losses,
        )

    def gradient_and_logits(
        self,
        source: Any,
        forward: Callable[[Any], Any],
        losses: Callable[[Any], Any],
    ) -> tuple[Any, Any]:
        """Computes the gradient of losses to any images, and the logits.

        In a network in float16, the backward pass is scaled, so that small
        gradients do not become zero.

        Args:
            source: Float tensor, such as images that are not those of the step.
            forward: Function from `source` to logits, such as `logits`.
            losses: Function from logits to losses.

        Returns:
            The gradient of the SUM of the losses, a tensor like `source`, and
            the logits.
        """
        if self._scaled_pass is not None:
            gradient, logits = self._scaled_pass.gradient_and_logits(
                source, forward, losses
            )
            return connected(gradient), logits
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(source)
            logits = forward(source)
            values = losses(logits)
        return connected(tape.gradient(values, source)), logits

    def backward(
        self, tape: tf.GradientTape, logits: Any, upstream: Any, source: Any
    ) -> Any:
        """Passes a gradient of the logits back to images.

        Use it with a tape of your own, instead of `input_gradient`.

        Args:
            tape: Persistent `tf.GradientTape` that has recorded `logits`.
            logits: Tensor `(batch, classes)`.
            upstream: Tensor like `logits`, the gradient of a loss to them.
            source: Float tensor, which the tape has watched.

        Returns:
            A tensor like `source`.
        """
        if self._scaled_pass is not None:
            return connected(retried_gradient(tape, logits, upstream, source))
        return connected(
            tape.gradient(logits, source, output_gradients=upstream)
        )

    def vector_product(
        self, tape: tf.GradientTape, gradient: Any, vector: Any
    ) -> list[Any]:
        """Computes the derivative of `<gradient, vector>` to the weights.

        Args:
            tape: `tf.GradientTape` that has recorded the call of
                `input_gradient` or `gradient_and_logits`.
            gradient: The gradient that it returned.
            vector: Tensor like `gradient`, a constant.

        Returns:
            List of tensors or None, one for each of `variables`.
        """
        if self._scaled_pass is not None:
            return self._scaled_pass.product(
                tape, gradient, self.variables, vector
            )
        return tape.gradient(gradient, self.variables, output_gradients=vector)
