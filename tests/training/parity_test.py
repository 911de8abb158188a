"""`RobustClassifier(network, Standard())` trains exactly as Keras does.

Both train clones of a network for two epochs. Weights, the optimizer's state,
the history, `evaluate` and `predict` agree up to rounding in float32. Most are
equal to the last bit; the largest difference that was measured is 9e-8.
"""

import functools

import numpy as np
import pytest
import tensorflow as tf
from absl.testing import parameterized
from keras import losses, optimizers

from fastbat_tf import RobustClassifier, Standard
from fastbat_tf.errors import InputError
from tests.support import parity, parity_networks
from tests.support.keras_networks import SquaredError
from tests.support.parity import sgd

TOLERANCE = 2e-6
SPARSE = functools.partial(
    losses.SparseCategoricalCrossentropy, from_logits=True
)
CATEGORICAL = functools.partial(losses.CategoricalCrossentropy)


def squared(y_true, y_pred):
    """A plain function: a value for each example."""
    return tf.reduce_sum((y_true - y_pred) ** 2, -1)


def by_class(y_true, y_pred):
    """A plain function: a value for each example and class."""
    return (y_true - y_pred) ** 2


# Losses of the labels, by name.
LOGITS_LOSSES = {
    "integers": (parity.INTEGERS, SPARSE()),
    "column": (parity.INTEGERS[:, None], SPARSE()),
    "floats": (parity.INTEGERS.astype("float32"), SPARSE()),
    "ignored_class": (parity.INTEGERS, SPARSE(ignore_class=1)),
    "one_hot": (parity.ONE_HOT, CATEGORICAL(from_logits=True)),
    "integer_one_hot": (
        parity.ONE_HOT.astype("int64"),
        CATEGORICAL(from_logits=True),
    ),
    "smoothed": (parity.SMOOTHED, CATEGORICAL(from_logits=True)),
    "label_smoothing": (
        parity.ONE_HOT,
        CATEGORICAL(from_logits=True, label_smoothing=0.3),
    ),
    "focal": (
        parity.ONE_HOT,
        losses.CategoricalFocalCrossentropy(from_logits=True),
    ),
    "hinge": (parity.ONE_HOT, losses.CategoricalHinge()),
    "hinge_name": (parity.ONE_HOT, "categorical_hinge"),
    "squared_name": (parity.ONE_HOT, "mse"),
    "squared_error": (parity.ONE_HOT, losses.MeanSquaredError()),
    "huber": (parity.ONE_HOT, losses.Huber(0.1)),
    "subclass": (parity.ONE_HOT, SquaredError()),
    "function": (parity.ONE_HOT, squared),
    "function_by_class": (parity.ONE_HOT, by_class),
    "cosine": (parity.ONE_HOT, losses.CosineSimilarity()),
}
PROBABILITIES_LOSSES = {
    "sparse_name": (parity.INTEGERS, "sparse_categorical_crossentropy"),
    "categorical_name": (parity.ONE_HOT, "categorical_crossentropy"),
    "sparse": (parity.INTEGERS, losses.SparseCategoricalCrossentropy()),
    "smoothed": (parity.SMOOTHED, CATEGORICAL(label_smoothing=0.1)),
    "divergence": (parity.SMOOTHED, losses.KLDivergence()),
    "divergence_name": (parity.SMOOTHED, "kl_divergence"),
    "focal": (parity.ONE_HOT, losses.CategoricalFocalCrossentropy()),
    "squared": (parity.ONE_HOT, "mean_squared_error"),
    "poisson": (parity.ONE_HOT, losses.Poisson()),
    "generalized": (
        parity.INTEGERS,
        losses.CategoricalGeneralizedCrossEntropy(),
    ),
    "function": (parity.ONE_HOT, squared),
}
BINARY_LOSSES = {
    "logit": ("logit", losses.BinaryCrossentropy(from_logits=True)),
    "logit_smoothing": (
        "logit",
        losses.BinaryCrossentropy(from_logits=True, label_smoothing=0.2),
    ),
    "logit_focal": (
        "logit",
        losses.BinaryFocalCrossentropy(from_logits=True, gamma=1.0),
    ),
    "logit_squared": ("logit", "mse"),
    "logit_hinge": ("logit", "hinge"),
    "sigmoid": ("sigmoid", "binary_crossentropy"),
    "sigmoid_focal": ("sigmoid", losses.BinaryFocalCrossentropy()),
    "sigmoid_squared": ("sigmoid", losses.MeanSquaredError()),
}
OPTIMIZERS = {
    "sgd": lambda: optimizers.SGD(0.1),
    "name": lambda: "rmsprop",
    "config": lambda: optimizers.serialize(optimizers.SGD(0.1)),
    "nesterov": sgd(nesterov=True),
    "adam": lambda: optimizers.Adam(0.01, amsgrad=True),
    "adamw": lambda: optimizers.AdamW(0.01, weight_decay=0.1),
    "lion": lambda: optimizers.Lion(0.01),
    "rmsprop": lambda: optimizers.RMSprop(0.01, centered=True),
    "lamb": lambda: optimizers.Lamb(0.01),
    "schedule": lambda: optimizers.Adam(
        optimizers.schedules.PiecewiseConstantDecay([2, 4], [0.1, 0.01, 0.02])
    ),
    "weight_decay": sgd(weight_decay=0.1),
    "clipnorm": sgd(clipnorm=0.05),
    "clipvalue": sgd(clipvalue=0.01),
    "global_clipnorm": sgd(global_clipnorm=0.1),
    "use_ema": sgd(use_ema=True, ema_momentum=0.6),
    "ema_overwrite_frequency": sgd(
        use_ema=True, ema_momentum=0.6, ema_overwrite_frequency=2
    ),
    "loss_scale_factor": sgd(loss_scale_factor=256.0),
    "gradient_accumulation_steps": sgd(gradient_accumulation_steps=2),
    "clipped_and_accumulated": sgd(
        gradient_accumulation_steps=2, clipnorm=0.05, weight_decay=0.1
    ),
}
REDUCTIONS = ("sum", "mean", "mean_with_sample_weight", "none", None)


