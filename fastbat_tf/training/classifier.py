"""The Keras model that trains, saves and serves a robust classifier."""

import warnings
from collections.abc import Sequence
from typing import Any, Literal, Self, Unpack

import keras

from fastbat_tf import distribution
from fastbat_tf.data.indexing import split_index
from fastbat_tf.layers import derivatives, gradient_scaling, structure
from fastbat_tf.layers.keras_arguments import LayerArguments
from fastbat_tf.layers.network import Network
from fastbat_tf.methods.base import Method
from fastbat_tf.methods.state import Plan
from fastbat_tf.runtime import half_precision, hints, onednn
from fastbat_tf.training import (
    checks,
    loss_scaling,
    losses,
    optimizers,
    schedules,  # noqa: F401  Registers what Keras finds in saved files.
    step_metrics,
)
from fastbat_tf.training.epsilon_schedule import EpsilonSchedule
from fastbat_tf.training.keras_signatures import Loss, LossWeights, Metrics
from fastbat_tf.training.lifecycle import Lifecycle, in_own_scope
from fastbat_tf.training.metrics import prepare as prepare_metrics
from fastbat_tf.training.training_step import TrainingStep
from fastbat_tf.training.weight_averaging import AveragedModel, WeightAverage
from fastbat_tf.training.weight_perturbation import (
    AdversarialWeightPerturbation,
)


