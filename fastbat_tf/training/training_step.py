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
import functools

import keras
import tensorflow as tf

from fastbat_tf.draws import Draws
from fastbat_tf.errors import InputError
from fastbat_tf.layers import derivatives, randomness, structure
from fastbat_tf.layers.moments import exact_moments
from fastbat_tf.methods.step import StepContext, StepResult
from fastbat_tf.training import losses, step_metrics, variables
from fastbat_tf.training.fitting import FittedModel
from fastbat_tf.training.lifecycle import in_own_scope


class TrainingStep(FittedModel):
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
        # The batch is checked before any variable, even a counter, changes.
        with tf.control_dependencies(checked):
            # The part that is a `tf.function` waits only for its arguments.
            images = tf.identity(images)
            return self._whole_step(
                images, labels, index, others, batch.sample_weight
            )

    def save_own_variables(self, store):
        super().save_own_variables(store)
        # Keras saves no generators, so that a training could not be continued.
        for key, state in self._seed_states.items():
            store[key] = keras.ops.convert_to_numpy(state)

    def load_own_variables(self, store):
        states = self._seed_states
        super().load_own_variables(
            {key: store[key] for key in store.keys() if key not in states}
        )
        for key in states.keys() & store.keys():
            states[key].assign(store[key])

    @property
    def _seed_states(self):
        layers = self.classifier._flatten_layers()
        found = [g.state for layer in layers for g in layer._seed_generators]
        return {f"seed_{k}": state for k, state in enumerate(found)}

    def make_train_function(self, force=False):
        if self.train_function is None or force:
            # `run_eagerly` may have changed since `compile`.
            self._build_step_functions()
        return super().make_train_function(force)

    @in_own_scope  # `fit` of Keras calls this outside of it.
    def _build_step_functions(self):
        """Compiles as much of the step with XLA as possible."""
        self.probed = set()  # Shapes of images, see `refuse_wrong_layers`.
        self._whole_step, self._replica_step = self._update, self._gradients
        self.compiles_whole_step = False
        if self.run_eagerly:
            return
        # Under a strategy, XLA cannot write the optimizer's variables, so only
        # the gradients are compiled.
        whole = self.compiles_step and not tf.distribute.has_strategy()
        self.compiles_whole_step = whole
        if not self.compiles_step and self._synchronizes():
            return  # Replicas cannot meet inside of a nested `tf.function`.
        # Even without XLA, this part is a `tf.function`: where a step creates
        # variables, as some metrics do, it is traced twice, but this part once.
        self._replica_step = tf.function(
            self._gradients,
            jit_compile=self.compiles_step and not whole,
            autograph=False,
        )
        if whole:
            self._whole_step = tf.function(
                self._update, jit_compile=True, autograph=False
            )

    def _synchronizes(self):
        """Whether layers exchange statistics between replicas."""
        return self.distribute_strategy.num_replicas_in_sync > 1 and any(
            getattr(layer, "synchronized", False)
            for layer in structure.flatten(self.classifier)
        )

    def _update(self, images, labels, index, others, sample_weight):
        """Computes the gradients and applies them, once for each replay."""
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        rows = index, replica, tf.shape(images)[0]
        for _ in range(self.method.replays):
            state = self.method_state.read(*rows)
            loss, logits, gradients, reports, notes = self._replica_step(
                images=images,
                labels=labels,
                index=index,
                state=state,
                step=self.step.value,
                replica=replica,
                others=others,
                sample_weight=sample_weight,
            )
            self.apply_gradients(gradients)
            context = self._make_context(
                images,
                labels,
                draws=self.draws(self.step.value, replica),
                index=index,
                state=state,
                step=self.step.value,
                notes=notes,
                others=others,
                sample_weight=sample_weight,
            )
            method = self._method_at(self.step.value, images.dtype)
            with randomness.same_draw(self, notes):
                values = method.update(context)
            self.method_state.write(values, *rows)
            self.step.assign_add(1)
        self._update_reports(loss, reports, images)
        return self.compute_metrics(
            images,
            labels,
            self.network.outputs.to_outputs(logits),
            sample_weight,
        )

    def _gradients(self, *, images, labels, replica, **given):
        result = self.compute_gradients(
            images, labels, self.draws(given["step"], replica), **given
        )
        return result[:5]  # XLA returns tensors; the solution may hold others.

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

        Returns:
            A `StepResult`.

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
            return self._differentiate(method, context)

    def _differentiate(self, method, context):
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
        found = tape.gradient(loss, sources)
        filled = [
            tf.zeros_like(source)
            if gradient is None
            else tf.convert_to_tensor(gradient)
            for source, gradient in zip(sources, found, strict=True)
        ]
        gradients, delta_gradient = list(filled), None
        if method.needs_perturbation_gradient:
            derivatives.connected(found[-1])
            delta_gradient = gradients.pop()
        gradients = method.correct(context, solution, gradients, delta_gradient)
        context.report(gradient_norm=tf.linalg.global_norm(gradients))
        # The optimizer does not change a weight that the loss does not use.
        gradients = [
            None if was is None and new is old else new
            for was, old, new in zip(found, filled, gradients, strict=False)
        ]
        return StepResult(
            loss=loss,
            logits=logits,
            gradients=gradients,
            reports=context.reports,
            notes=context.notes,
            solution=solution,
        )

    def draws(self, step, replica):
        """Returns the random draws of a step. Tests override this."""
        return Draws(self.seed, step, replica)

    def apply_gradients(self, gradients):
        """Updates the weights, and their moving average if there is one."""
        if not (self.optimizer.built or tf.distribute.has_strategy()):
            with (
                variables.before_the_step(),
                keras.name_scope(self.optimizer.name, caller=self.optimizer),
            ):
                self.optimizer.build(self.trainable_variables)
        updated = self.update_rule.apply(
            self.optimizer, gradients, self.trainable_variables
        )
        if self.weight_average is not None:
            self.weight_average.update(self._averaged_variables, updated)

    def _method_at(self, step, dtype):
        """Returns the method, with the share of its radius at a step."""
        if self.epsilon_schedule is None:
            return self.method
        return self.method.scaled(
            tf.cast(self.epsilon_schedule.share(step), dtype)
        )

    def _make_context(
        self, images, labels, *, step, others=None, sample_weight=None, **given
    ):
        form = self.network.outputs
        network = self.network.beside(others)
        features = self.features
        weights = losses.weigh_ignored(self.loss, labels, sample_weight)
        return StepContext(
            network=network,
            loss=losses.by_example(
                self.loss, form, self.loss.reduction, weights is not None
            ),
            attack_loss=losses.by_example(self.attack_loss or self.loss, form),
            reduction=self.loss.reduction,
            images=images,
            labels=labels,
            sample_weight=weights,
            progress=self.progress(step),
            features=features and functools.partial(network.apply, features),
            **given,
        )

    def unpack(self, data, needs_index=False):
        batch = super().unpack(data, needs_index)
        # There may be labels for each of several outputs.
        return batch._replace(
            labels=self.network.pick(batch.labels),
            sample_weight=self.network.pick(batch.sample_weight),
        )

    def images_of(self, inputs):
        return self.network.split(inputs)[0]

    def test_step(self, data):
        return self._without_reports(super().test_step(data))

    def get_metrics_result(self):
        results = super().get_metrics_result()
        if self._is_evaluating:
            # With the names of `test_step`, or Keras takes the values of its
            # last step, which are means of the values of the replicas.
            return self._without_reports(results)
        if self.epsilon_schedule is not None:
            last_step = self.step.value - 1
            share = self.epsilon_schedule.share(last_step)
            results[step_metrics.EPSILON_SHARE] = share
        return results

    def _without_reports(self, results):
        trained = {metric.name for metric in self._report_metrics}
        trained.add(step_metrics.EPSILON_SHARE)
        return {k: v for k, v in results.items() if k not in trained}

    def _update_reports(self, loss, reports, images):
        batch = tf.shape(images)[0]
        if self.loss.reduction in ("none", None):
            # Keras minimizes the sum, and reports the mean.
            loss /= tf.cast(batch, loss.dtype)
        self._loss_tracker.update_state(loss, sample_weight=batch)
        step_metrics.update(self._report_metrics, reports, batch)

    @property
    def _image_dtype(self):
        # float64 if the classifier computes in it, but never half precision.
        return keras.backend.result_type(
            "float32", self.classifier.compute_dtype
        )
