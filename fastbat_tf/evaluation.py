"""Measures clean and robust accuracy."""

import functools
import time

import keras

from fastbat_tf.attacks.pgd import PGDAttack
from fastbat_tf.errors import InputError


def logits_of(model):
    """A Keras model as the function from images to logits of inference."""
    return functools.partial(model, training=False)


def evaluate_robustness(
    model,
    images,
    labels,
    epsilons,
    steps=50,
    restarts=10,
    batch_size=200,
    seed=0,
    jit_compile=False,
):
    """Measures clean accuracy, and robust accuracy under PGD.

    Args:
        model: A `keras.Model`, or any callable from float32 images `(batch,
            height, width, channels)` in [0, 1] to logits `(batch, classes)`.
        images: uint8 array, or float array in [0, 1], of shape `(examples,
            height, width, channels)`.
        labels: Integer array `(examples,)`.
        epsilons: Sequence of floats, radii of L-infinity balls in pixels.
        steps: Integer, steps of `epsilon / 4`.
        restarts: Integer, uniform starts; an example is robust if it
            withstands all of them.
        batch_size: Integer.
        seed: Integer.
        jit_compile: Whether XLA compiles the attack.

    Returns:
        A dict for `results.json`: `clean_accuracy`, `examples`, and `attacks`,
        a list of dicts with `attack`, `epsilon`, `robust_accuracy`,
        `examples`, `seconds` and `seed`. Accuracies are fractions.

    Raises:
        InputError: If there is no epsilon.
    """
    if not len(epsilons):
        raise InputError(
            "`epsilons` is expected to hold at least one radius. "
            f"Received: epsilons={epsilons}"
        )
    network = logits_of(model) if isinstance(model, keras.Model) else model
    attack = PGDAttack(
        network,
        steps,
        restarts,
        batch_size=batch_size,
        jit_compile=jit_compile,
    )
    rows = []
    for epsilon in map(float, epsilons):
        start = time.perf_counter()
        result = attack(images, labels, epsilon, seed)
        rows.append(
            {
                "attack": f"pgd-{steps}-{restarts}",
                "epsilon": epsilon,
                "robust_accuracy": float(result.robust.mean()),
                "examples": len(labels),
                "seconds": round(time.perf_counter() - start, 1),
                "seed": seed,
            }
        )
    return {
        "clean_accuracy": float(result.clean_correct.mean()),
        "examples": len(labels),
        "attacks": rows,
    }
