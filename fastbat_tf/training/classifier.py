"""RobustClassifier: the training step, once, for every method."""

import dataclasses
import warnings
from typing import Any

import keras
import tensorflow as tf

from fastbat_tf import distribution, methods
from fastbat_tf.draws import Draws
from fastbat_tf.errors import InputError
from fastbat_tf.layers import conversion, derivatives
from fastbat_tf.methods import state as states
from fastbat_tf.methods.step import StepContext, StepResult, split_index, unpack
from fastbat_tf.runtime import hints, onednn
from fastbat_tf.training import (
    losses,
    optimizers,
    schedules,  # noqa: F401  Keras finds in files what has been imported.
)
from fastbat_tf.training.epsilon_schedule import (
    EpsilonSchedule,  # noqa: F401  Likewise.
)
from fastbat_tf.training.pixels import PixelModel
from fastbat_tf.training.weight_averaging import WeightAverage


@keras.saving.register_keras_serializable("fastbat_tf")
class RobustClassifier(PixelModel):
    """Trains a Keras classifier with an adversarial-training method.

    ```
    minimize over theta  mean loss(theta, x + delta*(theta))
    ```

    with delta* from the method's lower-level problem. In inference it is the
    classifier. Images are in `pixel_range`, so a normalization belongs into
    the classifier, as its first layer; the classifier returns logits. Radii
    and steps of the method are fractions of the range: methods see images in
    [0, 1], and the classifier is asked at `low + (high - low) * x`.

    On x86 CPUs without AVX-512 VNNI, set `TF_ENABLE_ONEDNN_OPTS=1` before
    TensorFlow is imported: it leaves its faster convolutions off there.
    `compile` warns once where they are off, and where TensorFlow cannot use an
    NVIDIA GPU that is there.

    Args:
        classifier: A built `keras.Model` from images `(batch, height, width,
            channels)` to logits `(batch, classes)`. If the method
            differentiates twice, Keras' BatchNormalization layers in it are
            exchanged for ones with right second derivatives, which share
            their weights; a warning says so. The result is the attribute
            `classifier`.
        method: A `fastbat_tf.methods.base.Method`.
        seed: Integer, the seed of the method's random draws.
        pixel_range: Pair of floats, lowest and highest pixel that the
            classifier takes, such as `(0, 255)` for a model of
            `keras.applications`. What lies outside is refused by `fit`,
            `evaluate` and `predict`.

    Call arguments:
        images: Tensor `(batch, height, width, channels)` in `pixel_range`:
            floats of any width, which become float32 (float64 if the
            classifier computes in it), or integers if the range is wider than
            2. In training it may be `{"images": images, "index": index}`, with
            the examples' places in the data set, for methods that remember
            them.

    Raises:
        ValueError: If the classifier is not built, or holds a layer whose
            second derivatives are wrong and that cannot be exchanged, or one
            in which oneDNN would write to wrong memory, or if `pixel_range`
            is no range.

    Example:

    ```python
    robust = RobustClassifier(model, FastBAT(epsilon=8 / 255))
    robust.compile(keras.optimizers.SGD(0.1, momentum=0.9), weight_decay=5e-4)
    robust.fit(images, labels, batch_size=128, epochs=20)
    ```

    With pixels of uint8, and a classifier that scales them itself:

    ```python
    robust = RobustClassifier(
        model, FastBAT(epsilon=8 / 255), pixel_range=(0, 255)
    )
    ```
    """

    def __init__(
        self, classifier, method, seed=0, pixel_range=(0, 1), **kwargs
    ):
        if keras.backend.backend() != "tensorflow":
            raise ValueError(
                "fastbat_tf needs Keras on TensorFlow; expected "
                "KERAS_BACKEND=tensorflow. "
                f"Received: KERAS_BACKEND={keras.backend.backend()}"
            )
        if not classifier.built:
            raise ValueError(
                "`classifier` is expected to be built; give it an `Input`. "
                f"Received: classifier={classifier.name}"
            )
        super().__init__(pixel_range, **kwargs)
        if method.differentiates_twice:
            classifier = conversion.make_twice_differentiable(classifier)
        onednn.guard(conversion.flatten(classifier))
        self.classifier = classifier
        self.method = method
        self.seed = seed
        self.weight_average = self.epsilon_schedule = None
        self.method_state: Any = None
        needed = method.needs_features
        self.features = (
            conversion.before_last_dense(classifier) if needed else None
        )
        # Not the optimizer's counter, which need not count every batch.
        self.step = self.add_weight(
            name="step",
            shape=(),
            dtype="int64",
            initializer="zeros",
            trainable=False,
            aggregation="only_first_replica",
        )
        self._report_metrics = [
            keras.metrics.Mean(name=name)
            for name in ("gradient_norm", *method.reports)
        ]
        self.built = True

    def call(self, images, training=None):
        images, _ = split_index(images)
        images = self._pixel_range.as_floats(images, self._image_dtype)
        return self.classifier(images, training=training)

    @property
    def network(self):
        """The classifier as a function of pixels in [0, 1].

        A callable `network(images, training=...)` that gives logits; what
        methods see, and what attacks of this library take. The classifier
        itself if that is its `pixel_range`.
        """
        return self._pixel_range.wrap(self.classifier)

    @property
    def _image_dtype(self):
        # float64 if the classifier computes in it, but never half precision.
        return keras.backend.result_type(
            "float32", self.classifier.compute_dtype
        )

    def compile(
        self,
        optimizer: str | dict | keras.optimizers.Optimizer = "sgd",
        loss=None,
        metrics=("accuracy",),
        weight_decay=0.0,
        weight_decay_mode="l2",
        weight_decay_on="all",
        clip_norm=0.0,
        weight_averaging=0.0,
        attack_loss=None,
        plan=None,
        epsilon_schedule=None,
        jit_compile: bool | str = "auto",
        **kwargs,
    ):
        """Configures training.

        Args:
            optimizer: A Keras optimizer. Its own settings do what they do in
                `keras.Model.fit`; it is not changed.
            loss: A `keras.losses.Loss` that takes logits, such as
                `CategoricalCrossentropy(from_logits=True)` for one-hot labels;
                cross-entropy with integer labels by default. Its mean over
                the examples is minimized.
            metrics: Keras metrics of the logits; computed on the perturbed
                images in training, on the given images in `evaluate`.
            weight_decay: Float, the coefficient of the weight decay.
            weight_decay_mode: `"l2"`: `weight_decay * w` is added to the
                gradient, as PyTorch's SGD does; `"decoupled"`: the rate times
                this is taken from the weight, as AdamW and the `weight_decay`
                of Keras' optimizers do.
            weight_decay_on: `"all"` trainable weights, or the `"kernels"`:
                not biases, nor scales and offsets of normalizations.
            clip_norm: Float, the largest global norm of the gradient, that of
                all replicas, before the L2 term; 0 for no clipping. Not for
                an optimizer that accumulates gradients.
            weight_averaging: Float in [0, 1), the decay of the moving average
                of weights and statistics after each update, see
                `averaged_weights`; 0 for none.
            attack_loss: What the lower level raises, a loss as `loss` is; by
                default `loss` itself.
            plan: A `fastbat_tf.Plan`, for methods that count epochs or
                remember examples.
            epsilon_schedule: An `EpsilonSchedule`; by default the method uses
                the whole of its radius in each step.
            jit_compile: Whether XLA compiles the step; under a distribution
                strategy, what one replica computes: perturbation, loss and
                gradients. `"auto"` compiles on GPUs; on CPU the uncompiled
                step was measured to be faster.
            **kwargs: Other arguments of `keras.Model.compile`.

        Returns:
            The model itself, so that `compile(...).fit(...)` can be written.

        Raises:
            InputError: If a setting is out of range, or is one that the
                training would not honour; or if the method differentiates
                twice, and TensorFlow takes a second derivative of the
                classifier for zero.
        """
        loss = losses.get("crossentropy") if loss is None else loss
        losses.check("loss", loss)
        if attack_loss is not None:
            losses.check("attack_loss", attack_loss)
        if kwargs.get("loss_weights") is not None:
            raise InputError(
                "`loss_weights` are not supported, expected None. "
                f"Received: loss_weights={kwargs['loss_weights']}"
            )
        if not 0 <= weight_averaging < 1:
            raise InputError(
                "`weight_averaging` is expected in [0, 1). "
                f"Received: weight_averaging={weight_averaging}"
            )
        rule = optimizers.UpdateRule(
            weight_decay, weight_decay_mode, weight_decay_on, clip_norm
        )
        optimizer = keras.optimizers.get(optimizer)
        optimizers.check(
            optimizer, [self, *conversion.flatten(self.classifier)]
        )
        # A strategy counts also if this is called outside of its scope.
        with self.distribute_strategy.scope():
            rule.prepare(optimizer, self.trainable_variables)
        distribution.check_steps_per_execution(
            kwargs.get("steps_per_execution", 1),
            self.distribute_strategy.num_replicas_in_sync,
        )
        self.attack_loss = attack_loss
        self.update_rule = rule
        for note in hints.new_hints():
            warnings.warn(note, stacklevel=2)
        self.given_jit_compile = jit_compile
        self.compiles_step = distribution.resolve_jit_compile(jit_compile)
        derivatives.refuse_silent_gaps(self)
        # Keras' own would compile `evaluate` and its last batch, too.
        super().compile(
            optimizer=optimizer,
            loss=loss,
            metrics=list(metrics)
            if isinstance(metrics, tuple)
            else metrics or [],
            jit_compile=False,
            **kwargs,
        )
        self.plan = plan and states.Plan(*plan)
        # Tracked, and so saved with the weights.
        self._replace(
            weight_average=WeightAverage(
                weight_averaging, self._averaged_variables
            )
            if weight_averaging
            else None,
            epsilon_schedule=epsilon_schedule,
            method_state=states.create(
                self.method,
                self.classifier,
                self.features,
                self.plan,
                Draws(self.seed, 0),
            ),
        )
        self._whole_step, self._replica_step = self._update, self._gradients
        if not self.run_eagerly:
            # XLA cannot own the variable writes of an optimizer under a
            # strategy; there it ends at the gradients.
            whole = self.compiles_step and not tf.distribute.has_strategy()
            # A function of its own also without XLA: Keras traces its step
            # twice, this part is traced once.
            self._replica_step = tf.function(
                self._gradients,
                jit_compile=self.compiles_step and not whole,
                autograph=False,
            )
            if whole:
                self._whole_step = tf.function(
                    self._update, jit_compile=True, autograph=False
                )
        return self

    def train_step(self, data):
        images, labels, index = unpack(data, self.method.remembers_examples)
        images, checked = self.enter(images, self._image_dtype)
        # Nothing is updated, no counter either, before they are known as good.
        with tf.control_dependencies(checked):
            return self._whole_step(images, labels, index)

    def _update(self, images, labels, index):
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        rows = index, replica, tf.shape(images)[0]
        for _ in range(self.method.replays):
            state = self.method_state.read(*rows)
            loss, logits, gradients, reports, notes = self._replica_step(
                images, labels, index, state, self.step.value, replica
            )
            self.apply_gradients(gradients)
            context = self._make_context(
                images, labels, None, index, state, self.step.value, notes
            )
            method = self._method_at(self.step.value, images.dtype)
            self.method_state.write(method.update(context), *rows)
            self.step.assign_add(1)
        self._update_reports(loss, reports, tf.shape(images)[0])
        return self.compute_metrics(images, labels, logits)

    def test_step(self, data):
        trained = {metric.name for metric in self._report_metrics}
        trained.add("epsilon_share")
        results = super().test_step(data)
        return {k: v for k, v in results.items() if k not in trained}

    def get_metrics_result(self):
        results = super().get_metrics_result()
        if self.epsilon_schedule is not None:
            # That of the last step.
            share = self.epsilon_schedule.share(self.step.value - 1)
            results["epsilon_share"] = share
        return results

    def draws(self, step, replica):
        """The random draws of a step; tests give recorded ones here."""
        return Draws(self.seed, step, replica)

    @derivatives.named
    def compute_gradients(
        self, images, labels, draws, index=None, state=None, step=0
    ):
        """Computes one replica's step: all of it but the updates.

        One replica's view, with means over its own batch. It is a pure
        function but for the moving statistics of BatchNormalization.

        Args:
            images: Float tensor `(batch, height, width, channels)` in [0, 1],
                whatever `pixel_range` is.
            labels: Labels, as the loss expects them.
            draws: A `Draws`.
            index: Integer tensor `(batch,)`, the examples' places in the data
                set, or None.
            state: Dict of what the method remembers; by default that of now,
                of the first replica.
            step: Integer or scalar tensor, the updates so far.

        Returns:
            A `StepResult`.

        Raises:
            InputError: If a layer cannot be differentiated as often as the
                method does.
        """
        if state is None:
            state = self.method_state.read(index, 0, tf.shape(images)[0])
        method = self._method_at(step, images.dtype)
        context = self._make_context(images, labels, draws, index, state, step)
        if not context.variables:
            raise InputError(
                "The classifier is expected to have weights to train. "
                f"Received: classifier={self.classifier.name}, with none"
            )
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
            # Regularizers, and what layers add.
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
        # A weight that the loss does not depend on is none of the optimizer's.
        gradients = [
            None if was is None and new is old else new
            for was, old, new in zip(found, filled, gradients, strict=False)
        ]
        return StepResult(
            loss, logits, gradients, context.reports, context.notes, solution
        )

    def _method_at(self, step, dtype):
        """The method with the share of its radius that a step uses."""
        if self.epsilon_schedule is None:
            return self.method
        return self.method.scaled(
            tf.cast(self.epsilon_schedule.share(step), dtype)
        )

    def _make_context(
        self, images, labels, draws, index, state, step, notes=()
    ):
        progress = self.plan and self.plan.progress(step, self.method.replays)
        return StepContext(
            self.network,
            losses.by_example(self.loss),
            images,
            labels,
            draws,
            index,
            self.attack_loss and losses.by_example(self.attack_loss),
            progress,
            state,
            notes,
            self.features and self._pixel_range.wrap(self.features),
        )

    def apply_gradients(self, gradients):
        """Updates the weights, and their average if there is one."""
        updated = self.update_rule.apply(
            self.optimizer, gradients, self.trainable_variables
        )
        if self.weight_average is not None:
            self.weight_average.update(self._averaged_variables, updated)

    def averaged_weights(self):
        """Gives the classifier its averaged weights inside a `with`.

        They are those of `compile(weight_averaging=...)`, with the moving
        statistics of BatchNormalization averaged too.

        Raises:
            ValueError: If no average is kept.

        Example:

        ```python
        with robust.averaged_weights():
            robust.save("averaged.keras")
        ```
        """
        if self.weight_average is None:
            raise ValueError(
                "There are no averaged weights; expected compile("
                "weight_averaging=...). Received: weight_averaging=0"
            )
        return self.weight_average.swapped_into(self._averaged_variables)

    @property
    def _averaged_variables(self):
        # All but counters and the like.
        return [v for v in self.classifier.weights if v.value.dtype.is_floating]

    def get_config(self):
        return {
            **super().get_config(),
            "classifier": keras.saving.serialize_keras_object(self.classifier),
            "method": keras.saving.serialize_keras_object(self.method),
            "seed": self.seed,
            "pixel_range": list(self.pixel_range),
        }

    def get_compile_config(self):
        config = super().get_compile_config()
        if not self.compiled:
            return config
        average = self.weight_average
        return {
            **config,
            **dataclasses.asdict(self.update_rule),
            "weight_averaging": average.decay if average else 0.0,
            "attack_loss": keras.saving.serialize_keras_object(
                self.attack_loss
            ),
            "plan": self.plan and list(self.plan),
            "epsilon_schedule": keras.saving.serialize_keras_object(
                self.epsilon_schedule
            ),
            "jit_compile": self.given_jit_compile,
        }

    def compile_from_config(self, config):
        self.compile(**keras.saving.deserialize_keras_object(config))
        self.optimizer.build(self.trainable_variables)

    @classmethod
    def from_config(cls, config, custom_objects=None):
        for name in methods.METHODS:
            methods.get_class(name)  # Keras finds what has been imported.
        config = dict(config)
        for name in ("classifier", "method"):
            config[name] = keras.saving.deserialize_keras_object(
                config[name], custom_objects=custom_objects
            )
        return cls(**config)

    def _replace(self, **layers_by_name):
        for name, layer in layers_by_name.items():
            # Else Keras would save those of the last `compile`, too.
            self._tracker.untrack(getattr(self, name))
            setattr(self, name, layer)

    def _gradients(self, images, labels, index, state, step, replica):
        outcome = self.compute_gradients(
            images, labels, self.draws(step, replica), index, state, step
        )
        return outcome[:5]

    def _update_reports(self, loss, reports, batch):
        reports = {**reports, "loss": loss}
        for metric in self.metrics:
            if metric.name in reports:
                metric.update_state(reports[metric.name], sample_weight=batch)