class ParityTest(tf.test.TestCase, parameterized.TestCase):
    def compare(self, make, **settings):
        parity.compare(self, TOLERANCE, make, **settings)

    @parameterized.parameters(*parity_networks.LOGITS)
    # Each way in which a step treats weights: a pass writes them, they are
    # penalized or constrained, or their gradient is None, sparse or a sum.
    @pytest.mark.quick(
        "batch_normalization",
        "regularizers",
        "constraint",
        "unused_weight",
        "sparse_gradient",
        "spectral_normalization",
        "shared_layer",
        "subclassed",
    )
    def test_logits(self, name):
        self.compare(parity_networks.LOGITS[name], loss=SPARSE())

    @parameterized.parameters(*parity_networks.PROBABILITIES)
    def test_probabilities(self, name):
        self.compare(parity_networks.PROBABILITIES[name])

    @parameterized.parameters(*LOGITS_LOSSES)
    # Each kind of label, and each way to name a loss. The formulas are those
    # of Keras. `test_class_weight` has columns and smoothed labels.
    @pytest.mark.quick(
        "floats",
        "ignored_class",
        "integer_one_hot",
        "label_smoothing",
        "hinge_name",
        "function",
        "function_by_class",
        "subclass",
    )
    def test_loss_of_logits(self, name):
        labels, loss = LOGITS_LOSSES[name]
        self.compare(parity_networks.CONVOLUTION, labels=labels, loss=loss)

    @parameterized.parameters(*PROBABILITIES_LOSSES)
    # Each kind of label, and each way to name a loss.
    @pytest.mark.quick(
        "sparse_name",
        "categorical_name",
        "divergence",
        "generalized",
        "function",
    )
    def test_loss_of_probabilities(self, name):
        labels, loss = PROBABILITIES_LOSSES[name]
        self.compare(parity_networks.SOFTMAX, labels=labels, loss=loss)

    @parameterized.product(name=list(BINARY_LOSSES), column=(False, True))
    # Both outputs with both shapes of labels, and each kind of loss.
    @pytest.mark.quick(
        "logit False",
        "sigmoid True",
        "logit_smoothing True",
        "logit_hinge False",
        "sigmoid_focal False",
    )
    def test_binary(self, name, column):
        kind, loss = BINARY_LOSSES[name]
        labels = parity.BINARY[:, None] if column else parity.BINARY
        self.compare(
            parity_networks.BINARY[kind],
            labels=labels,
            loss=loss,
            # For `"accuracy"`, Keras compares a logit with 0.5.
            compiled={"metrics": ["mae"]},
        )

    @parameterized.parameters(*OPTIMIZERS)
    @pytest.mark.slow
    def test_optimizer(self, name):
        self.compare(
            parity_networks.LOGITS["unused_weight"],
            loss=SPARSE(),
            optimizer=OPTIMIZERS[name],
        )

    @parameterized.product(
        reduction=REDUCTIONS,
        weights=(None, "sample_weight", "class_weight", "elements"),
    )
    @pytest.mark.slow
    def test_reduction(self, reduction, weights):
        if weights == "elements" and reduction in ("none", None):
            return  # Refused, see below.
        fit, loss, labels = {}, SPARSE(reduction=reduction), parity.INTEGERS
        if weights == "sample_weight":
            fit = {"sample_weight": parity.WEIGHTS}
        if weights == "class_weight":
            fit = {"class_weight": parity.CLASS_WEIGHT}
        if weights == "elements":  # A value for each example and class.
            loss, labels = SquaredError(reduction=reduction), parity.ONE_HOT
            fit = {"sample_weight": parity.WEIGHTS[:, None]}
        # Keras cannot add an unreduced loss to those of layers.
        unreduced = reduction in ("none", None)
        name = "convolution" if unreduced else "regularizers"
        self.compare(
            parity_networks.LOGITS[name],
            labels=labels,
            loss=loss,
            optimizer=lambda: optimizers.SGD(0.01),
            compiled={"weighted_metrics": ["accuracy"]},
            # Without a reduction, Keras needs batches of one size.
            batch_size=8,
            **fit,
        )

    def test_values_of_classes_are_expected_to_be_reduced(self):
        robust = RobustClassifier(parity_networks.CONVOLUTION(), Standard())
        robust.compile("sgd", SquaredError(reduction="none"))
        with self.assertRaisesRegex(InputError, "Received: loss=squared_error"):
            robust.train_on_batch(parity.IMAGES, parity.ONE_HOT)

    @parameterized.named_parameters(
        ("column", parity.WEIGHTS[:, None]),
        ("integers", (4 * parity.WEIGHTS).astype("int32")),
        ("first_batch_is_zero", np.float32([0] * 6 + [1] * 10)),
    )
    def test_sample_weight(self, weights):
        self.compare(
            parity_networks.CONVOLUTION,
            loss=SPARSE(),
            sample_weight=weights,
            compiled={"weighted_metrics": ["accuracy"]},
        )

    @parameterized.parameters("one_hot", "smoothed", "column")
    def test_class_weight(self, name):
        labels, loss = LOGITS_LOSSES[name]
        self.compare(
            parity_networks.CONVOLUTION,
            labels=labels,
            loss=loss,
            class_weight=parity.CLASS_WEIGHT,
        )

    @parameterized.named_parameters(
        ("graph", {"run_eagerly": False}),
        ("xla", {"run_eagerly": False, "jit_compile": True}),
        (
            "steps_per_execution",
            {"run_eagerly": False, "compiled": {"steps_per_execution": 2}},
        ),
    )
    # `contract_test.py` compares graphs and XLA.
    @pytest.mark.quick("graph", "steps_per_execution")
    def test_compiled(self, settings):
        self.compare(
            parity_networks.PROBABILITIES["softmax_subclassed"],
            sample_weight=parity.WEIGHTS,
            **settings,
        )


if __name__ == "__main__":
    tf.test.main()
