"""PGD training in L2 withstands APGD in L2 on real images."""

import keras
import pytest
import tensorflow as tf
from keras import layers

from fastbat_tf import PGD, RobustClassifier, Standard, evaluate_robustness
from fastbat_tf.data import loading, pipeline
from fastbat_tf.data.options import DataConfig

DATA = DataConfig("cifar10_mini")
BATCH, EPOCHS, SEED = 64, 10, 37
EXAMPLES, EPSILON = 200, 128 / 255


def build_network():
    """Three convolutions with BatchNormalization, of 8, 16 and 32 channels."""
    keras.utils.set_random_seed(SEED)
    inputs = keras.Input((32, 32, 3))
    x = layers.Rescaling(4.0, offset=-2.0)(inputs)
    for filters, strides in ((8, 2), (16, 2), (32, 2)):
        x = layers.Conv2D(
            filters, 3, strides=strides, padding="same", use_bias=False
        )(x)
        x = layers.Activation("relu")(layers.BatchNormalization()(x))
    return keras.Model(inputs, layers.Dense(10)(layers.Flatten()(x)))


def train_and_measure(method):
    """Returns the clean and the robust accuracy."""
    examples = loading.load_splits(DATA).train
    steps = examples.size // BATCH
    network = build_network()
    robust = RobustClassifier(network, method, seed=SEED)
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
    return (
        results["clean_accuracy"],
        results["attacks"][0]["robust_accuracy"],
    )


class L2TrainingTest(tf.test.TestCase):
    @pytest.mark.slow
    def test_more_robust_than_standard_training(self):
        clean, standard = train_and_measure(Standard())
        _, robust = train_and_measure(PGD(EPSILON, norm="l2"))
        # Measured: 46 % clean and 12 % robust, and 27 % robust with PGD.
        self.assertGreater(clean, 0.35)
        self.assertGreater(robust, 0.2)
        self.assertGreater(robust, standard + 0.08)


if __name__ == "__main__":
    tf.test.main()
