"""The Keras model that trains, saves and serves a robust classifier."""

import dataclasses
import warnings
from typing import Any

import keras

from fastbat_tf import distribution
from fastbat_tf.draws import Draws
from fastbat_tf.errors import InputError
from fastbat_tf.layers import conversion, derivatives
from fastbat_tf.methods import state as states
from fastbat_tf.methods.step import split_index
from fastbat_tf.runtime import hints, onednn
from fastbat_tf.training import (
    checks,
    loading,
    losses,
    optimizers,
    schedules,  # noqa: F401  Registers what Keras finds in saved files.
)
from fastbat_tf.training.epsilon_schedule import (
    EpsilonSchedule,  # noqa: F401  Registered, too.
)
from fastbat_tf.training.lifecycle import Lifecycle, in_own_scope
from fastbat_tf.training.training_step import TrainingStep
from fastbat_tf.training.weight_averaging import WeightAverage


@keras.saving.register_keras_serializable("fastbat_tf")
class RobustClassifier(Lifecycle, TrainingStep):
    """Trains a Keras classifier with an adversarial-training method.

    ```
    minimize over theta  mean loss(theta, x + delta*(theta))
    ```

    where `delta*` solves the method's lower-level problem. In inference, the
    model returns the logits of the classifier.

    The classifier takes images in `pixel_range` and returns logits. Any
    normalization belongs in its first layer. Radii and step sizes of the method
    are fractions of the range: methods see images in [0, 1], and the classifier
    is evaluated at `low + (high - low) * x`.

    On x86 CPUs without AVX-512 VNNI, TensorFlow leaves its faster convolutions
    (oneDNN) off. Set `TF_ENABLE_ONEDNN_OPTS=1` before importing TensorFlow to
    turn them on. `compile` warns once if they are off, or if the machine has
    an NVIDIA GPU that TensorFlow cannot use.

    Args:
        classifier: A built `keras.Model` from images `(batch, height, width,
            channels)` to logits `(batch, classes)`. If the method
            differentiates twice, its Keras BatchNormalization layers are
            replaced, with a warning, by layers that share their weights and
            have correct second derivatives. The attribute `classifier` is the
            resulting model.
        method: A `fastbat_tf.methods.base.Method`, such as `FastBAT(8 / 255)`.
        seed: Integer, the seed of the method's random draws. Defaults to `0`.
        pixel_range: Pair of floats, the lowest and highest pixel value that
            the classifier takes, such as `(0, 255)` for a model of
            `keras.applications`. `fit`, `evaluate` and `predict` reject images
            outside of it. Defaults to `(0, 1)`.
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
            distribution strategy; if it has a layer whose second derivatives
            are wrong and that cannot be replaced, or one in which oneDNN would
            write to the wrong memory; if `method` is not a `Method`, `seed` not
            an integer or `pixel_range` not a range.

    Example:

    ```python
    robust = RobustClassifier(model, FastBAT(epsilon=8 / 255))
    robust.compile(keras.optimizers.SGD(0.1, momentum=0.9), weight_decay=5e-4)
    robust.fit(images, labels, batch_size=128, epochs=20)
    ```

    With uint8 pixels and a classifier that rescales them itself:

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
        checks.check_classifier(classifier)
        checks.check_method(method)
        super().__init__(pixel_range, **kwargs)
        if method.differentiates_twice:
            classifier = conversion.make_twice_differentiable(classifier)
        onednn.guard(conversion.flatten(classifier))
        self.classifier = classifier
        self.method = method
        self.seed = checks.as_seed(seed)
        self.weight_average = self.epsilon_schedule = None
        self.method_state: Any = None
        needed = method.needs_features
        self.features = (
            conversion.before_last_dense(classifier) if needed else None
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

        A callable `network(images, training=...)` that returns logits
        `(batch, classes)`: what methods see, and what this library's attacks
        take. If `pixel_range` is [0, 1], it is the classifier itself.
        """
        return self._pixel_range.wrap(self.classifier)

    @in_own_scope
    def compile(
        self,
        optimizer: str | dict | keras.optimizers.Optimizer = "sgd",
        loss=None,
        metrics=("accuracy",),
        *,
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
        """Configures the model for training.

        Args:
            optimizer: A Keras optimizer or its name. Its settings have the
                same meaning as in `keras.Model.fit`, and the object is not
                changed. Defaults to `"sgd"`.
            loss: A `keras.losses.Loss` that takes logits, such as
                `CategoricalCrossentropy(from_logits=True)` for one-hot labels.
                Its mean over the examples is minimized. Defaults to
                cross-entropy with integer labels.
            metrics: List of Keras metrics of the logits. Training computes
                them on the perturbed images, `evaluate` on the given images.
                Defaults to `("accuracy",)`.
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
                maximizes. Defaults to `loss`.
            plan: A `fastbat_tf.Plan`, for methods that count epochs or
                remember examples. Defaults to `None`.
            epsilon_schedule: An `EpsilonSchedule`. Defaults to `None`: every
                step uses the method's full radius.
            jit_compile: Boolean or `"auto"`, whether XLA compiles the step.
                Under a distribution strategy it compiles what one replica
                computes: perturbation, loss and gradients. Defaults to
                `"auto"`, which compiles on GPUs only: on CPUs, the uncompiled
                step was measured to be faster.
            **kwargs: Other arguments of `keras.Model.compile`.

        Returns:
            The model itself, so that calls can be chained:
            `compile(...).fit(...)`.

        Raises:
            InputError: If a setting is out of range, or is one that training
                would not honor; or if the method differentiates twice and
                TensorFlow treats a second derivative of the classifier as
                zero.

        Example:

        ```python
        robust.compile(
            keras.optimizers.SGD(0.1, momentum=0.9),
            weight_decay=5e-4,
            weight_averaging=0.999,
        )
        ```
        """
        loss = losses.get("crossentropy") if loss is None else loss
        _check_settings(loss, attack_loss, weight_averaging, kwargs)
        rule = optimizers.UpdateRule(
            weight_decay=weight_decay,
            weight_decay_mode=weight_decay_mode,
            weight_decay_on=weight_decay_on,
            clip_norm=clip_norm,
        )
        optimizer = keras.optimizers.get(optimizer)
        self._check_optimizer(
            optimizer, rule, kwargs.get("steps_per_execution", 1)
        )
        checks.check_epsilon_schedule(epsilon_schedule)
        plan = checks.as_plan(plan)
        self.attack_loss = attack_loss
        self.update_rule = rule
        for hint in hints.new_hints():
            warnings.warn(hint, stacklevel=3)
        self.given_jit_compile = jit_compile
        self.compiles_step = distribution.resolve_jit_compile(jit_compile)
        derivatives.refuse_silent_gaps(self)
        super().compile(
            optimizer=optimizer,
            loss=loss,
            metrics=list(metrics)
            if isinstance(metrics, tuple)
            else metrics or [],
            # Keras would also compile `evaluate`, anew for its last batch.
            jit_compile=False,
            **kwargs,
        )
        self.plan = plan
        self._create_tracked_layers(weight_averaging, epsilon_schedule)
        self._build_step_functions()
        return self

    def _check_optimizer(self, optimizer, rule, steps_per_execution):
        """Rejects an optimizer whose settings training would not honor."""
        optimizers.check(
            optimizer, [self, *conversion.flatten(self.classifier)]
        )
        strategy = self.distribute_strategy
        checks.check_optimizer_scope(optimizer, strategy)
        rule.prepare(optimizer, self.trainable_variables)
        distribution.check_steps_per_execution(
            steps_per_execution, strategy.num_replicas_in_sync
        )

    def _create_tracked_layers(self, weight_averaging, epsilon_schedule):
        """Creates the state of the training that is saved with the weights."""
        weight_average = None
        if weight_averaging:
            weight_average = WeightAverage(
                weight_averaging, self._averaged_variables
            )
        method_state = states.create(
            method=self.method,
            classifier=self.classifier,
            features=self.features,
            plan=self.plan,
            draws=Draws(self.seed, 0),
        )
        for name, layer in (
            ("weight_average", weight_average),
            ("epsilon_schedule", epsilon_schedule),
            ("method_state", method_state),
        ):
            # Otherwise, Keras would also save the layers of the last `compile`.
            self._tracker.untrack(getattr(self, name))
            setattr(self, name, layer)

    def averaged_weights(self):
        """Swaps in the averaged weights for the length of a `with` block.

        They are the moving average that `compile(weight_averaging=...)` keeps,
        including the moving statistics of BatchNormalization layers.

        Returns:
            A context manager.

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
        # Integers, such as counters, are not averaged.
        return [v for v in self.classifier.weights if v.value.dtype.is_floating]

    def get_config(self):
        return {
            **super().get_config(),
            "classifier": keras.saving.serialize_keras_object(self.classifier),
            "method": loading.serialize_method(self.method),
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
        self.compile(**loading.deserialize(config))
        self.optimizer.build(self.trainable_variables)

    @classmethod
    def from_config(cls, config, custom_objects=None):
        config = dict(config)
        config["classifier"] = loading.deserialize(
            config["classifier"], custom_objects
        )
        config["method"] = loading.deserialize_method(
            config["method"], custom_objects
        )
        return cls(**config)


def _check_settings(loss, attack_loss, weight_averaging, kwargs):
    """Rejects arguments of `compile` that training would not honor."""
    losses.check("loss", loss)
    if attack_loss is not None:
        losses.check("attack_loss", attack_loss)
    if kwargs.get("loss_weights") is not None:
        raise InputError(
            "`loss_weights` is not supported; expected None. "
            f"Received: loss_weights={kwargs['loss_weights']}"
        )
    if not 0 <= weight_averaging < 1:
        raise InputError(
            "`weight_averaging` is expected in [0, 1). "
            f"Received: weight_averaging={weight_averaging}"
        )
