"""Networks, labels, losses, data and policies, for one step of each."""

from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from keras import layers, losses

from tests.support import golden_network
from tests.support.plain_steps import Problem

COUNT, SIZE, CLASSES = 6, 4, 3
RANDOM = np.random.default_rng(5)
# Steps of 1/256, so that all dtypes and ranges hold the same pixels.
LEVELS = RANDOM.integers(0, 256, (COUNT, SIZE, SIZE, 3))
IDS = RANDOM.integers(0, CLASSES, COUNT)
ONE_HOT = np.eye(CLASSES)[IDS]
SMOOTHED = 0.7 * ONE_HOT + 0.1
BINARY = RANDOM.integers(0, 2, COUNT)
WEIGHTS = RANDOM.uniform(0.2, 2, COUNT).astype("float32")


class Recorder(layers.Layer):
    """Keeps the pixels that enter the network, in eager mode."""

    def __init__(self, seen, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.record = seen.append  # Keras copies lists.

    def call(self, x):
        if tf.executing_eagerly() and x.shape[0] == COUNT:
            self.record(tf.cast(x, "float64").numpy())
        return x


def _tanh(x):
    return layers.Conv2D(2, 3, activation="tanh")(x)


def _normalized(normalization):
    def body(x):
        x = layers.Conv2D(4, 3, use_bias=False)(x)
        return layers.Activation("softplus")(normalization()(x))

    return body


def _regularized(x):
    regularizers = keras.regularizers
    return layers.Conv2D(
        2,
        3,
        activation="tanh",
        kernel_regularizer=regularizers.L2(0.1),
        activity_regularizer=regularizers.L2(0.1),
    )(x)


def _frozen(x):
    x = layers.BatchNormalization(trainable=False)(_tanh(x))
    return layers.Conv2D(2, 1, trainable=False)(x)


def _nested(x):
    inner = keras.Sequential([layers.Conv2D(3, 3), layers.BatchNormalization()])
    return layers.Activation("tanh")(keras.Sequential([inner])(x))


BODIES = {
    "plain": _tanh,
    "batch": _normalized(layers.BatchNormalization),
    "layer": _normalized(layers.LayerNormalization),
    "group": _normalized(lambda: layers.GroupNormalization(groups=2)),
    "rms": _normalized(layers.RMSNormalization),
    "regularized": _regularized,
    "frozen": _frozen,
    "nested": _nested,
}


class Subclassed(keras.Model):
    def __init__(self, parts, head):
        super().__init__()
        self.parts, self.head = parts, head

    def call(self, x, training=None):
        for part in self.parts:
            x = part(x, training=training)
        return self.head(x)


class Case(NamedTuple):
    """One combination.

    Attributes:
        labels: Array, what `train_on_batch` takes.
        loss: What `compile` takes.
        plain: Function from what the network returns to losses, in float64.
        body, head, subclassed: The network; the head is `"logits"`,
            `"softmax"`, `"softmax_layer"`, `"logit"` or `"sigmoid"`.
        range: The `pixel_range`.
        dtype: The dtype of the images.
        policy: The dtype policy of the network.
        attack: The `attack_loss`, with its function in float64, or None.
        weights: The weights of the examples.
        compiled: Further arguments of `compile`.
    """

    labels: Any
    loss: Any
    plain: Any
    body: str = "plain"
    head: str = "logits"
    subclassed: bool = False
    range: Any = (0, 1)
    dtype: str = "float32"
    policy: str = "float32"
    attack: Any = None
    weights: Any = None
    compiled: Any = {"run_eagerly": True}  # noqa: RUF012


# Losses in float64, of what the network returns.
def of_logits(targets):
    return lambda z: -tf.reduce_sum(targets * tf.nn.log_softmax(z), -1)


def of_probabilities(targets):
    return lambda p: -tf.reduce_sum(targets * tf.math.log(p), -1)


def squared(targets):
    return lambda y: tf.reduce_mean((targets - y) ** 2, -1)


def divergence(targets):
    return lambda p: tf.reduce_sum(targets * tf.math.log(targets / p), -1)


def focal(targets):
    return lambda p: tf.reduce_sum(
        -0.25 * (1 - p) ** 2 * targets * tf.math.log(p), -1
    )


def of_logit(z):
    sign = 1.0 - 2.0 * BINARY
    return tf.math.softplus(sign * z[:, 0])


def of_sigmoid(p):
    return -tf.math.log(tf.where(BINARY == 1, p[:, 0], 1 - p[:, 0]))


SPARSE = losses.SparseCategoricalCrossentropy(from_logits=True)
CATEGORICAL = losses.CategoricalCrossentropy(from_logits=True)
BINARY_LOGIT = losses.BinaryCrossentropy(from_logits=True)
LOGITS = IDS, SPARSE, of_logits(ONE_HOT)
SOFTMAX = IDS, "sparse_categorical_crossentropy", of_probabilities(ONE_HOT)
LOGIT = BINARY, BINARY_LOGIT, of_logit
SIGMOID = BINARY[:, None], "binary_crossentropy", of_sigmoid

CASES = {
    # Models.
    **{f"body_{name}": Case(*LOGITS, body=name) for name in BODIES},
    **{
        f"exact_{name}": Case(*LOGITS, body=name, policy="float64")
        for name in ("batch", "layer", "group", "nested")
    },
    "subclassed": Case(*LOGITS, body="batch", subclassed=True),
    "subclassed_softmax": Case(
        *SOFTMAX, body="layer", head="softmax", subclassed=True
    ),
    "softmax": Case(*SOFTMAX, head="softmax", body="batch"),
    "softmax_layer": Case(*SOFTMAX, head="softmax_layer"),
    "softmax_float64": Case(*SOFTMAX, head="softmax", policy="float64"),
    "logit": Case(*LOGIT, head="logit", body="batch"),
    "logit_float64": Case(*LOGIT, head="logit", policy="float64"),
    "sigmoid": Case(*SIGMOID, head="sigmoid", body="batch"),
    "sigmoid_float64": Case(*SIGMOID, head="sigmoid", policy="float64"),
    # Labels.
    "column": Case(IDS[:, None], SPARSE, of_logits(ONE_HOT)),
    "float_labels": Case(IDS.astype("float32"), SPARSE, of_logits(ONE_HOT)),
    "one_hot": Case(ONE_HOT, CATEGORICAL, of_logits(ONE_HOT)),
    "uint8_one_hot": Case(
        ONE_HOT.astype("uint8"), CATEGORICAL, of_logits(ONE_HOT)
    ),
    "smoothed": Case(SMOOTHED, CATEGORICAL, of_logits(SMOOTHED)),
    "default_integers": Case(IDS, None, of_logits(ONE_HOT)),
    "default_smoothed": Case(SMOOTHED, None, of_logits(SMOOTHED)),
    "default_sigmoid": Case(BINARY, None, of_sigmoid, head="sigmoid"),
    # Losses.
    "label_smoothing": Case(
        ONE_HOT,
        losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.3),
        of_logits(SMOOTHED),
    ),
    "squared": Case(ONE_HOT, "mse", squared(ONE_HOT)),
    "squared_softmax": Case(
        ONE_HOT, losses.MeanSquaredError(), squared(ONE_HOT), head="softmax"
    ),
    "divergence": Case(
        SMOOTHED, "kl_divergence", divergence(SMOOTHED), head="softmax"
    ),
    "focal": Case(
        ONE_HOT,
        losses.CategoricalFocalCrossentropy(),
        focal(ONE_HOT),
        head="softmax",
    ),
    "function": Case(
        ONE_HOT,
        lambda y, z: tf.reduce_mean((y - z) ** 2, -1),
        squared(ONE_HOT),
    ),
    "attack_loss_of_logits": Case(
        ONE_HOT,
        "mse",
        squared(ONE_HOT),
        head="softmax",
        attack=(CATEGORICAL, of_probabilities(ONE_HOT)),
    ),
    "sample_weight": Case(*LOGITS, weights=WEIGHTS),
    "sample_weight_softmax": Case(
        *SOFTMAX, head="softmax", body="batch", weights=WEIGHTS
    ),
    # Data.
    "uint8": Case(*LOGITS, range=(0, 255), dtype="uint8"),
    "int64": Case(*LOGITS, range=(0, 255), dtype="int64", body="batch"),
    "floats_to_255": Case(*SOFTMAX, range=(0, 255), head="softmax"),
    "symmetric": Case(*LOGITS, range=(-1, 1), body="batch"),
    "uneven": Case(*SIGMOID, range=(-3.5, 2), head="sigmoid"),
    "uneven_float64": Case(*LOGITS, range=(-3.5, 2), policy="float64"),
    "float16": Case(*LOGITS, dtype="float16"),
    "bfloat16": Case(*LOGITS, dtype="bfloat16"),
    "float64": Case(*LOGITS, dtype="float64"),
    # Policies.
    "mixed": Case(*LOGITS, policy="mixed_bfloat16"),
    "mixed_batch": Case(*LOGITS, policy="mixed_bfloat16", body="batch"),
    "mixed_layer": Case(*LOGITS, policy="mixed_bfloat16", body="layer"),
    "mixed_softmax": Case(*SOFTMAX, policy="mixed_bfloat16", head="softmax"),
    "mixed_sigmoid": Case(*SIGMOID, policy="mixed_bfloat16", head="sigmoid"),
    # Modes.
    "graph": Case(*SOFTMAX, head="softmax", body="layer", compiled={}),
    "xla": Case(
        *SOFTMAX, head="softmax", body="batch", compiled={"jit_compile": True}
    ),
    "xla_sigmoid": Case(
        *SIGMOID, head="sigmoid", body="layer", compiled={"jit_compile": True}
    ),
}


