"""Replays the first step of golden files in half precision.

The perturbation of a step is discontinuous in what is rounded: a sign turns
where a gradient is near zero, and the implicit term jumps where a pixel comes
to its bound. So two things are compared: at how many pixels our points differ
from the recorded ones, and the gradients at the recorded points.

Errors are norms over all weights, relative to that of the recorded gradient.
"""

from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from fastbat_tf import RobustClassifier
from fastbat_tf.layers import gradient_scaling
from tests.support import golden_methods, golden_network, golden_steps

# Of a rounding to nearest, relative.
ROUNDOFF = {"mixed_bfloat16": 2.0**-8, "mixed_float16": 2.0**-11}
LARGEST_COUNT_OF_SKIPPED_STEPS = 4


class Errors(NamedTuple):
    """What differs from the recorded step.

    Attributes:
        points: Share of the pixels at which z or delta* differs by more than a
            tenth of epsilon.
        gradient: The relative error of the gradient, with its correction.
        plain: That of Fast-BAT's gradient before its correction, else None.
        implicit: That of Fast-BAT's implicit term, else None.
    """

    points: float
    gradient: float
    plain: float | None = None
    implicit: float | None = None


def first_step(recording, policy, jit_compile=False):
    """Computes the first step of a file, at its points.

    Args:
        recording: A `golden_network.Recording`.
        policy: A key of `ROUNDOFF`, or `"float32"`.
        jit_compile: Boolean, whether XLA compiles it. Defaults to False.

    Returns:
        The `Errors`.
    """
    arrays = recording.arrays
    with golden_network.policy(policy):
        robust, noise, index = _build(recording)
    own = []
    _follow(robust.method, arrays, own)

    def compute(images, labels, index, noise):
        own.clear()
        draws = golden_network.RecordedDraws(noise)
        outcome = robust.compute_gradients(
            images, labels, draws, index=index, step=robust.step.value
        )
        memory = outcome.solution.memory
        plain = memory["plain_gradients"] if isinstance(memory, dict) else None
        return outcome.gradients, plain, list(own)

    if jit_compile:
        compute = tf.function(compute, jit_compile=True, autograph=False)
    given = (
        tf.constant(arrays["x1"], tf.float32),
        tf.constant(arrays["y1"], tf.int32),
        tf.constant(index, tf.int32),
        noise,
    )
    scale = getattr(robust.optimizer, "dynamic_scale", None)
    for _ in range(LARGEST_COUNT_OF_SKIPPED_STEPS):
        gradients, plain, points = compute(*given)
        if scale is None or gradient_scaling.all_finite(gradients):
            break
        scale.assign(scale / 2)  # As the optimizer does after such a step.
    names = [
        variable.path.replace(".", "/")
        for variable in robust.classifier.trainable_variables
    ]
    epsilon = robust.method.epsilon
    recorded = [arrays[name] for name in ("z1", "delta1") if name in arrays]
    shares = [
        np.mean(np.abs(np.reshape(ours, theirs.shape) - theirs) > epsilon / 10)
        for ours, theirs in zip(points, recorded, strict=True)
    ]
    errors = {"points": max(shares)}
    theirs = [arrays[f"grad1/{name}"].astype("float64") for name in names]
    errors["gradient"] = _error(gradients, theirs)
    if plain is not None:
        cross = [arrays[f"cross1/{name}"].astype("float64") for name in names]
        first = [a - b for a, b in zip(theirs, cross, strict=True)]
        ours = [
            np.asarray(a) - b for a, b in zip(gradients, plain, strict=True)
        ]
        errors["plain"] = _error(plain, first)
        errors["implicit"] = _error(ours, cross)
    return Errors(**errors)


def with_rounded_kernels(recording, policy):
    """The recording with the kernels that a step in half precision sees.

    Those of the head stay in float32, as there.
    """
    dtype = policy.removeprefix("mixed_")

    def is_rounded(name):
        kernel = name.startswith("weights0/") and name.endswith("/kernel")
        return kernel and "/head/" not in name

    arrays = {
        name: tf.cast(tf.cast(array, dtype), tf.float32).numpy()
        if is_rounded(name)
        else array
        for name, array in recording.arrays.items()
    }
    return recording._replace(arrays=arrays)


def _build(recording):
    """The classifier of a file, its draws, and the indices of its images."""
    meta, arrays = recording.meta, recording.arrays
    if "method" in meta:
        case = golden_methods.case_of(recording)
        robust = golden_methods._build(recording, case)
        robust.outcomes = []
        golden_methods._set_state(recording, robust)
        draws = golden_methods._draws(recording, case, "1")
        noise = {k: tf.cast(v, tf.float32) for k, v in draws.items()}
        return robust, noise, arrays.get("idx1", np.arange(meta["batch"]))
    classifier = golden_network.build_classifier(recording)
    robust = RobustClassifier(classifier, golden_steps.build_method(meta))
    robust.compile(keras.optimizers.SGD(1.0), jit_compile=False)
    noise = {
        name: tf.constant(arrays[f"{key}1"], tf.float32)
        for name, key in (("start", "noise"), ("alignment", "ga_noise"))
        if f"{key}1" in arrays
    }
    return robust, noise, np.arange(len(arrays["x1"]))


def _follow(method, arrays, own):
    """Lets a method note its own points, and go on from the recorded ones."""

    def following(name, hook):
        def hooked(context):
            found = hook(context)
            theirs = tf.constant(arrays[name], tf.float32)
            if name == "z1":
                own.append(found)
                return theirs
            own.append(found.perturbation)
            return found._replace(
                perturbation=tf.reshape(theirs, found.perturbation.shape)
            )

        return hooked

    if "z1" in arrays:
        method._linearization_point = following(
            "z1", method._linearization_point
        )
    method.solve = following("delta1", method.solve)


def _error(ours, theirs):
    apart = sum(
        np.sum((np.asarray(a, "float64") - b) ** 2)
        for a, b in zip(ours, theirs, strict=True)
    )
    error = np.sqrt(apart / sum(np.sum(b**2) for b in theirs))
    # A comparison with NaN would pass as one that does not fail.
    return float(error) if np.isfinite(error) else np.inf
