"""Trains one logit for two classes of which one is rare, and attacks it.

    python examples/binary_imbalanced.py
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
    return images[chosen], np.int32(labels[chosen] == FROG)


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
    robust.compile(
        keras.optimizers.Adam(2e-3), weighted_metrics=["accuracy"]
    )
    robust.fit(
        images,
        labels,
        batch_size=32,
        epochs=epochs,
        class_weight=class_weight,
        verbose=0,
    )
    return network


def main(small):
    """Prints the accuracy on each class, clean and under attack."""
    training, _, test = fb.load_data("cifar10_mini")
    images, labels = select(training, frogs=36)
    test_images, test_labels = select(test)
    if small:
        images, labels = images[-64:], labels[-64:]
        test_images, test_labels = test_images[90:110], test_labels[90:110]
    share = labels.mean()
    # The two classes weigh the same in sum, and the mean weight is 1.
    weights = {0: 0.5 / (1 - share), 1: 0.5 / share}
    print(f"{len(labels) - labels.sum()} airplanes, {labels.sum()} frogs")
    print("                      clean            under attack")
    print("                      airplane  frog   airplane  frog  mean")
    for name, method, class_weight in (
        ("standard", fb.Standard(), weights),
        ("Fast-BAT, no weights", fb.FastBAT(EPSILON), None),
        ("Fast-BAT", fb.FastBAT(EPSILON), weights),
    ):
        network = train(
            method, images, labels, 1 if small else 30, class_weight
        )
        rows=[]
        for label in (0, 1):
            one = test_labels == label
            r = fb.evaluate_robustness(network, (test_images[one], test_labels[one]), attacks=["pgd-20-1"], epsilons=[EPSILON])
            rows.append((r["clean_accuracy"], r["attacks"][0]["robust_accuracy"]))
        print(name, rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--small", action="store_true", help="a quick try, in seconds"
    )
    main(parser.parse_args().small)