def build(case, policy, seen):
    """Builds the network of a case; it rescales its pixels to [-1, 1]."""
    low, high = case.range
    units = 1 if case.head in ("logit", "sigmoid") else CLASSES
    named = {"softmax": "softmax", "sigmoid": "sigmoid"}.get(case.head)
    with golden_network.policy(policy):
        keras.utils.set_random_seed(3)
        scale = 2 / (high - low)
        dtype = "float64" if policy == "float64" else "float32"
        inputs = keras.Input((SIZE, SIZE, 3), dtype=dtype)
        x = Recorder(seen)(inputs)
        x = layers.Rescaling(scale, offset=-1 - low * scale)(x)
        x = layers.Flatten()(BODIES[case.body](x))
        # Large weights, so that the perturbation reaches its bounds.
        x = layers.Dense(
            units, kernel_initializer=keras.initializers.RandomNormal(0, 2)
        )(x)
        if named and not case.subclassed:
            x = layers.Activation(named)(x)
        if case.head == "softmax_layer":
            x = layers.Softmax()(x)
        network = keras.Model(inputs, x)
        if case.subclassed:
            head = layers.Activation(named) if named else layers.Identity()
            network = Subclassed([network], head)
            network(np.zeros((1, SIZE, SIZE, 3), dtype))
    return network


def pixels(case):
    """The images of a case in its range and dtype, and in [0, 1]."""
    low, high = case.range
    images = LEVELS / 256
    given = low + (high - low) * images
    if high == 255:
        given = LEVELS
        images = LEVELS / 255
    return tf.cast(tf.constant(given), case.dtype).numpy(), images


def plain_problem(case):
    """The same network and batch in float64, with the same weights."""
    network = build(case, "float64", [])
    network.set_weights(build(case, case.policy, []).get_weights())
    weights = 1.0 if case.weights is None else case.weights.astype("float64")
    return Problem(
        network=network,
        images=pixels(case)[1],
        low=case.range[0],
        high=case.range[1],
        loss=case.plain,
        attack_loss=case.attack[1] if case.attack else case.plain,
        logits={
            "logits": lambda z: z,
            "logit": lambda z: tf.concat([tf.zeros_like(z), z], -1),
            "sigmoid": lambda p: tf.math.log(tf.concat([1 - p, p], -1)),
        }.get(case.head, tf.math.log),
        weights=weights,
        noise="float64" if case.policy == "float64" else "float32",
    )
