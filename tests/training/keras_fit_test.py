"""`fit` with the method `standard` is Keras' own `fit`, setting by setting.

Both train the same network on the same batches. Settings that cannot be equal
are refused in one line.
"""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from absl.testing import parameterized
from keras import losses, optimizers

from fastbat_tf import RobustClassifier, Standard
from fastbat_tf.errors import InputError
from tests.support import testing
from tests.support.keras_networks import (
    Scalar,
    SquaredError,
    embedded,
    half_used,
    normalized,
    regularized,
    small,
)

IMAGES, LABELS = testing.images_and_labels(8, size=4)
ONE_HOT = np.eye(4, dtype="int32")[LABELS]


WEIGHTS = np.linspace(0, 2, 8, dtype="float32")


def cross_entropy(**options):
    return losses.SparseCategoricalCrossentropy(from_logits=True, **options)


def sgd(**options):
    return lambda: optimizers.SGD(0.1, momentum=0.9, **options)


COMPILED = sgd(
    loss_scale_factor=64.0,
    gradient_accumulation_steps=2,
    use_ema=True,
    ema_overwrite_frequency=4,
)


@functools.cache
def trained_by_keras():
    return train(COMPILED, half_used, robust=False, run_eagerly=True)


def build(layers):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4, 4, 3))
    return keras.Model(inputs, layers(inputs))


def train(
    make_optimizer,
    layers=small,
    *,
    robust=True,
    loss=cross_entropy,
    labels=LABELS,
    strategy=None,
    batch_size=3,  # The last batch has two images.
    prepare=None,
    callbacks=(),
    sample_weight=None,
    **settings,
):
    """Trains for two epochs, by default of three batches each.

    Returns:
        The weights, the state of the optimizer, and the history.
    """
    strategy = strategy or tf.distribute.get_strategy()
    with strategy.scope():
        network = build(layers)
        optimizer = make_optimizer()
        if prepare is not None:
            prepare(optimizer, network)
        model = RobustClassifier(network, Standard()) if robust else network
        settings = {"metrics": ["accuracy"], "jit_compile": False} | settings
        model.compile(optimizer, loss(), **settings)
    history = model.fit(
        IMAGES,
        labels,
        batch_size=batch_size,
        epochs=2,
        shuffle=False,
        verbose=0,
        callbacks=[make() for make in callbacks],
        sample_weight=sample_weight,
    ).history
    weights = [variable.numpy() for variable in network.weights]
    return weights, [v.numpy() for v in optimizer.variables], history


