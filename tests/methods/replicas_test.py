"""Every method on one device and on several: the same weights."""

import contextlib
import functools
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from absl.testing import parameterized

from fastbat_tf import RobustClassifier, methods
from tests.support import testing

EXAMPLES, BATCH, EPOCHS = 18, 8, 3  # The last batch has two examples.
# The largest difference of a weight.
TOLERANCES = {"float32": 1e-5, "float64": 1e-10}
# Each kind of state, of penalty and of correction.
CASES = {
    # With a term that is large enough to show another finite difference.
    "finite_difference": (
        "fastbat",
        {"implicit_gradient": "finite_difference", "implicit_lambda": 0.1},
    ),
    "remembered": ("fastbat", {"linearization": "remembered"}),
    "l2": ("fastbat", {"norm": "l2"}),
    "pgd_l2": ("pgd", {"norm": "l2"}),
    "free_replays": ("free", {"replays": 3}),
    "adaptive": ("elle", {"coefficient_schedule": "adaptive"}),
    "uap_benchmark": ("fgsm_uap", {"form": "benchmark"}),
    **{name: (name, {}) for name in methods.METHODS},
}
# They are also tried with XLA, and on four replicas.
MAIN_CASES = (
    "standard",
    "fastbat",
    "finite_difference",
    "remembered",
    "gradalign",
    "fgsm_pgi",
    "free_replays",
    "trades",
)
# They look at the batch as a whole.
BATCH_WIDE = ("aaer", "fgsm_mep_cs", "fgsm_pco", "fgsm_rs_cs", "nuat")


@contextlib.contextmanager
def precision(dtype):
    keras.config.set_floatx(dtype)
    keras.config.set_dtype_policy(dtype)
    try:
        yield
    finally:
        keras.config.set_floatx("float32")
        keras.config.set_dtype_policy("float32")


def plain():
    return testing.small_network(normalization=None)


def random_layers():
    keras.utils.set_random_seed(0)
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.RandomFlip(seed=1),
            layers.Conv2D(4, 3, strides=2),
            layers.GaussianNoise(0.1, seed=2),
            layers.Activation("softplus"),
            layers.SpatialDropout2D(0.2, seed=3),
            layers.Flatten(),
            layers.Dropout(0.3, seed=4),
            layers.Dense(4),
        ]
    )


class Compiled(keras.layers.Layer):
    """A random layer in a `tf.function`, which all replicas share."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dropout = keras.layers.Dropout(0.3, seed=5)

    @tf.function
    def call(self, x, training=None):
        return self.dropout(x, training=training)


def compiled_layer():
    keras.utils.set_random_seed(0)
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Flatten(),
            Compiled(),
            layers.Dense(4),
        ]
    )


def regularized_layers():
    """With losses of layers, and the sparse gradient of an embedding."""
    keras.utils.set_random_seed(0)
    layers = keras.layers
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(
        4,
        3,
        strides=2,
        kernel_regularizer=keras.regularizers.L2(0.1),
        activity_regularizer=keras.regularizers.L2(0.1),
    )(inputs)
    x = layers.Reshape((9, 4))(layers.Activation("softplus")(x))
    x = Positions(9, 4)(x)
    return keras.Model(inputs, layers.Dense(4)(layers.Flatten()(x)))


class Positions(keras.layers.Layer):
    """Adds the embedding of each position, as vision transformers do."""

    def __init__(self, count, width):
        super().__init__()
        self.positions = keras.ops.arange(count)
        self.embedding = keras.layers.Embedding(count, width)

    def call(self, inputs):
        return inputs + self.embedding(self.positions)


def strategy_of(replicas):
    if replicas == 1:
        return tf.distribute.get_strategy()
    return testing.two_cpu_strategy()


def train(case, replicas, dtype="float64", build=plain, **settings):
    """Trains on batches of several sizes, with Keras' `fit`."""
    name, options = CASES[case]
    loss = settings.pop("loss", None)
    sample_weight = settings.pop("sample_weight", None)
    count = settings.pop("examples", EXAMPLES)
    drop_remainder = settings.pop("drop_remainder", False)
    with precision(dtype):
        with strategy_of(replicas).scope():
            method = methods.get(name, **options)
            robust = RobustClassifier(build(), method, seed=2)
            robust.compile(
                keras.optimizers.SGD(0.05, momentum=0.9), loss, **settings
            )
        images, labels = testing.images_and_labels(count, dtype=dtype)
        if drop_remainder:
            data = tf.data.Dataset.from_tensor_slices((images, labels))
            data = {"x": data.batch(BATCH, drop_remainder=True)}
        else:
            data = {"x": images, "y": labels, "batch_size": BATCH}
        history = robust.fit(
            **data,
            epochs=EPOCHS,
            shuffle=False,
            verbose=0,
            sample_weight=sample_weight,
        ).history
    return robust, history


class ReplicasTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.product(
        case=tuple(name for name in CASES if name not in BATCH_WIDE),
        dtype=("float64", "float32"),
    )
    @pytest.mark.quick(
        "fastbat float64",
        "finite_difference float64",
        "remembered float64",
        "gradalign float64",
        "fgsm_pgi float64",
        "free_replays float64",
        "trades float32",
        "liet float64",
        "fgsm_fuap float64",
    )
    def test_two_replicas_are_one_device(self, case, dtype):
        self.assert_same(dtype, *(train(case, n, dtype) for n in (1, 2)))

    @parameterized.product(case=MAIN_CASES, dtype=("float64", "float32"))
    @pytest.mark.slow
    def test_two_compiled_replicas(self, case, dtype):
        """The whole step is compiled on one device, a part on two."""
        one = train(case, 1, dtype, jit_compile=False)
        self.assert_same(dtype, one, train(case, 2, dtype, jit_compile=True))

    @parameterized.parameters(*MAIN_CASES)
    @pytest.mark.slow
    def test_four_replicas_are_one_device(self, case):
        """In both precisions, with XLA and without."""
        run = subprocess.run(
            [sys.executable, "-m", "tests.support.four_replicas", case],
            capture_output=True,
            text=True,
            timeout=1200,
            check=False,
        )
        self.assertEqual(run.returncode, 0, run.stderr[-2000:])
        lines = run.stdout.splitlines()
        self.assertLen(lines, 4)
        for line in lines:
            dtype, _, difference = line.split()
            self.assertLess(float(difference), TOLERANCES[dtype], line)

    @parameterized.product(
        case=("fastbat", "fgsm_fuap", "free_replays", "fgsm_pgi"),
        dtype=("float64", "float32"),  # oneDNN computes only in float32.
    )
    @pytest.mark.quick("fastbat float64", "fgsm_pgi float32")
    def test_a_replica_without_examples(self, case, dtype):
        """The convolutions of oneDNN do not take an empty batch."""

        def build():
            network = testing.small_network()
            network.get_layer("bn").trainable = False
            return network

        self.assert_same(
            dtype,
            *(train(case, n, dtype, build=build, examples=17) for n in (1, 2)),
        )

    @parameterized.parameters(
        ("standard", "mean", None, "decoupled"), ("fastbat", "sum", 0.01, "l2")
    )
    @pytest.mark.quick("standard")
    def test_terms_that_belong_to_no_example(
        self, case, reduction, weight, mode
    ):
        """They count once: regularizers, the weight of the loss, decay."""

        def trained(replicas):
            loss = keras.losses.SparseCategoricalCrossentropy(
                from_logits=True, reduction=reduction, dtype="float64"
            )
            return train(
                case,
                replicas,
                build=regularized_layers,
                loss=loss,
                loss_weights=weight,
                weight_decay=0.1,
                weight_decay_mode=mode,
                clip_norm=0.3,
            )

        self.assert_same("float64", trained(1), trained(2))

    @parameterized.parameters(True, False)
    @pytest.mark.quick("False")
    def test_random_layers(self, compiled):
        settings = {"build": random_layers, "jit_compile": compiled}
        one, two = (train("fastbat", n, **settings) for n in (1, 2))
        self.assert_same("float64", one, two)
        first, second = (
            [v for v in robust.variables if "seed" in v.path]
            for robust, _ in (one, two)
        )
        self.assertLen(first, 4)
        for ours, theirs in zip(first, second, strict=True):
            self.assertNotAllEqual(ours, [ours.numpy()[0], 0])  # It has drawn.
            self.assertAllEqual(ours, theirs)
            for state in theirs.value.values:
                self.assertAllEqual(ours, state)

    def test_batches_of_one_shape(self):
        """Their rows are known without a word between the replicas."""
        one, two = (train("fastbat", n, drop_remainder=True) for n in (1, 2))
        self.assert_same("float64", one, two)

    def test_random_layer_in_a_function(self):
        with self.assertWarnsRegex(UserWarning, "replicas draw the same"):
            train("standard", 2, build=compiled_layer)

    @parameterized.parameters(
        ("fastbat", testing.ZOO_NORMALIZATION),
        ("gradalign", testing.ZOO_NORMALIZATION),
        # Without exact second derivatives.
        ("standard", keras.layers.BatchNormalization),
        ("finite_difference", keras.layers.BatchNormalization),
        ("free_replays", keras.layers.BatchNormalization),
    )
    @pytest.mark.quick("fastbat", "standard")
    def test_synchronized_batch_normalization(self, case, layer):
        """Moving statistics are those of one device, too."""

        def build():
            return testing.small_network(
                normalization=functools.partial(layer, synchronized=True)
            )

        one, two = (train(case, n, build=build) for n in (1, 2))
        self.assert_same("float64", one, two)

    @parameterized.product(
        reduction=("sum", "none", "mean_with_sample_weight"),
        ignored=(None, 1),
    )
    @pytest.mark.quick("mean_with_sample_weight None", "sum None")
    def test_reductions(self, reduction, ignored):
        random = np.random.default_rng(0)
        weights = random.uniform(0, 2, EXAMPLES).astype("float64")

        def trained(replicas):
            loss = keras.losses.SparseCategoricalCrossentropy(
                from_logits=True,
                reduction=reduction,
                ignore_class=ignored,
                dtype="float64",
            )
            return train(
                "fastbat",
                replicas,
                loss=loss,
                sample_weight=weights,
                clip_norm=0.1,
            )

        self.assert_same("float64", trained(1), trained(2))

    def test_ignored_labels(self):
        def trained(replicas):
            loss = keras.losses.SparseCategoricalCrossentropy(
                from_logits=True, ignore_class=1, dtype="float64"
            )
            return train("standard", replicas, loss=loss)

        self.assert_same("float64", trained(1), trained(2))

    def test_batch_size_and_learning_rate_are_global(self):
        robust, _ = train("standard", 2)
        self.assertAllClose(robust.optimizer.learning_rate, 0.05)
        batches = -(-EXAMPLES // BATCH)
        self.assertEqual(robust.step.numpy(), EPOCHS * batches)

    @parameterized.parameters(*BATCH_WIDE)
    @pytest.mark.quick("nuat")
    def test_methods_that_look_at_the_whole_batch(self, case):
        """They say so; the weights differ as soon as these terms count."""
        self.assertTrue(methods.get(case).batch_wide)
        with self.assertWarns(UserWarning) as context:
            train(case, 2)
        line = rf"^The method {case} looks at the batch as a whole;.*2 replicas"
        self.assertRegex(str(context.warning), line + r".*\.$")

    def test_layers_that_mix_examples(self):
        """They say so; a single device says nothing."""

        def build():
            return keras.Sequential(
                [keras.Input((8, 8, 3)), keras.layers.MixUp(name="mix")]
                + [keras.layers.Flatten(), keras.layers.Dense(4)]
            )

        for count in (1, 2):
            with strategy_of(count).scope():
                robust = RobustClassifier(build(), methods.get("standard"))
            notes = robust.notes_on_replicas()
            self.assertLen(notes, count - 1)
        self.assertRegex(notes[0], r"^The layer mix \(MixUp\).*2 replicas.*\.$")

    def assert_same(self, dtype, one, two):
        (one, logs), (two, others) = one, two
        self.assertEqual(len(one.weights), len(two.weights))
        for ours, theirs in zip(one.weights, two.weights, strict=True):
            self.assertAllClose(
                ours, theirs, 0, TOLERANCES[dtype], msg=ours.path
            )
        for variable in two.weights:
            if isinstance(variable.value, tf.distribute.DistributedValues):
                first, second = (v.numpy() for v in variable.value.values)
                self.assertAllEqual(first, second, variable.path)
        for name, values in logs.items():
            # These compare the gradients of each replica.
            if name not in ("robust_implicit_ratio", "robust_implicit_cosine"):
                tolerance = 10 * TOLERANCES[dtype]
                self.assertAllClose(
                    values, others[name], tolerance, tolerance, msg=name
                )


if __name__ == "__main__":
    tf.test.main()
