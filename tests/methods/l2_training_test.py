"""Networks trained in L2 on real images, measured by APGD in L2.

    python -m pytest -rP -m slowest tests/methods/l2_training_test.py

prints the accuracies of `docs/methods.md`.
"""

import functools

import keras
import pytest
import tensorflow as tf
from absl.testing import parameterized
from keras import layers

from fastbat_tf import RobustClassifier, evaluate_robustness, methods
from fastbat_tf.data import loading, pipeline
from fastbat_tf.data.options import DataConfig

DATA = DataConfig("cifar10_mini")
BATCH, EPOCHS, SEED = 64, 6, 37
EXAMPLES, EPSILON = 300, 128 / 255


def build_network():
    """Three convolutions with BatchNormalization, of 8, 16 and 32 channels."""
    keras.utils.set_random_seed(SEED)
    inputs = keras.Input((32, 32, 3))
    x = layers.Rescaling(4.0, offset=-2.0)(inputs)
    for filters, strides in ((8, 1), (16, 2), (32, 2)):
        x = layers.Conv2D(
            filters, 3, strides=strides, padding="same", use_bias=False
        )(x)
        x = layers.Activation("relu")(layers.BatchNormalization()(x))
    x = layers.Flatten()(layers.AveragePooling2D(2)(x))
    return keras.Model(inputs, layers.Dense(10)(x))


@functools.cache
def train_and_measure(name, **options):
    """Returns the clean and the robust accuracy."""
    examples = loading.load_splits(DATA).train
    steps = examples.size // BATCH
    network = build_network()
    robust = RobustClassifier(network, methods.get(name, **options), seed=SEED)
    rate = keras.optimizers.schedules.PolynomialDecay(0.1, steps * EPOCHS, 0.0)
    robust.compile(keras.optimizers.SGD(rate, momentum=0.9))
    batches = pipeline.training_batches(
        examples, BATCH, SEED, augmentation=DATA.augmentation
    )
    robust.fit(batches, epochs=EPOCHS, steps_per_epoch=steps, verbose=0)
    results = evaluate_robustness(
        network,
        loading.load_test(DATA).first(EXAMPLES),
        attacks=("apgd-ce-20",),
        epsilons=(EPSILON,),
        norm="l2",
    )
    found = (
        results["clean_accuracy"],
        results["attacks"][0]["robust_accuracy"],
    )
    print(f"{name} {options}: clean {found[0]:.1%}, APGD-L2 {found[1]:.1%}")
    return found


class L2TrainingTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters("fastat", "fastbat", "pgd", "trades")
    @pytest.mark.slowest
    def test_more_robust_than_standard_training(self, name):
        _, standard = train_and_measure("standard")
        _, robust = train_and_measure(name, norm="l2")
        # Standard training has 15 %, the methods from 25 to 29 %.
        self.assertGreater(robust, standard + 0.05)


if __name__ == "__main__":
    tf.test.main()
