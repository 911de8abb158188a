"""Trains a small vision transformer to be robust, with Fast-BAT.

    python examples/vision_transformer.py
"""

import argparse

import keras
from keras import layers

import fastbat_tf as fb

WIDTH, PATCH, HEADS, BLOCKS = 64, 4, 4, 4


@keras.saving.register_keras_serializable("examples")
class AddPositions(layers.Layer):
    """Adds a trained vector to each patch."""

    def build(self, shape):
        self.positions = self.add_weight(
            shape=shape[1:], initializer=keras.initializers.RandomNormal(stddev=0.02)
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
    """Prints the accuracy of the transformer, clean and under attack."""
    (images, labels), _, (test_images, test_labels) = fb.load_data("cifar10_mini")
    if small:
        images, labels = images[:64], labels[:64]
        test_images, test_labels = test_images[:20], test_labels[:20]
    epochs=1 if small else 10
    for method in (fb.Standard(), fb.FastBAT(epsilon=8 / 255)):
        keras.utils.set_random_seed(0)
        network = build_network(1 if small else BLOCKS)
        robust = fb.RobustClassifier(network, method)
        steps = epochs * (len(images) // 64 + 1)
        schedule = keras.optimizers.schedules.CosineDecay(
            0.0, steps, warmup_target=1e-3, warmup_steps=steps // 10
        )
        robust.compile(keras.optimizers.AdamW(schedule), metrics=["accuracy"])
        robust.fit(images, labels, batch_size=64, epochs=epochs, verbose=2)
        results = fb.evaluate_robustness(network, (test_images, test_labels), attacks=["pgd-20-1"], epsilons=[8 / 255])
        print(method.name, results["clean_accuracy"], results["attacks"][0]["robust_accuracy"])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--small", action="store_true", help="a quick try, in seconds"
    )
    main(parser.parse_args().small)
