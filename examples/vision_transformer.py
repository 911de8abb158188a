"""Trains a small vision transformer as usual and with Fast-BAT.

    python examples/vision_transformer.py

It is built of Keras layers: patches of 4 x 4 pixels, self-attention, and
LayerNormalization, which Fast-BAT differentiates twice like all the rest. PGD
attacks 1,000 test images of CIFAR-10 with 20 steps of at most 8/255 per pixel.
With `--small` it takes seconds, and learns nothing. It took about four minutes
on 2 CPU cores, and printed:

    standard  clean accuracy  39.4%, under attack   0.0%
    fastbat   clean accuracy  25.4%, under attack  16.5%

A guess is right in 10 % of the cases. Transformers learn slowly from 3,600
images, and from attacked images more slowly: more images and more epochs help.
"""

import argparse
import math

import keras
from keras import layers

import fastbat_tf as fb

WIDTH, PATCH, HEADS = 64, 4, 4


@keras.saving.register_keras_serializable("examples")
class AddPositions(layers.Layer):
    """Adds a trained vector to each patch."""

    def build(self, shape):
        self.positions = self.add_weight(
            shape=shape[1:],
            initializer=keras.initializers.RandomNormal(stddev=0.02),
        )

    def call(self, patches):
        return patches + self.positions


def build_network(blocks):
    """Returns a pre-norm transformer over patches of 4 x 4 pixels."""
    images = keras.Input((32, 32, 3))
    x = layers.Rescaling(4, offset=-2)(images)
    x = layers.Conv2D(WIDTH, PATCH, strides=PATCH)(x)
    x = AddPositions()(layers.Reshape((-1, WIDTH))(x))
    for _ in range(blocks):
        y = layers.LayerNormalization()(x)
        x = x + layers.MultiHeadAttention(HEADS, WIDTH // HEADS)(y, y)
        y = layers.LayerNormalization()(x)
        y = layers.Dense(2 * WIDTH, activation="gelu")(y)
        x = x + layers.Dense(WIDTH)(y)
    x = layers.LayerNormalization()(x)
    x = layers.GlobalAveragePooling1D()(x)
    return keras.Model(images, layers.Dense(10)(x))


def main(small):
    """Prints the accuracy of both transformers, clean and under attack."""
    (images, labels), _, (test_images, test_labels) = fb.load_data(
        "cifar10_mini"
    )
    blocks, epochs, batch_size = 2, 8, 64
    if small:
        blocks, epochs = 1, 1
        images, labels = images[:128], labels[:128]
        test_images, test_labels = test_images[:20], test_labels[:20]
    steps = epochs * math.ceil(len(images) / batch_size)
    for method in (fb.Standard(), fb.FastBAT(epsilon=8 / 255)):
        keras.utils.set_random_seed(0)
        network = build_network(blocks)
        robust = fb.RobustClassifier(network, method)
        # Transformers need a warm-up.
        rate = keras.optimizers.schedules.CosineDecay(
            0.0, steps, warmup_target=1e-3, warmup_steps=steps // 8
        )
        robust.compile(keras.optimizers.AdamW(rate), metrics=["accuracy"])
        robust.fit(
            images, labels, batch_size=batch_size, epochs=epochs, verbose=0
        )
        results = fb.evaluate_robustness(
            network,
            (test_images, test_labels),
            attacks=["pgd-20-1"],
            epsilons=[8 / 255],
        )
        print(
            f"{method.name:8}  clean accuracy "
            f"{results['clean_accuracy']:6.1%}, under attack "
            f"{results['attacks'][0]['robust_accuracy']:6.1%}"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--small", action="store_true", help="a quick try, in seconds"
    )
    main(parser.parse_args().small)
