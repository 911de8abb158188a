"""Measures models that this library has not trained, whatever they are.

    python examples/measure_any_model.py

A plain Keras model, the same as a SavedModel, and a function of NumPy arrays
are attacked with at most 2/255 per pixel, on 200 test images of CIFAR-10. The
training of the Keras model is watched by a callback, and stops when the model
gets no more robust. The last lines draw adversarial images to adversarial.png.
With `--small` it takes seconds. It took 20 seconds on 2 CPU cores, and printed:

    most robust after epoch 5 of 8
    Keras model     clean accuracy  35.0%, under attack  21.5% (pgd-20-1)
    SavedModel      clean accuracy  35.0%, under attack  21.5% (pgd-20-1)
    NumPy function  clean accuracy  28.0%, under attack  23.5% (square-200)
    PGD changes pixels by at most 2.0 of 255 gray levels

A SavedModel needs no Keras code: the attack goes through the gradients of its
graph. A function of NumPy arrays has none: Square asks for outputs alone.
"""

import argparse
import tempfile

import keras
import numpy as np

import fastbat_tf as fb

EPSILON = 2 / 255
NAMES = "airplane automobile bird cat deer dog frog horse ship truck".split()


def build_network():
    """Returns a plain Keras classifier of pixels in [0, 1]."""
    network = keras.Sequential([keras.Input((32, 32, 3))])
    for filters in (16, 32, 64):
        network.add(keras.layers.Conv2D(filters, 3, 2, activation="relu"))
    network.add(keras.layers.Flatten())
    network.add(keras.layers.Dense(10))
    network.compile(
        "adam",
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return network


def nearest_mean(train):
    """Returns a classifier in NumPy: the class with the nearest mean image."""
    images, labels = train
    means = np.stack([images[labels == label].mean(0) for label in range(10)])

    def classify(images):
        differences = images[:, None] - means
        return -np.square(differences).mean((2, 3, 4))

    return classify


def report(name, model, test, attack):
    """Prints the accuracy of any model, clean and under attack."""
    results = fb.evaluate_robustness(
        model, test, attacks=[attack], epsilons=[EPSILON]
    )
    print(
        f"{name:14}  clean accuracy {results['clean_accuracy']:6.1%}, under "
        f"attack {results['attacks'][0]['robust_accuracy']:6.1%} ({attack})"
    )


def main(small):
    """Trains a model with Keras alone, and measures it in three forms."""
    train, validation, test = fb.load_data("cifar10_mini")
    count = 20 if small else 200
    test = test[0][:count], test[1][:count]
    validation = validation[0][:count], validation[1][:count]
    keras.utils.set_random_seed(0)
    network = build_network()

    # A callback attacks the validation images after each epoch of any `fit`.
    attack = fb.attacks.PGD(epsilon=EPSILON, steps=10)
    stopping = keras.callbacks.EarlyStopping(
        "val_robust_accuracy",
        patience=3,
        mode="max",
        restore_best_weights=True,
    )
    history = network.fit(
        *train,
        batch_size=64,
        epochs=2 if small else 30,
        callbacks=[fb.RobustAccuracy(validation, attack), stopping],
        verbose=0,
    ).history["val_robust_accuracy"]
    best = int(np.argmax(history))
    print(f"most robust after epoch {best + 1} of {len(history)}")

    report("Keras model", network, test, "pgd-20-1")
    with tempfile.TemporaryDirectory() as folder:
        network.export(folder, verbose=False)
        report("SavedModel", folder, test, "pgd-20-1")
    # Square asks for outputs alone, so the model need not have gradients.
    report("NumPy function", nearest_mean(train), test, "square-200")

    # Adversarial images as NumPy arrays, and as a picture.
    images, labels = test
    result = attack(network, images, labels)
    change = 255 * np.abs(result.images - images).max()
    print(f"PGD changes pixels by at most {change:.1f} of 255 gray levels")
    figure = fb.plot_adversarial(
        images, result, labels, class_names=NAMES, max_examples=4
    )
    figure.savefig("adversarial.png")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--small", action="store_true", help="a quick try, in seconds"
    )
    main(parser.parse_args().small)
