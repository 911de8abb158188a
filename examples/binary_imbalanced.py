"""Trains one logit for two classes of which one is rare, and attacks it.

    python examples/binary_imbalanced.py

There are 360 airplanes and 36 frogs of CIFAR-10. The loss weighs each frog as
ten airplanes; the attack, PGD with 20 steps of at most 8/255 per pixel, is the
same for all images. With `--small` it takes seconds, and learns nothing. It
took one to two minutes on 2 CPU cores, and printed:

    standard, weighted
      clean         airplanes  91.0%, frogs  75.0%, balanced  83.0%
      under attack  airplanes   0.0%, frogs   0.0%, balanced   0.0%
    Fast-BAT, not weighted
      clean         airplanes  97.0%, frogs  57.0%, balanced  77.0%
      under attack  airplanes  94.0%, frogs  22.0%, balanced  58.0%
    Fast-BAT, weighted
      clean         airplanes  91.0%, frogs  86.0%, balanced  88.5%
      under attack  airplanes  81.0%, frogs  63.0%, balanced  72.0%

Without weights, the robust network says "airplane" when in doubt, and an attack
makes it doubt. Overall accuracy hides that if the test images are imbalanced,
too; balanced accuracy, for which a coin gets 50 %, does not.
"""

import argparse

import keras
import numpy as np

import fastbat_tf as fb

AIRPLANE, FROG = 0, 6  # Labels of CIFAR-10.
EPSILON = 8 / 255


def select(data, frogs=None):
    """Returns the airplanes, labeled 0, and the first frogs, labeled 1."""
    images, labels = data
    chosen = np.append(
        np.flatnonzero(labels == AIRPLANE),
        np.flatnonzero(labels == FROG)[:frogs],
    )
    return images[chosen], (labels[chosen] == FROG).astype("int32")


def build_network():
    """Returns a classifier with one logit: above 0, it sees a frog."""
    network = keras.Sequential([keras.Input((32, 32, 3))])
    for filters in (16, 32, 64):
        network.add(keras.layers.Conv2D(filters, 3, 2, padding="same"))
        network.add(keras.layers.BatchNormalization(momentum=0.9))
        network.add(keras.layers.ReLU())
    network.add(keras.layers.GlobalAveragePooling2D())
    network.add(keras.layers.Dense(1))
    return network


def train(method, images, labels, epochs, class_weight):
    """Returns a network that `method` has trained."""
    keras.utils.set_random_seed(0)
    network = build_network()
    robust = fb.RobustClassifier(network, method)
    robust.compile(keras.optimizers.Adam(2e-3), weighted_metrics=["accuracy"])
    robust.fit(
        images,
        labels,
        batch_size=32,
        epochs=epochs,
        class_weight=class_weight,
        verbose=0,
    )
    return network


def report(name, network, images, labels):
    """Prints the accuracy on each class, and its mean: balanced accuracy."""
    attack = fb.attacks.PGD(EPSILON, steps=20)
    clean = (np.array(network(images))[:, 0] > 0) == labels
    robust = attack(network, images, labels).robust
    print(name)
    for title, right in (("clean", clean), ("under attack", robust)):
        airplanes, frogs = (right[labels == label].mean() for label in (0, 1))
        print(
            f"  {title:12}  airplanes {airplanes:6.1%}, frogs {frogs:6.1%}, "
            f"balanced {(airplanes + frogs) / 2:6.1%}"
        )


def main(small):
    """Trains without and with Fast-BAT, without and with weights."""
    training, _, test = fb.load_data("cifar10_mini")
    images, labels = select(training, frogs=36)
    test_images, test_labels = select(test)
    if small:
        images, labels = images[-64:], labels[-64:]
        test_images, test_labels = test_images[90:110], test_labels[90:110]
    frogs = labels.mean()
    # Both classes count the same in the sum, and the mean weight is 1.
    weights = {0: 0.5 / (1 - frogs), 1: 0.5 / frogs}
    for name, method, class_weight in (
        ("standard, weighted", fb.Standard(), weights),
        ("Fast-BAT, not weighted", fb.FastBAT(EPSILON), None),
        ("Fast-BAT, weighted", fb.FastBAT(EPSILON), weights),
    ):
        epochs = 1 if small else 30
        network = train(method, images, labels, epochs, class_weight)
        report(name, network, test_images, test_labels)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--small", action="store_true", help="a quick try, in seconds"
    )
    main(parser.parse_args().small)
