"""What a step differentiates: the objective, at the perturbed weights."""

import contextlib

import tensorflow as tf

from fastbat_tf.layers import derivatives, gradient_scaling, structure
from fastbat_tf.methods.step import StepResult
from fastbat_tf.training import (
    loss_scaling,
    summed_gradients,
    weight_perturbation,
)
from fastbat_tf.training.contexts import ContextualModel


class UpperLevel(ContextualModel):
    """A model that differentiates the upper level of a training step.

    ```
    solution = method.solve(context)                      # at w
    v        = gamma * norm(w) * g / norm(g)              # if it is perturbed
    gradient = d method.objective(context, solution) / d (weights, delta*)
    gradient = method.correct(context, solution, gradient, ...)
    ```

    where the third line is at `w + v`, and all others are at w.

    Args:
        pixel_range: Pair of floats, the lowest and highest pixel value. See
            `RobustClassifier`.
        **kwargs: Arguments of `keras.Model`.
    """

    @property
    def synchronizes(self):
        """Whether layers exchange statistics between replicas."""
        return self.distribute_strategy.num_replicas_in_sync > 1 and any(
            getattr(layer, "synchronized", False)
            for layer in structure.flatten(self.classifier)
        )

    @property
    def _perturbs_weights(self):
        perturbation = self.weight_perturbation
        return perturbation is not None and perturbation.gamma > 0

    def _differentiate(self, method, context, step, shard):
        """Solves the lower level, and differentiates the upper one."""
        with contextlib.ExitStack() as until_differentiated:
            with tf.GradientTape() as tape:
                # The direction in which the weights are perturbed.
                ascent = tf.GradientTape() if self._perturbs_weights else None
                solution = self._solve(method, context, tape, ascent)
                sources = list(context.variables)
                if method.needs_perturbation_gradient:
                    tape.watch(solution.perturbation)
                    sources.append(solution.perturbation)
                factor = 1.0
                if ascent is not None:
                    with tape.stop_recording():
                        offsets, factor = self._weight_offsets(
                            method,
                            context,
                            solution,
                            ascent=ascent,
                            step=step,
                            shard=shard,
                        )
                        until_differentiated.enter_context(
                            weight_perturbation.moved(
                                weight_perturbation.kernels(context.variables),
                                offsets,
                            )
                        )
                loss, logits = self._objective(method, context, solution)
                # Regularizers, and losses that layers add.
                for extra in self.classifier.losses:
                    loss += tf.reduce_sum(tf.cast(extra, loss.dtype))
                part = self._scaled(loss, shard)
                if ascent is not None:
                    part *= tf.cast(factor, part.dtype)
            gradients = self._unscaled(tape.gradient(part, sources))
        delta_gradient, largest = None, {}
        if method.needs_perturbation_gradient:
            delta_gradient = derivatives.connected(gradients.pop())
        if method.needs_largest:
            largest = method.largest(context, solution, delta_gradient)
        return StepResult(
            loss=loss,
            logits=logits,
            gradients=gradients,
            reports=context.reports,
            notes=context.notes,
            solution=solution,
            perturbation_gradient=delta_gradient,
            largest=largest,
        )

    @staticmethod
    def _solve(method, context, tape, ascent):
        if not method.trains_through_solve:
            with tape.stop_recording():
                return method.solve(context)
        with ascent or contextlib.nullcontext():
            return method.solve(context)

    def _objective(self, method, context, solution):
        loss, logits = method.objective(context, solution)
        if self.loss_weight is not None:
            loss *= self.loss_weight
        return loss, logits

    def _scaled(self, loss, shard):
        """Returns this replica's part of the loss, scaled for float16."""
        if shard is not None and shard.weight is not None:
            loss *= tf.cast(shard.weight, loss.dtype)
        return loss_scaling.scale(self.optimizer, loss)

    def _unscaled(self, gradients):
        return [
            gradient
            if gradient is None
            else loss_scaling.unscale(self.optimizer, gradient)
            for gradient in gradients
        ]

    def _correct(self, method, context, result):
        """Corrects the gradients of a result."""
        filled = [
            tf.zeros_like(variable) if gradient is None else gradient
            for variable, gradient in zip(
                context.variables, result.gradients, strict=True
            )
        ]
        corrected = method.correct(
            context,
            result.solution,
            list(filled),
            result.perturbation_gradient,
        )
        if method.adds_apart:
            gradients, addend = corrected
            return result._replace(gradients=gradients, addend=addend)
        context.report(gradient_norm=tf.linalg.global_norm(corrected))
        # The optimizer does not change a weight that the loss does not use.
        gradients = [
            None if was is None and new is old else new
            for was, old, new in zip(
                result.gradients, filled, corrected, strict=False
            )
        ]
        return result._replace(gradients=gradients)

    def _weight_offsets(
        self, method, context, solution, *, ascent, step, shard
    ):
        """Finds the perturbation v of the kernels.

        Args:
            method: The `Method` of the step.
            context: The `StepContext`.
            solution: What `solve` returned.
            ascent: A `tf.GradientTape`. It has recorded `solve` if the weight
                gradient goes through it.
            step: Integer or scalar tensor, the number of updates so far.
            shard: The `Shard` of this replica, or None.

        Returns:
            A list of tensors, the same on all replicas, and a factor of the
            loss: 1, or NaN if there is no v, since the gradient is not finite.
            The weights are not moved then, so that no statistics become NaN.
        """
        perturbation = self.weight_perturbation
        weights = weight_perturbation.kernels(context.variables)

        def ascend():
            with weight_perturbation.without_trace(self.classifier, context):
                with ascent:
                    loss, _ = self._objective(method, context, solution)
                    part = self._scaled(loss, shard)
                found = self._unscaled(ascent.gradient(part, weights))
            return [
                tf.zeros_like(weight) if gradient is None else gradient
                for weight, gradient in zip(weights, found, strict=True)
            ]

        def rest():
            return [tf.zeros_like(weight) for weight in weights]

        rests = tf.cast(step, tf.int64) < perturbation.warmup_steps
        # A branch cannot differentiate what is outside of it, and replicas
        # cannot meet in it.
        needs_all = method.trains_through_solve or self.synchronizes
        if needs_all or not perturbation.warmup_steps:
            gradients = ascend()
        else:
            gradients = tf.cond(rests, rest, ascend)
        if shard is not None:
            gradients = summed_gradients.mean_over_replicas(gradients, shard)
        moves = tf.logical_not(rests)
        finite = gradient_scaling.all_finite(gradients)
        offsets = perturbation.perturbations(weights, gradients)
        factor = tf.where(tf.logical_or(finite, rests), 1.0, float("nan"))
        return [
            tf.where(tf.logical_and(finite, moves), v, tf.zeros_like(v))
            for v in offsets
        ], factor