class KerasFitTest(tf.test.TestCase, parameterized.TestCase):
    def assert_same(self, ours, theirs):
        """Measured differences: none, or 1.2e-7 with XLA."""
        for one, two in zip(
            ours[0] + ours[1], theirs[0] + theirs[1], strict=True
        ):
            self.assertAllClose(one, two, 1e-6, 1e-6)
        for name, values in theirs[2].items():
            self.assertAllClose(ours[2][name], values, 1e-6, 1e-6, msg=name)
        start = [v.numpy() for v in build(small).weights]
        self.assertNotAllClose(ours[0][-2], start[-2], 1e-3, 1e-3)

    @parameterized.named_parameters(
        ("plain", sgd(nesterov=True)),
        ("name", sgd(name="mine")),
        ("callable", lambda: optimizers.Nadam(lambda: 0.01)),
        (
            "schedule",
            lambda: optimizers.Adam(
                optimizers.schedules.ExponentialDecay(0.1, 1, 0.5)
            ),
        ),
        ("clipnorm", sgd(clipnorm=0.01)),
        ("clipvalue", sgd(clipvalue=0.01)),
        ("global_clipnorm", sgd(global_clipnorm=0.1)),
        ("weight_decay", lambda: optimizers.AdamW(0.1, weight_decay=0.3)),
        ("decay_in_muon", lambda: optimizers.Muon(0.01)),
        ("use_ema", sgd(use_ema=True, ema_momentum=0.7)),
        (
            "ema_overwrite_frequency",
            lambda: optimizers.Lion(
                0.01, use_ema=True, ema_momentum=0.7, ema_overwrite_frequency=4
            ),
        ),
        ("loss_scale_factor", sgd(loss_scale_factor=1024.0)),
        (
            "scaled_and_clipped",
            lambda: optimizers.Adadelta(
                1.0, loss_scale_factor=1000.0, clipnorm=0.1
            ),
        ),
        (
            "scaled_and_accumulated",
            sgd(loss_scale_factor=64.0, gradient_accumulation_steps=4),
        ),
        (
            "gradient_accumulation_steps",
            lambda: optimizers.Adafactor(0.1, gradient_accumulation_steps=2),
        ),
        (
            "all",
            sgd(
                # Optimizers such as Lamb would hide a wrong gradient scale.
                weight_decay=0.3,
                global_clipnorm=0.1,
                use_ema=True,
                ema_momentum=0.7,
                ema_overwrite_frequency=2,
                loss_scale_factor=1024.0,
                gradient_accumulation_steps=2,
            ),
        ),
    )
    def test_optimizer(self, make_optimizer):
        self.assert_same(
            train(make_optimizer, run_eagerly=True),
            train(make_optimizer, run_eagerly=True, robust=False),
        )

    @parameterized.named_parameters(
        ("statistics", normalized, sgd(gradient_accumulation_steps=2)),
        ("regularizers_dropout_frozen", regularized, sgd(weight_decay=0.1)),
        # With a zero gradient instead of None, the weight would decay.
        ("unused", half_used, lambda: optimizers.Ftrl(0.1)),
        ("unused_decay", half_used, sgd(weight_decay=0.5)),
        ("sparse", embedded, lambda: optimizers.Adam(0.1)),
    )
    def test_network(self, layers, make_optimizer):
        self.assert_same(
            train(make_optimizer, layers, run_eagerly=True),
            train(make_optimizer, layers, robust=False, run_eagerly=True),
        )

    @parameterized.named_parameters(
        ("weighted_metrics", {"weighted_metrics": ["accuracy"]}),
        ("metrics_by_output", {"metrics": {"dense": ["accuracy"]}}),
        ("mean", {"loss": lambda: cross_entropy(reduction="mean")}),
        (
            "mean_with_sample_weight",
            {
                "loss": lambda: cross_entropy(
                    reduction="mean_with_sample_weight"
                )
            },
        ),
        ("custom_loss", {"loss": SquaredError, "labels": ONE_HOT}),
        (
            "swapped_averages",
            {
                "make_optimizer": sgd(use_ema=True, ema_momentum=0.5),
                "callbacks": [
                    lambda: keras.callbacks.SwapEMAWeights(swap_on_epoch=True)
                ],
            },
        ),
    )
    def test_compile(self, settings):
        settings = {
            "make_optimizer": sgd(),
            "run_eagerly": True,
            **settings,
        }
        self.assert_same(train(**settings), train(**settings, robust=False))

    @parameterized.product(kernels=(False, True), steps=(None, 2))
    def test_decoupled_weight_decay(self, kernels, steps):
        """It equals Keras' decay, though the optimizer is not changed."""

        def exclude(optimizer, network):
            if kernels:
                biases = [v for v in network.weights if len(v.shape) == 1]
                optimizer.exclude_from_weight_decay(biases)

        ours = train(
            sgd(gradient_accumulation_steps=steps),
            half_used,
            weight_decay=0.5,
            weight_decay_mode="decoupled",
            weight_decay_on="kernels" if kernels else "all",
            run_eagerly=True,
        )
        theirs = train(
            sgd(gradient_accumulation_steps=steps, weight_decay=0.5),
            half_used,
            robust=False,
            prepare=exclude,
            run_eagerly=True,
        )
        self.assert_same(ours, theirs)

    @parameterized.named_parameters(
        ("graph", {}),
        ("steps_per_execution", {"steps_per_execution": 2}),
        ("xla", {"jit_compile": True}),
        ("auto", {"jit_compile": "auto"}),
    )
    def test_compiled(self, settings):
        self.assert_same(
            train(COMPILED, half_used, **settings), trained_by_keras()
        )

    @parameterized.parameters("sum_over_batch_size", "sum", "none")
    # `training_step_test.py` has replicas and a sum.
    @pytest.mark.quick("sum_over_batch_size")
    def test_two_replicas(self, reduction):
        make_optimizer = sgd(
            loss_scale_factor=64.0, use_ema=True, weight_decay=0.1
        )
        settings = {
            "strategy": testing.two_cpu_strategy(),
            "batch_size": 4,
            "loss": lambda: cross_entropy(reduction=reduction),
            "sample_weight": WEIGHTS,
        }
        self.assert_same(
            train(make_optimizer, **settings),
            train(make_optimizer, **settings, robust=False),
        )

    def test_compiled_again(self):
        """The caller's optimizer is not changed, even if it is built."""
        network = build(small)
        robust = RobustClassifier(network, Standard())
        optimizer = optimizers.SGD(1.0)
        sizes = []
        for decay in (0.25, 0.5):
            robust.compile(
                optimizer,
                weight_decay=decay,
                weight_decay_mode="decoupled",
                weight_decay_on="kernels",
                weight_averaging=0.5,
                run_eagerly=True,
            )
            before = [v.numpy() for v in network.weights]
            gradients = [tf.zeros_like(v) for v in before]
            robust.apply_gradients(gradients)
            kernel, bias = network.weights
            self.assertAllClose(kernel, (1 - decay) * before[0])
            self.assertAllEqual(bias, before[1])
            self.assertIsNone(optimizer.weight_decay)
            sizes.append(len(robust.variables))
        # What the first `compile` has created is gone.
        self.assertEqual(*sizes)

    def test_refused(self):
        cases = (
            (
                {
                    "optimizer": sgd(gradient_accumulation_steps=4)(),
                    "clip_norm": 1.0,
                },
                "clip_norm=1.0, optimizer.gradient_accumulation_steps=4$",
            ),
            ({"optimizer": None}, "optimizer=None$"),
            (
                {"optimizer": optimizers.Muon(0.1), "weight_decay": 0.1},
                "weight_decay=0.1, optimizer.weight_decay=0.004$",
            ),
            (
                {
                    "optimizer": optimizers.Muon(0.1, weight_decay=None),
                    "weight_decay": 0.1,
                },
                "weight_decay=0.1, optimizer.adam_weight_decay=0.004$",
            ),
            (
                {
                    "optimizer": optimizers.SGD(0.1, weight_decay=0.1),
                    "weight_decay": 0.1,
                    "weight_decay_mode": "decoupled",
                    "weight_decay_on": "kernels",
                },
                "weight_decay=0.1, optimizer.weight_decay=0.1$",
            ),
            ({"loss": cross_entropy(dtype="bfloat16")}, "dtype=bfloat16$"),
            ({"attack_loss": cross_entropy(dtype="float16")}, "=float16$"),
            ({"loss_weights": [2.0, 1.0]}, r"loss_weights=\[2.0, 1.0\]$"),
            ({"loss": "nonsense"}, "loss=nonsense$"),
            ({"loss": {"a": cross_entropy(), "b": "mse"}}, r"loss=\{.*\}$"),
            ({"loss": losses.KLDivergence()}, "from_logits=False$"),
        )
        robust = RobustClassifier(build(small), Standard())
        for settings, message in cases:
            with self.assertRaisesRegex(InputError, f"^[^\n]*{message}"):
                robust.compile(**settings)
            self.assertFalse(robust.compiled)
        # The attack's loss is not reduced, so any reduction is fine.
        robust.compile(attack_loss=cross_entropy(reduction="sum"))

    def test_refused_in_the_first_step(self):
        robust = RobustClassifier(build(small), Standard())
        robust.compile(loss=Scalar(name="mine"), run_eagerly=True)
        with self.assertRaisesRegex(
            InputError, r"loss=mine, which .* shape \(\)$"
        ):
            robust.fit(IMAGES, ONE_HOT, verbose=0)
        robust.trainable = False
        with self.assertRaisesRegex(InputError, "=functional.*with none$"):
            robust.fit(IMAGES, LABELS, verbose=0)

    def test_half_precision_is_refused(self):
        half = keras.layers.Dense(4, dtype="mixed_float16", name="half")
        networks = (
            build(lambda x: half(keras.layers.Flatten()(x))),
            build(small),
        )
        for network, policy in zip(
            networks, ("float32", "mixed_float16"), strict=True
        ):
            robust = RobustClassifier(network, Standard(), dtype=policy)
            with self.assertRaisesRegex(InputError, "layer=.* in float16$"):
                robust.compile()

    def test_what_keras_cannot_on_replicas_is_refused(self):
        with testing.two_cpu_strategy().scope():
            robust = RobustClassifier(build(small), Standard())
            cases = (
                sgd(gradient_accumulation_steps=2)(),
                sgd(use_ema=True, ema_overwrite_frequency=2)(),
            )
        for optimizer in cases:
            # Outside of the scope, too.
            with self.assertRaisesRegex(InputError, "^.*on 2 replicas.*=2$"):
                robust.compile(optimizer)


if __name__ == "__main__":
    tf.test.main()
