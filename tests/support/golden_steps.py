"""Replays recorded training steps of the published program.

    python -m tests.support.golden_steps [--float32] FILE.npz...

Each file holds the weights, images, labels and noise of two training steps,
and what came of them (`tests/golden/README.md`). They are replayed over the
public classes, in float64, eagerly and as a graph. One line per file gives the
largest error of each kind, relative to the largest entry of the recorded
array, against its tolerance. With `--float32` they are replayed in float32,
eagerly, as a graph and compiled by XLA. The files of the FastAT Benchmark,
which are float32 themselves, are replayed in float64 alone.

Exits 1 when a tolerance is exceeded, 2 when a file cannot be replayed.
"""

import argparse
import pathlib
import sys
import zipfile

import keras
import numpy as np
import tensorflow as tf

from fastbat_tf import RobustClassifier, methods
from fastbat_tf.experiment.config import parse_fraction
from tests.support import golden_methods
from tests.support.golden_network import (
    RecordedDraws,
    activation_of,
    build_classifier,
    load,
    named_weights,
    precision,
)

# The arrays were stored in float32, about 6e-8 of their entries.
TOLERANCE = 1e-6
# In float32 the first step is compared. The lower-level step of thousands of
# gray levels magnifies rounding: disturbing the weights of the Softplus file
# by 6e-8 (half a unit in the last place of float32) moves delta1 by up to
# 2.4e-3 and z2 by 1.4e-1 in float64, so that delta is compared as a share of
# agreeing pixels, as everything is where a ReLU can flip.
FLOAT32_TOLERANCE = 1e-3
FLOAT32_AGREEING_PIXELS = 0.99
# One ReLU of this file is so near its kink that float32 flips it now and then:
# 2.0 % of the pixels with the fused BatchNorm, 0.02 % by XLA. In float64,
# disturbing the weights by 3e-7 flips none, by 1e-6 up to 8 % of the pixels.
FLOAT32_AGREEING_PIXELS_OF = {"wrn10w1_fast_bat_eps8": 0.97}
FLOAT32_COMPARED = ("z1", "cross1", "grad1")


class RecordingFastBAT(methods.get_class("fastbat")):
    """Fast-BAT that keeps the gradient before its correction."""

    def correct(self, context, solution, gradients, perturbation_gradient):
        solution.memory["plain_gradients"] = list(gradients)
        return super().correct(
            context, solution, gradients, perturbation_gradient
        )


def build_method(meta):
    """Builds the method that `meta` describes."""
    mode, steps = meta["mode"], meta.get("attack_steps", 1)
    if mode == "standard" or (mode == "pgd" and steps == 0):
        return methods.get("standard")
    options = {
        "epsilon": parse_fraction(str(meta["epsilon"])),
        "step_size": meta["alpha"],
    }
    if mode == "fast_bat":
        return RecordingFastBAT(implicit_lambda=meta["lam"], **options)
    if mode == "fast_at":
        return methods.get("fastat", **options)
    if mode == "pgd":
        return methods.get("pgd", steps=steps, **options)
    if mode == "fast_at_ga":
        return methods.get("gradalign", coefficient=meta["ga_coef"], **options)
    raise ValueError(f"Unknown mode of training. Received: mode={mode}")


def replay(recording, dtype="float64", mode="graph"):
    """Replays the two steps.

    Args:
        recording: A `Recording`.
        dtype: `"float64"` or `"float32"`.
        mode: `"eager"`, `"graph"` or `"xla"`.

    Returns:
        Dict of our arrays by the names of the recorded ones.
    """
    with precision(dtype):
        return _replay(recording, dtype, mode)


def _replay(recording, dtype, mode):
    meta, arrays = recording.meta, recording.arrays
    classifier = build_classifier(recording)
    robust = RobustClassifier(classifier, build_method(meta))
    robust.compile(
        keras.optimizers.SGD(meta["learning_rate"], meta["momentum"]),
        weight_decay=meta["weight_decay"],
        jit_compile=False,
    )

    def compute(images, labels, noise):
        outcome = robust.compute_gradients(images, labels, RecordedDraws(noise))
        memory = outcome.solution.memory
        bilevel = isinstance(memory, dict)
        return {
            "delta": outcome.solution.perturbation,
            "gradients": outcome.gradients,
            "z": memory["linearization_point"] if bilevel else None,
            "plain_gradients": memory["plain_gradients"] if bilevel else None,
            "interior_fraction": outcome.reports.get("interior_fraction"),
        }

    if mode != "eager":
        compute = tf.function(compute, jit_compile=mode == "xla")
    ours = {}
    for index in "12":
        noise = {
            name: tf.constant(arrays[key + index], dtype)
            for name, key in (("start", "noise"), ("alignment", "ga_noise"))
            if key + index in arrays
        }
        labels = tf.constant(arrays[f"y{index}"], tf.int32)
        step = compute(tf.constant(arrays[f"x{index}"], dtype), labels, noise)
        for name in ("z", "delta", "interior_fraction"):
            ours[name + index] = step[name]
        if index == "1":
            ours |= _named_gradients(classifier, step)
        robust.apply_gradients(step["gradients"])
    for name, variable in named_weights(classifier).items():
        ours[f"weights2/{name}"] = variable
    logits = classifier(tf.constant(arrays["x2"], dtype), training=False)
    ours["logits_eval"] = logits
    return {k: np.asarray(v) for k, v in ours.items() if v is not None}


