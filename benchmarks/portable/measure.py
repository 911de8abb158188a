"""Attacks a data set with exported computations; needs only NumPy and JAX.

The arithmetic of the steps is in the computations. This module has the loop
that gives each example a slot in the batch, like `fastbat_tf.attacks.loop`, and
draws the random starts from the same generators.
"""

import collections
import zlib

import numpy as np


def classify(computation, state, images):
    """Computes the logits of uint8 images, `(examples, classes)`."""
    (size, *_), _ = computation.arguments["images"]
    logits = []
    for first in range(0, len(images), size):
        batch = pixels(images[first : first + size])
        padded = np.resize(np.arange(len(batch)), size)
        answer = computation(state, images=batch[padded])["logits"]
        logits.append(np.asarray(answer)[: len(batch)])
    return np.concatenate(logits)


def pixels(images):
    """Converts uint8 images to float32 in [0, 1]."""
    return images.astype(np.float32) / np.float32(255)


def is_correct(logits, labels):
    """bool array `(examples,)`; False if a logit is NaN."""
    known = ~np.isnan(logits).any(axis=-1)
    return known & (logits.argmax(axis=-1) == labels)


def attack(
    computation,
    settings,
    state,
    *,
    images,
    labels,
    logits,
    robust,
    epsilon,
    seed,
):
    """Attacks the examples that are robust so far.

    An example that is misclassified or has had all its rounds frees its slot
    for the next one.

    Args:
        computation: The `Computation` of a stride.
        settings: Dict with `seeded_by`, `steps` and `rounds` of the attack.
        state: Dict of device arrays, the classifier's variables.
        images: uint8 array `(examples, height, width, channels)`.
        labels: Integer array `(examples,)`.
        logits: Array `(examples, classes)`, the logits of the images.
        robust: bool array `(examples,)`, the examples to attack.
        epsilon: Float in [0, 1], the L-infinity radius.
        seed: Integer.

    Returns:
        bool array `(examples,)`, the examples that are still robust.
    """
    (size,), _ = computation.arguments["problem/labels"]
    order, robust = wrong_classes(logits, labels), robust.copy()
    waiting = collections.deque((e, 0) for e in np.flatnonzero(robust))
    slots, held = [], None
    while waiting or slots:
        count = min(size - len(slots), len(waiting))
        fresh = [waiting.popleft() for _ in range(count)]
        if fresh:
            started = start(
                settings["seeded_by"],
                fresh,
                images=images,
                labels=labels,
                order=order,
                epsilon=epsilon,
                seed=seed,
            )
            held = {
                key: np.concatenate([held[key], value]) if slots else value
                for key, value in started.items()
            }
            slots += fresh
        if len(slots) < size:  # Padded with copies that count as decided.
            padded = np.resize(np.arange(len(slots)), size)
            held = {key: value[padded] for key, value in held.items()}
            held["state/fooled"][len(slots) :] = True
        answer = computation(state, **held, epsilon=epsilon)
        for key, value in answer.items():
            held[f"state/{key}"] = np.asarray(value)
        held = {key: value[: len(slots)] for key, value in held.items()}
        check(held, epsilon)
        fooled = held["state/fooled"]
        ended = fooled | (held["state/iteration"] > settings["steps"])
        for slot in reversed(np.flatnonzero(ended)):
            example, number = slots[slot]
            if fooled[slot]:
                robust[example] = False
            elif number + 1 < settings["rounds"]:
                waiting.appendleft((example, number + 1))
        kept = np.flatnonzero(~ended)
        slots = [slots[slot] for slot in kept]
        held = {key: value[kept] for key, value in held.items()}
    return robust


def start(name, fresh, *, images, labels, order, epsilon, seed):
    """Starts rounds: PGD anywhere in the ball, APGD on its surface.

    Args:
        name: The name of the attack, which seeds it.
        fresh: List of pairs, an example and the number of its round.
        images: uint8 array `(examples, height, width, channels)`.
        labels: Integer array `(examples,)`.
        order: Integer array `(examples, classes - 1)` of target classes.
        epsilon: Float in [0, 1], the L-infinity radius.
        seed: Integer.

    Returns:
        Dict of arrays, the problem and the state.
    """
    examples, rounds = np.array(fresh).T
    given = pixels(images[examples])
    epsilon, count = np.float32(epsilon), len(fresh)
    noise = [
        np.random.default_rng(
            [seed, zlib.crc32(name.encode()), example, number]
        ).random(images.shape[1:], np.float32)
        * 2
        - 1
        for example, number in fresh
    ]
    if name.startswith("apgd"):
        noise = [delta / np.abs(delta).max() for delta in noise]
    delta = np.clip(epsilon * np.stack(noise), -epsilon, epsilon)
    delta = np.clip(given + delta, 0, 1) - given
    held = {
        "problem/images": given,
        "problem/labels": labels[examples],
        "problem/targets": order[examples, rounds % order.shape[1]],
        "state/iteration": np.zeros(count, np.int32),
        "state/fooled": np.zeros(count, bool),
        "state/found": given,
        "state/loss": np.full(count, -np.inf, np.float32),
        "state/point": np.clip(given + delta, 0, 1),
    }
    if name.startswith("apgd"):
        held |= {
            "state/previous": held["state/point"],
            "state/best_gradient": np.zeros_like(given),
            "state/last_loss": np.zeros(count, np.float32),
            "state/rises": np.zeros(count, np.int32),
            "state/step_size": np.full(count, 2 * epsilon, np.float32),
            "state/checked_loss": np.zeros(count, np.float32),
            "state/halved": np.ones(count, bool),
        }
    return held


def wrong_classes(logits, labels):
    """The wrong classes of each example, from the likeliest down."""
    logits = np.array(logits)
    logits[np.arange(len(logits)), labels] = -np.inf
    order = np.argsort(-np.nan_to_num(logits, neginf=-1e38), axis=-1)
    rest = order != labels[:, np.newaxis]
    return order[rest].reshape(len(logits), -1).astype(np.int32)


def check(held, epsilon):
    """Raises an `AssertionError` if the attack left the ball or the pixels."""
    found = held["state/found"]
    largest = np.abs(found - held["problem/images"]).max()
    if not (largest <= epsilon + 1e-5 and 0 <= found.min() <= found.max() <= 1):
        raise AssertionError(
            f"Expected a perturbation of at most {epsilon} and pixels in "
            f"[0, 1]. Received: perturbation={largest}, "
            f"pixels=[{found.min()}, {found.max()}]"
        )