@keras.saving.register_keras_serializable("fastbat_tf")
class RobustClassifier(AveragedModel, Lifecycle, TrainingStep):
    """Trains a Keras classifier with an adversarial-training method.

    ```
    minimize over theta  mean loss(theta, x + delta*(theta))
    ```

    where `delta*` solves the method's lower-level problem. In inference, the
    model returns what the classifier returns.

    The classifier takes images in `pixel_range`. Any normalization belongs in
    its first layer. Radii and step sizes of the method
    are fractions of the range: methods see images in [0, 1], and the classifier
    is evaluated at `low + (high - low) * x`.

    On x86 CPUs without AVX-512 VNNI, TensorFlow leaves its faster convolutions
    (oneDNN) off. Set `TF_ENABLE_ONEDNN_OPTS=1` before importing TensorFlow to
    turn them on. `compile` warns once if they are off, or if the machine has
    an NVIDIA GPU that TensorFlow cannot use.

    Args:
        classifier: A built `keras.Model` of any kind, from images `(batch,
            height, width, channels)` to logits or probabilities `(batch,
            classes)`, or `(batch, 1)` for two classes. It is trained in place:
            no layer is exchanged, and the attribute `classifier` is this
            model.
        method: A `fastbat_tf.methods.base.Method`, such as `FastBAT(8 / 255)`.
        seed: Integer, the seed of the method's random draws. Defaults to `0`.
        pixel_range: Pair of floats, the lowest and highest pixel value that
            the classifier takes, such as `(0, 255)` for a model of
            `keras.applications`. `fit`, `evaluate` and `predict` reject images
            outside of it. Defaults to `(0, 1)`.
        from_logits: Boolean, whether the classifier returns logits rather than
            probabilities. Defaults to `None`: a softmax or sigmoid as its last
            operation makes them probabilities.
        image_input: The input that takes the images, if the classifier has
            several: its name, or its key in what the classifier takes. The
            others are passed through. Defaults to `None`.
        logits_output: The output that is classified, if there are several: its
            name or its key. It is what `RobustClassifier` returns; the others
            are not trained. Defaults to `None`.
        **kwargs: Arguments of `keras.Model`.

    Call arguments:
        images: Tensor `(batch, height, width, channels)` in `pixel_range`:
            floats of any width, or integers if the range is wider than 2. They
            are cast to float32, or to float64 if the classifier computes in
            float64. In training, `{"images": images, "index": index}` adds the
            index of each example in the data set, an integer tensor
            `(batch,)`, for methods that remember examples.
        training: Boolean, whether layers such as BatchNormalization run in
            training mode. Defaults to `None`, which means inference.

    Raises:
        ValueError: If the Keras backend is not TensorFlow; if the classifier
            is not a built `keras.Model`, or was created in the scope of another
            distribution strategy; if it has a layer in which oneDNN would write
            to the wrong memory; if `method` is not a `Method`, `seed` not an
            integer or `pixel_range` not a range.

    Example:

    ```python
    robust = fb.RobustClassifier(model, fb.FastBAT(epsilon=8 / 255))
    robust.compile(keras.optimizers.SGD(0.1, momentum=0.9), weight_decay=5e-4)
    robust.fit(images, labels, batch_size=128, epochs=20)
    ```

    With uint8 pixels and a classifier that rescales them itself:

    ```python
    robust = fb.RobustClassifier(
        model, fb.FastBAT(epsilon=8 / 255), pixel_range=(0, 255)
    )
    ```
    """

    def __init__(
        self,
        classifier: Any,
        method: Method,
        seed: int = 0,
        pixel_range: Sequence[float] = (0, 1),
        *,
        from_logits: bool | None = None,
        image_input: str | int | None = None,
        logits_output: str | int | None = None,
        **kwargs: Unpack[LayerArguments],
    ) -> None:
        if keras.backend.backend() != "tensorflow":
            raise ValueError(
                "fastbat_tf needs Keras on TensorFlow; expected "
                "KERAS_BACKEND=tensorflow. "
                f"Received: KERAS_BACKEND={keras.backend.backend()}"
            )
        checks.check_classifier(classifier)
        checks.check_method(method)
        super().__init__(pixel_range, **kwargs)
        onednn.guard(structure.flatten(classifier))
        self.classifier = classifier
        self._network_options = {
            "from_logits": from_logits,
            "image_input": image_input,
            "logits_output": logits_output,
        }
        self._network = Network(
            classifier, self._pixel_range, **self._network_options
        )
        self.method = method
        self.seed = checks.as_seed(seed)
        self.weight_average = self.epsilon_schedule = None
        self.weight_perturbation = None
        self.method_state: Any = None
        needed = method.needs_features
        self.features = (
            structure.before_last_dense(classifier, self._network.pick)
            if needed
            else None
        )
        # The optimizer's own counter need not count every batch.
        self.step = self.add_weight(
            name="step",
            shape=(),
            dtype="int64",
            initializer="zeros",
            trainable=False,
            aggregation="only_first_replica",
        )
        self._report_metrics = step_metrics.create(method)
        self.built = True

    def call(self, images: Any, training: bool | None = None) -> Any:
        given, _ = split_index(images)
        images, others = self._network.split(given)
        images = self._pixel_range.as_floats(images, self._image_dtype)
        given = self._network.join(images, others)
        return self._network.pick(self.classifier(given, training=training))

    @property
    def network(self) -> Network:
        """The classifier as a function from pixels in [0, 1] to logits.

        A callable `network(images, training=...)` that returns logits
        `(batch, classes)`, also if the classifier returns probabilities or a
        single value for two classes: what methods see, and what this library's
        attacks take.
        """
        return self._network

    @in_own_scope
    def compile(  # noqa: PLR0917  The signature of Keras.
        self,
        optimizer: str | dict | keras.optimizers.Optimizer = "rmsprop",
        loss: Loss = None,
        loss_weights: LossWeights = None,
        metrics: Metrics = None,
        weighted_metrics: Metrics = None,
        run_eagerly: bool = False,
        steps_per_execution: int = 1,
        jit_compile: bool | Literal["auto"] = "auto",
        auto_scale_loss: bool = True,
        *,
        weight_decay: float = 0.0,
        weight_decay_mode: Literal["l2", "decoupled"] = "l2",
        weight_decay_on: Literal["all", "kernels"] = "all",
        clip_norm: float = 0.0,
        weight_averaging: float = 0.0,
        attack_loss: Loss = None,
        plan: Plan | None = None,
        epsilon_schedule: EpsilonSchedule | None = None,
        weight_perturbation: AdversarialWeightPerturbation | None = None,
    ) -> Self:
        """Configures the model for training.

        The first arguments, up to `auto_scale_loss`, are those of
        `keras.Model.compile`, and have the same meaning. The others are
        passed by name.

        Args:
            optimizer: A Keras optimizer or its name. The object is not
                changed. Defaults to `"rmsprop"`.
            loss: A `keras.losses.Loss`, a function of labels and predictions
                that returns a value for each example, or the name of a Keras
                loss. Its `reduction` says what is minimized. It takes what the
                classifier returns, logits or probabilities. Defaults to the
                cross-entropy that fits the labels and the classifier.
            loss_weights: Float, a factor of the loss, or a list or dict of
                one. Defaults to `None`.
            metrics: List of Keras metrics. Training computes them on the
                perturbed images, `evaluate` on the given images. `"accuracy"`
                knows whether a single output is a logit. Training also logs
                what the step reports, such as `robust_gradient_norm`; no metric
                may have such a name. Defaults to `None`.
            weighted_metrics: List of metrics that are weighted by
                `sample_weight` or `class_weight`. Defaults to `None`.
            run_eagerly: Boolean, whether to run without graphs, to debug.
                Defaults to `False`.
            steps_per_execution: Integer, the number of batches in a call of
                the training function. Defaults to `1`.
            jit_compile: Boolean or `"auto"`, whether XLA compiles the step.
                Under a distribution strategy it compiles what one replica
                computes: perturbation, loss and gradients. Defaults to
                `"auto"`, which compiles on GPUs only: on CPUs, the uncompiled
                step was measured to be faster.
            auto_scale_loss: Boolean, whether the optimizer is wrapped in a
                `keras.optimizers.LossScaleOptimizer` if a layer computes in
                float16, as in `mixed_float16`. Defaults to `True`.
            weight_decay: Float, the coefficient of the weight decay. Defaults
                to `0.0`.
            weight_decay_mode: `"l2"` adds `weight_decay * w` to the gradient,
                as PyTorch's SGD does. `"decoupled"` subtracts `learning_rate *
                weight_decay * w` from the weight, as AdamW and the
                `weight_decay` of Keras optimizers do. Defaults to `"l2"`.
            weight_decay_on: `"all"` trainable weights, or only `"kernels"`:
                no biases, and no scales or offsets of normalization layers.
                Defaults to `"all"`.
            clip_norm: Float, the largest global norm of the gradient, averaged
                over the replicas and before the L2 term. Cannot be combined
                with an optimizer that accumulates gradients. Defaults to
                `0.0`, which disables clipping.
            weight_averaging: Float in [0, 1), the decay of the moving average
                of weights and BatchNormalization statistics, updated after
                each step; see `averaged_weights`. Defaults to `0.0`, which
                disables averaging.
            attack_loss: A loss like `loss`: the loss that the attack
                maximizes, whose reduction does not matter. Defaults to `loss`.
            plan: A `fastbat_tf.Plan`, for methods that count epochs or
                remember examples, if you train without `fit`. Defaults to
                `None`: `fit` plans by itself.
            epsilon_schedule: An `EpsilonSchedule`. Defaults to `None`: every
                step uses the method's full radius.
            weight_perturbation: An `AdversarialWeightPerturbation`, at whose
                perturbed weights the gradient is taken. Defaults to `None`:
                at the weights themselves.

        Returns:
            The model itself, so that calls can be chained:
            `compile(...).fit(...)`.

        Raises:
            InputError: If a setting is out of range, or is one that training
                would not honor; or if the method differentiates twice and a
                layer of the classifier has wrong second derivatives on
                TensorFlow.

        Example:

        ```python
        robust.compile(
            keras.optimizers.SGD(0.1, momentum=0.9),
            metrics=["accuracy"],
            weight_decay=5e-4,
            weight_averaging=0.999,
        )
        ```
        """
        checks.check_averaging(weight_averaging)
        user_metrics = step_metrics.user_names(
            self._report_metrics, metrics, weighted_metrics
        )
        form = self._network.outputs
        loss = losses.as_loss("loss", loss, form)
        if attack_loss is not None:
            attack_loss = losses.as_loss("attack_loss", attack_loss, form)
        loss_weight = losses.as_weight(loss_weights)
        rule = optimizers.UpdateRule(
            weight_decay=weight_decay,
            weight_decay_mode=weight_decay_mode,
            weight_decay_on=weight_decay_on,
            clip_norm=clip_norm,
        )
        optimizer = keras.optimizers.get(optimizer)
        self._check_optimizer(optimizer, rule, steps_per_execution)
        layers = structure.flatten(self.classifier)
        checks.check_precision(self.method, layers)
        optimizer = loss_scaling.wrap(optimizer, layers, auto_scale_loss)
        self.computes_in_float16 = gradient_scaling.is_needed(layers)
        checks.check_epsilon_schedule(epsilon_schedule, self.method)
        checks.check_weight_perturbation(weight_perturbation, jit_compile)
        plan = checks.as_plan(plan)
        for hint in hints.new_hints():
            warnings.warn(hint, stacklevel=3)
        self.compiles_step = distribution.resolve_jit_compile(
            jit_compile, layers
        )
        half = structure.computing_in(layers, "float16", "bfloat16")
        half_precision.require_kernels(half, self.compiles_step)
        derivatives.refuse_silent_gaps(self)
        super().compile(
            optimizer=optimizer,
            loss=loss,
            loss_weights=loss_weight,
            metrics=prepare_metrics("metrics", metrics, form),
            weighted_metrics=prepare_metrics(
                "weighted_metrics", weighted_metrics, form
            ),
            run_eagerly=run_eagerly,
            steps_per_execution=steps_per_execution,
            # Keras would also compile `evaluate`, anew for its last batch.
            jit_compile=False,
            auto_scale_loss=auto_scale_loss,
        )
        self.user_metrics = user_metrics
        self.attack_loss = attack_loss
        self.loss_weight = loss_weight
        self.update_rule = rule
        self.given_jit_compile = jit_compile
        self.plan = plan
        self.weight_perturbation = weight_perturbation
        self._create_tracked_layers(weight_averaging, epsilon_schedule)
        self._build_step_functions()
        return self

    def _check_optimizer(self, optimizer, rule, steps_per_execution):
        """Rejects an optimizer whose settings training would not honor."""
        optimizers.check(optimizer, [self, *structure.flatten(self.classifier)])
        strategy = self.distribute_strategy
        checks.check_optimizer_scope(optimizer, strategy)
        rule.prepare(optimizer, self.trainable_variables)
        distribution.check_steps_per_execution(steps_per_execution)

    def _create_tracked_layers(self, weight_averaging, epsilon_schedule):
        """Creates the state of the training that is saved with the weights."""
        weight_average = None
        if weight_averaging:
            weight_average = WeightAverage(
                weight_averaging, self._averaged_variables
            )
        method_state = self.create_method_state()
        for name, layer in (
            ("weight_average", weight_average),
            ("epsilon_schedule", epsilon_schedule),
            ("method_state", method_state),
        ):
            # Otherwise, Keras would also save the layers of the last `compile`.
            self._tracker.untrack(getattr(self, name))
            setattr(self, name, layer)