def _named_gradients(classifier, step):
    plain = step["plain_gradients"] or step["gradients"]
    names = [
        variable.path.replace(".", "/")
        for variable in classifier.trainable_variables
    ]
    named = {}
    for name, full, first in zip(names, step["gradients"], plain, strict=True):
        named[f"grad1/{name}"] = full
        named[f"cross1/{name}"] = full - first
    return named


def errors_of(recording, ours, names=None):
    """The largest error of each kind, relative to its array's largest entry.

    Moving statistics, and logits with them, are compared where the published
    program makes as many forward passes as ours: not for Fast-BAT and
    GradAlign, where it makes one more than needed.
    """
    mode = recording.meta["mode"]
    extra_forward = mode in ("fast_bat", "fast_at_ga")
    compared = {"delta", "grad", "weights", "logits_eval"}
    if mode == "fast_bat":
        compared |= {"z", "cross", "interior_fraction"}
    errors = {}
    for name, theirs in recording.arrays.items():
        kind = name.split("/")[0].rstrip("12")
        statistics = "/moving_" in name or name == "logits_eval"
        if kind not in compared or name.startswith("weights0"):
            continue
        if (names and name not in names) or (statistics and extra_forward):
            continue
        if statistics:
            kind = "statistics" if "/" in name else "logits"
        scale = max(float(np.abs(theirs).max()), 1e-30)
        error = float(np.abs(ours[name] - theirs).max()) / scale
        # NaN would be lost in `max`.
        error = error if np.isfinite(error) else np.inf
        errors[kind] = max(errors.get(kind, 0.0), error)
    return errors


def agreeing_pixels(recording, ours):
    """The smaller share of pixels of z1 and delta1 that agree in float32."""
    shares = [1.0]
    for name in {"z1", "delta1"} & set(ours):
        theirs = recording.arrays[name]
        allowed = FLOAT32_TOLERANCE * np.abs(theirs).max()
        shares.append(float(np.mean(np.abs(ours[name] - theirs) <= allowed)))
    return min(shares)


def check(recording, modes=("eager", "graph")):
    """Replays a recording in float64.

    Returns:
        Whether all is within tolerance, and a line that says so.
    """
    if "method" in recording.meta:
        return golden_methods.check(recording, modes)
    errors = {}
    for mode in modes:
        found = errors_of(recording, replay(recording, "float64", mode))
        errors = {kind: max(errors.get(kind, 0), found[kind]) for kind in found}
    passed = max(errors.values()) <= TOLERANCE
    return passed, _line(recording, passed, errors, f"{TOLERANCE:.0e}")


def check_float32(recording):
    """Replays the first step in float32, eagerly, as a graph and by XLA.

    Returns:
        Whether all is within tolerance, and a line that says so.
    """
    if "method" in recording.meta:
        raise ValueError(
            "Expected no --float32: the file was recorded in float32. "
            f"Received: method={recording.meta['method']}"
        )
    errors, share = {}, 1.0
    smooth = activation_of(recording) == "softplus"
    for mode in ("eager", "graph", "xla"):
        ours = replay(recording, "float32", mode)
        share = min(share, agreeing_pixels(recording, ours))
        if smooth:
            first = [n for n in ours if n.split("/")[0] in FLOAT32_COMPARED]
            found = errors_of(recording, ours, first)
            errors = {k: max(errors.get(k, 0), found[k]) for k in found}
    expected = FLOAT32_AGREEING_PIXELS_OF.get(
        recording.name, FLOAT32_AGREEING_PIXELS
    )
    passed = share >= expected and all(
        error <= FLOAT32_TOLERANCE for error in errors.values()
    )
    errors["disagreeing pixels"] = 1.0 - share
    against = f"{FLOAT32_TOLERANCE:.0e}, {1 - expected:.0%} of pixels"
    return passed, _line(recording, passed, errors, against)


def _line(recording, passed, errors, tolerance):
    listed = ", ".join(f"{kind} {error:.1e}" for kind, error in errors.items())
    word = "ok" if passed else "EXCEEDED"
    return f"{recording.name}: {word}: {listed}; tolerance {tolerance}"


def main(arguments=None):
    """Replays the files of the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", metavar="FILE")
    parser.add_argument("--float32", action="store_true")
    options = parser.parse_args(arguments)
    verify = check_float32 if options.float32 else check
    return verify_files(options.files, lambda recording: [verify(recording)])


def verify_files(paths, verify):
    """Verifies golden files, and prints what was found.

    Args:
        paths: Sequence of paths.
        verify: Function from a `Recording` to pairs: whether a tolerance is
            kept, and a line that says so.

    Returns:
        The exit status: 1 if a tolerance is exceeded, else 2 if a file cannot
        be read.
    """
    status = 0
    for path in paths:
        try:
            for passed, line in verify(load(path)):
                print(line, flush=True)
                status = status if passed else 1
        except (
            ValueError,
            OSError,
            KeyError,
            EOFError,
            zipfile.BadZipFile,
        ) as error:
            print(f"{pathlib.Path(path).stem}: refused: {error}", flush=True)
            status = status or 2
    return status


if __name__ == "__main__":
    sys.exit(main())
