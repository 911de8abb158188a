"""Fine-tunes a pretrained network robustly: first a new head, then all of it.

    python examples/finetune_pretrained.py
    python examples/finetune_pretrained.py --weights=none

The first command downloads weights of ImageNet. The second downloads nothing:
it trains the backbone on clean images for a few epochs instead, which shows how
the stages fit together, not how far they go. PGD attacks 200 test images with
10 steps of at most 2/255 per pixel. With `--small` it takes seconds, and learns
nothing. With `--weights=none` it took a few minutes on 2 CPU cores, and
printed:

    head  clean accuracy  10.0%, under attack  10.0%
    all   clean accuracy  18.0%, under attack   1.0%

10 % is a guess: the second command is too short to make a network robust.
"""

import argparse
import sys

import keras
import numpy as np

import fastbat_tf as fb

EPSILON = 2 / 255


def load(size, limit, test_limit):
    """Returns resized images in [-1, 1], as MobileNet expects, and labels."""
    train, _, test = fb.load_data("cifar10_mini")
    return [
        (2 * np.array(keras.ops.image.resize(images, (size, size))) - 1, labels)
        for images, labels in (
            (train[0][:limit], train[1][:limit]),
            (test[0][:test_limit], test[1][:test_limit]),
        )
    ]


def build_backbone(size, weights):
    """Returns a MobileNet without its head, from images to 256 features."""
    try:
        return keras.applications.MobileNet(
            input_shape=(size, size, 3),
            alpha=0.25,
            include_top=False,
            pooling="avg",
            weights=weights,
        )
    except Exception as error:  # Keras raises no narrower one.
        sys.exit(
            f"The weights could not be loaded; --weights=none does without "
            f"them. Received: --weights={weights}: {error}"
        )


def pretrain(backbone, images, labels, epochs):
    """Stands for ImageNet: trains the backbone on clean images."""
    model = keras.Sequential([backbone, keras.layers.Dense(10)])
    model.compile(
        "adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    model.fit(images, labels, batch_size=64, epochs=epochs, verbose=0)


def report(stage, robust, test):
    """Prints the accuracy, clean and under attack."""
    results = fb.evaluate_robustness(
        robust, test, attacks=["pgd-10-1"], epsilons=[EPSILON]
    )
    print(
        f"{stage}  clean accuracy {results['clean_accuracy']:6.1%}, under "
        f"attack {results['attacks'][0]['robust_accuracy']:6.1%}"
    )


def main(weights, small):
    """Trains in two stages, and prints what each has brought."""
    # ImageNet has larger images than CIFAR-10, which are enlarged to match.
    size = 64 if weights == "none" else 128
    (images, labels), test = load(
        size, 64 if small else 1800, 20 if small else 200
    )
    keras.utils.set_random_seed(0)
    backbone = build_backbone(size, None if weights == "none" else weights)
    if weights == "none":
        pretrain(backbone, images, labels, epochs=1 if small else 6)

    # `training=False`: BatchNormalization keeps its statistics in both stages,
    # as Keras' guide to fine-tuning advises.
    inputs = keras.Input((size, size, 3))
    features = backbone(inputs, training=False)
    model = keras.Model(inputs, keras.layers.Dense(10)(features))
    robust = fb.RobustClassifier(
        model, fb.PGD(epsilon=EPSILON, steps=3), pixel_range=(-1, 1)
    )
    for stage, trainable, learning_rate, epochs in (
        ("head", False, 1e-2, 2),
        ("all ", True, 1e-3, 5),
    ):
        backbone.trainable = trainable  # Takes effect with `compile`.
        # On CPUs, XLA takes longer to compile so many layers than it saves.
        robust.compile(keras.optimizers.Adam(learning_rate), jit_compile=False)
        robust.fit(
            images,
            labels,
            batch_size=64,
            epochs=1 if small else epochs,
            verbose=0,
        )
        report(stage, robust, test)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--weights",
        default="imagenet",
        help="imagenet, none, or a file of weights of MobileNet",
    )
    parser.add_argument(
        "--small", action="store_true", help="a quick try, in seconds"
    )
    main(**vars(parser.parse_args()))
