"""Makes a pretrained network robust: first its new head, then all of it.

python examples/finetune_pretrained.py
python examples/finetune_pretrained.py --weights=none     # no download
"""

import argparse
import sys

import keras
import numpy as np

import fastbat_tf as fb

SIZE = 96  # The images of 32 x 32 pixels are enlarged to this size.
EPSILON = 4 / 255


def load(limit, test_limit):
    """Returns resized images in [-1, 1], as MobileNet expects, and labels."""
    train, _, test = fb.load_data("cifar10_mini")
    return [
        (2 * np.array(keras.ops.image.resize(images, (SIZE, SIZE))) - 1, labels)
        for images, labels in (
            (train[0][:limit], train[1][:limit]),
            (test[0][:test_limit], test[1][:test_limit]),
        )
    ]


def build_backbone(weights):
    """Returns a MobileNet without its head, from images to 256 features."""
    try:
        return keras.applications.MobileNet(
            input_shape=(SIZE, SIZE, 3),
            alpha=0.25,
            include_top=False,
            pooling="avg",
            weights=weights,
        )
    except Exception as error:  # Keras raises no narrower one.
        sys.exit(
            f"The ImageNet weights could not be loaded; --weights=none does "
            f"without them. {error}"
        )


def pretrain(backbone, images, labels, epochs):
    """Stands for ImageNet: trains the backbone on clean images."""
    model = keras.Sequential([backbone, keras.layers.Dense(10)])
    model.compile(
        "adam",
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    model.fit(images, labels, batch_size=64, epochs=epochs, verbose=2)


def report(robust, test, stage):
    results = fb.evaluate_robustness(
        robust, test, attacks=["pgd-10-1"], epsilons=[EPSILON], max_examples=200
    )
    print(
        f"{stage}: clean accuracy {results['clean_accuracy']:.1%}, under "
        f"attack {results['attacks'][0]['robust_accuracy']:.1%}"
    )


def main(weights, small):
    (images, labels), test = load(32 if small else None, 20 if small else 200)
    keras.utils.set_random_seed(0)
    backbone = build_backbone(None if weights == "none" else weights)
    if weights == "none":
        pretrain(backbone, images, labels, 1 if small else 10)

    # BatchNormalization keeps its statistics, as Keras advises.
    inputs = keras.Input((SIZE, SIZE, 3))
    features = backbone(inputs, training=False)
    model = keras.Model(inputs, keras.layers.Dense(10)(features))
    robust = fb.RobustClassifier(
        model, fb.NFGSM(epsilon=EPSILON), pixel_range=(-1, 1)
    )

    backbone.trainable = False
    robust.compile(keras.optimizers.Adam(1e-2), metrics=["accuracy"])
    robust.fit(
        images, labels, batch_size=64, epochs=1 if small else 3, verbose=2
    )
    report(robust, test, "head")

    backbone.trainable = True
    robust.compile(keras.optimizers.Adam(3e-4), metrics=["accuracy"])
    robust.fit(
        images, labels, batch_size=64, epochs=1 if small else 8, verbose=2
    )
    report(robust, test, "all ")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", default="imagenet")
    parser.add_argument(
        "--small", action="store_true", help="a quick try, in seconds"
    )
    main(**vars(parser.parse_args()))
