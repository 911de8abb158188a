"""The training step, which all methods share.

```
solution = method.solve(context)                  # the perturbation delta*
loss     = method.objective(context, solution)    # one forward at x + delta*
gradient = d loss / d (weights, delta*)           # one backward pass
gradient = method.correct(context, solution, gradient, ...)
weights  = optimizer(weights, gradient)
state    = method.update(context)
```
"""

import contextlib

import keras
import tensorflow as tf

from fastbat_tf import replicas
from fastbat_tf.errors import InputError
from fastbat_tf.layers import derivatives, randomness, structure
from fastbat_tf.layers.moments import exact_moments
from fastbat_tf.methods.step import StepResult
from fastbat_tf.training import (
    empty_batches,
    loss_scaling,
    reductions,
    summed_gradients,
    variables,
)
from fastbat_tf.training.contexts import ContextualModel
from fastbat_tf.training.lifecycle import in_own_scope


class TrainingStep(ContextualModel):
    """A model with the training step that all methods share.

    `RobustClassifier` sets the attributes that the step uses: the constructor
    sets `classifier`, `method`, `seed` and `features`, and `compile` the rest.

    Args:
        pixel_range: Pair of floats, the lowest and highest pixel value. See
            `RobustClassifier`.
        **kwargs: Arguments of `keras.Model`.
    """

    def train_step(self, data):
        batch = self.unpack(data, self.method.remembers_examples)
        images, others = self.network.split(batch.inputs)
        images, checked = self.enter(images, self._image_dtype)
        labels, index = batch.labels, batch.index
        checked += self.check_labels(labels) + self.check_index(index)
        if self.synchronizes:
            checked += empty_batches.refuse(images)
        # The batch is checked before any variable, even a counter, changes.
        with tf.control_dependencies(checked):
            # The part that is a `tf.function` waits only for its arguments.
            images = tf.identity(images)
            return self._whole_step(
                images, labels, index, others, batch.sample_weight
            )

    def make_train_function(self, force=False):
        if self.train_function is None or force:
            # `run_eagerly` may have changed since `compile`.
            self._build_step_functions()
        return super().make_train_function(force)

    @in_own_scope  # `fit` of Keras calls this outside of it.
    def _build_step_functions(self):
        """Compiles as much of the step with XLA as possible."""
        self.probed = set()  # Shapes of images, see `refuse_wrong_layers`.
        loss_scaling.build(self.optimizer, self.trainable_variables)
        self._whole_step, self._replica_step = self._update, self._gradients
        self._correction = self._corrected
        self.compiles_whole_step = False
        if self.run_eagerly:
            return
        # Under a strategy, XLA cannot write the optimizer's variables, so only
        # the gradients are compiled.
        if self.given_jit_compile == "auto" and self.synchronizes:
            self.compiles_step = False
        whole = self.compiles_step and not tf.distribute.has_strategy()
        self.compiles_whole_step = whole
        if not self.compiles_step and self.synchronizes:
            return  # Replicas cannot meet inside of a nested `tf.function`.
        # Even without XLA, this part is a `tf.function`: where a step creates
        # variables, as some metrics do, it is traced twice, but this part once.
        self._replica_step, self._correction = (
            tf.function(
                part,
                jit_compile=self.compiles_step and not whole,
                autograph=False,
            )
            for part in (self._gradients, self._corrected)
        )
        if whole:
            self._whole_step = tf.function(
                self._update, jit_compile=True, autograph=False
            )

    @property
    def synchronizes(self):
        """Whether layers exchange statistics between replicas."""
        return self.distribute_strategy.num_replicas_in_sync > 1 and any(
            getattr(layer, "synchronized", False)
            for layer in structure.flatten(self.classifier)
        )

    def _update(self, images, labels, index, others, sample_weight):
        """Computes the gradients and applies them, once for each replay."""
        shard = reductions.shard(self.loss, images, labels, sample_weight)
        first = shard.first if shard else 0
        batch = self._never_empty(images, labels, index, others, sample_weight)
        for _ in range(self.method.replays):
            given = {
                **batch,
                "state": self.method_state.read(
                    batch["index"], first, tf.shape(batch["images"])[0]
                ),
                "step": self.step.value,
                "shard": shard,
            }
            result = self._compute_part(given)
            finite = loss_scaling.all_finite(self.optimizer, result.gradients)
            excused = loss_scaling.is_excused(self.optimizer, finite)
            self.apply_gradients(result.gradients, finite)
            values = loss_scaling.keep_unless(
                finite, self._new_state(given, result.notes), given["state"]
            )
            self.method_state.write(values, index, first, tf.shape(images)[0])
            self.step.assign_add(1)
        self._update_reports(result, images, shard, excused)
        return self.compute_metrics(
            images,
            labels,
            self.network.outputs.to_outputs(
                empty_batches.drop(result.logits, images)
            ),
            sample_weight,
        )

    def _never_empty(self, images, labels, index, others, sample_weight):
        """Returns what a replica computes with, by the names of arguments."""
        batch = {
            "images": images,
            "labels": labels,
            "index": index,
            "others": others,
            "sample_weight": sample_weight,
        }
        # An example more would count in the statistics of all replicas.
        return batch if self.synchronizes else empty_batches.pad(batch)

    def _compute_part(self, given):
        """Computes a replica's step, and the mean gradient of all replicas."""
        shard = given["shard"]
        if shard is None:
            return self._replica_step(**given)
        with summed_gradients.statistics_kept(self.classifier, shard):
            result = self._replica_step(**given)
        if self.method.needs_largest:
            largest = replicas.largest(shard, result.largest)
            others = {k: v for k, v in given.items() if k != "images"}
            gradients, addend, reports, notes = self._correction(
                given["images"],
                result=result._replace(largest=largest),
                **others,
            )
            result = result._replace(
                gradients=gradients,
                addend=addend,
                reports=reports,
                notes=notes,
            )
        return summed_gradients.summed(result, shard, self.method)

    def _gradients(self, *, images, labels, **given):
        result = self.compute_gradients(
            images, labels, self.draws(given["step"]), **given
        )
        if self._corrects_apart(given["shard"]):
            return result
        # XLA returns tensors; the solution may hold others.
        return result._replace(
            solution=None, perturbation_gradient=None, largest={}
        )

    def _corrects_apart(self, shard):
        # XLA compiles nothing that replicas tell each other.
        return shard is not None and self.method.needs_largest

    @derivatives.named
    def _corrected(self, images, *, result, **given):
        """Computes `correct` for a result that lacks it."""
        given = {"images": images, **given}
        context = self._context_of(
            given, notes=result.notes, largest=result.largest
        )
        context.reports.update(result.reports)
        method = self._method_at(given["step"], context.images.dtype)
        with randomness.same_draw(self, result.notes, given["shard"]):
            result = self._correct(method, context, result)
        return result.gradients, result.addend, context.reports, context.notes

    @derivatives.named
    @randomness.one_draw
    def compute_gradients(
        self,
        images,
        labels,
        draws,
        *,
        index=None,
        state=None,
        step=0,
        others=None,
        sample_weight=None,
        shard=None,
    ):
        """Computes one replica's step: everything except the updates.

        Means are over this replica's batch. The function is pure, except that
        it updates the moving statistics of BatchNormalization.

        Args:
            images: Float tensor `(batch, height, width, channels)` in [0, 1],
                whatever `pixel_range` is.
            labels: Labels, as the loss expects them.
            draws: A `Draws`.
            index: Integer tensor `(batch,)`, the index of each example in the
                data set. Defaults to `None`.
            state: Dict, the values of the method's variables. Defaults to the
                current ones, as the first replica sees them.
            step: Integer or scalar tensor, the number of updates so far.
                Defaults to `0`.
            others: The other inputs of the classifier, see `Network.split`.
                Defaults to `None`.
            sample_weight: Float tensor `(batch,)`, the weights of the examples
                in the loss that is minimized. Defaults to `None`.
            shard: A `fastbat_tf.replicas.Shard`, the part of the batch that
                this replica has. Defaults to `None`, for all of it.

        Returns:
            A `StepResult`. If the method needs the largest values of several
            replicas, its gradients are not corrected yet.

        Raises:
            InputError: If the classifier has no trainable weights, or a layer
                cannot be differentiated as often as the method does.
        """
        if state is None:
            state = self.method_state.read(index, 0, tf.shape(images)[0])
        context = self._make_context(
            images,
            labels,
            draws=draws,
            index=index,
            state=state,
            step=step,
            others=others,
            sample_weight=sample_weight,
            shard=shard,
        )
        if not context.variables:
            raise InputError(
                "The classifier is expected to have trainable weights. "
                f"Received: classifier={self.classifier.name}, with none"
            )
        method = self._method_at(step, images.dtype)
        # Other methods keep Keras' own first derivatives to the last bit.
        exact = method.differentiates_twice
        if exact:
            derivatives.refuse_wrong_layers(self, images)
        with exact_moments() if exact else contextlib.nullcontext():
            result = self._differentiate(method, context, shard)
            context.largest.update(result.largest)
            if not self._corrects_apart(shard):
                result = self._correct(method, context, result)
        result = result._replace(reports=context.reports, notes=context.notes)
        return result if shard else summed_gradients.added(result, self.method)

    def _differentiate(self, method, context, shard):
        """Solves the lower level, and differentiates the upper one."""
        with tf.GradientTape() as tape:
            if method.trains_through_solve:
                solution = method.solve(context)
            else:
                with tape.stop_recording():
                    solution = method.solve(context)
            sources = list(context.variables)
            if method.needs_perturbation_gradient:
                tape.watch(solution.perturbation)
                sources.append(solution.perturbation)
            loss, logits = method.objective(context, solution)
            if self.loss_weight is not None:
                loss *= self.loss_weight
            # Regularizers, and losses that layers add.
            for extra in self.classifier.losses:
                loss += tf.reduce_sum(tf.cast(extra, loss.dtype))
            part = loss
            if shard is not None and shard.weight is not None:
                part = loss * tf.cast(shard.weight, loss.dtype)
            part = loss_scaling.scale(self.optimizer, part)
        gradients = [
            gradient
            if gradient is None
            else loss_scaling.unscale(self.optimizer, gradient)
            for gradient in tape.gradient(part, sources)
        ]
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

    def apply_gradients(self, gradients, finite=True):
        """Updates the weights, and their moving average if there is one."""
        if not (self.optimizer.built or tf.distribute.has_strategy()):
            with (
                variables.before_the_step(),
                keras.name_scope(self.optimizer.name, caller=self.optimizer),
            ):
                self.optimizer.build(self.trainable_variables)
        updated = self.update_rule.apply(
            self.optimizer, gradients, self.trainable_variables, finite=finite
        )
        if self.weight_average is not None:
            self.weight_average.update(self._averaged_variables, updated)
