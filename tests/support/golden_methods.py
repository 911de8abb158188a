"""Replays recorded steps of the FastAT Benchmark, method by method.

Each file of `tests/golden/methods` holds two steps of one method, recorded in
float32 by the benchmark's program on a small ResNet-18.
"""

import keras
import numpy as np
import tensorflow as tf

from fastbat_tf import RobustClassifier, methods
from fastbat_tf.experiment import loop
from fastbat_tf.experiment.config import parse_fraction
from fastbat_tf.methods.state import Plan
from fastbat_tf.training import losses
from tests.support import golden_network
from tests.support.golden_cases import CASES, EPOCHS

# Of the largest entry of an array. The files were recorded in float32.
TOLERANCE = 1e-4
# What follows from the first step: it magnifies the float32 rounding of that.
LATER_TOLERANCE = 1e-3
# One pixel of this file lies within float32 rounding of a sign.
DISAGREEING_PIXELS = {"rs_aaer": 1e-3}

STEPS_PER_EPOCH = 40

# Recorded names of the state, and ours.
STATE = {
    "memory_delta": "delta",
    "memory_momentum": "momentum",
    "uap": "uap",
    "momentum": "momentum",
    "LI": "indicative",
    "feature/uap_linear/kernel": "kernel1",
    "feature/uap_linear/bias": "bias1",
    "feature/uap_classifier/kernel": "kernel2",
    "feature/uap_classifier/bias": "bias2",
}


class Replayed(RobustClassifier):
    """Trains with recorded draws, and keeps what each update computed."""

    def draws(self, step):
        return golden_network.RecordedDraws(self.recorded)

    def compute_gradients(self, *args, **kwargs):
        outcome = super().compute_gradients(*args, **kwargs)
        self.outcomes.append(outcome)
        return outcome


def case_of(recording):
    """The `Case` of a recording, or a refusal."""
    name = recording.meta["method"]
    if name not in CASES:
        raise ValueError(f"Unknown method. Received: method={name}")
    return CASES[name]


def replay(recording, mode):
    """Replays both steps in float64; returns our arrays by recorded name."""
    with golden_network.precision("float64"):
        return _replay(recording, mode)


def _replay(recording, mode):
    meta, arrays, case = recording.meta, recording.arrays, case_of(recording)
    robust = _build(recording, case)
    _set_state(recording, robust)

    def update(images, labels, index, draws):
        robust.recorded, robust.outcomes = draws, []
        robust.train_step(({"images": images, "index": index}, labels))
        return [
            (o.loss, o.solution.perturbation, o.gradients, o.reports)
            for o in robust.outcomes
        ]

    if mode == "graph":
        update = tf.function(update, autograph=False)
    ours = {}
    for number in "12":
        index = arrays.get(f"idx{number}", np.arange(meta["batch"]))
        outcomes = update(
            tf.constant(arrays[f"x{number}"], tf.float64),
            tf.constant(arrays[f"y{number}"], tf.int32),
            tf.constant(index, tf.int32),
            _draws(recording, case, number),
        )
        ours |= _named_outcomes(robust, case, outcomes, number, meta["batch"])
        for theirs, name in STATE.items():
            if name in robust.method_state.entries:
                first, slash, rest = theirs.partition("/")
                ours[first + number + slash + rest] = (
                    robust.method_state.entries[name].numpy()
                )
    weights = golden_network.named_weights(robust.classifier)
    ours |= {f"weights2/{name}": v.numpy() for name, v in weights.items()}
    images = tf.constant(arrays["x2"], tf.float64)
    ours["logits_eval"] = robust.classifier(images, training=False).numpy()
    return ours


def _build(recording, case):
    meta = recording.meta
    settings = {
        **meta["hyperparameters"],
        "epsilon": parse_fraction(meta["epsilon"]),
        "epoch": meta["epoch"],
        "label_smoothing": meta["label_smoothing"],
    }
    method = methods.get(
        case.method, epsilon=settings["epsilon"], **case.options(settings)
    )
    classifier = golden_network.build_classifier(recording)
    robust = Replayed(classifier, method)
    smoothing = meta["label_smoothing"] if case.smooths else 0.0
    rows = recording.arrays.get("memory_delta0", recording.arrays["x1"])
    robust.compile(
        keras.optimizers.SGD(meta["learning_rate"], meta["momentum"]),
        losses.get("crossentropy", label_smoothing=smoothing),
        weight_decay=meta["weight_decay"],
        attack_loss=losses.get("crossentropy") if case.plain_attack else None,
        plan=Plan(EPOCHS, STEPS_PER_EPOCH, meta["batch"], len(rows)),
        run_eagerly=True,  # The replay itself is the graph.
    )
    loop.make_variables(robust)
    updates_per_epoch = STEPS_PER_EPOCH * method.replays
    robust.step.assign(meta["epoch"] * updates_per_epoch)
    return robust


def _set_state(recording, robust):
    entries = robust.method_state.entries
    for theirs, name in STATE.items():
        first, slash, rest = theirs.partition("/")
        recorded = recording.arrays.get(f"{first}0{slash}{rest}")
        if name in entries and recorded is not None:
            entries[name].assign(np.reshape(recorded, entries[name].shape))
    if "written" in entries:
        seen = np.full(entries["written"].shape, recording.meta["epoch"])
        entries["written"].assign(seen)
    if "previous" in entries:
        # The mean of the epoch before, as this epoch's first step finds it.
        settings = recording.meta["hyperparameters"]
        entries["sum"].assign(settings["pre_loss"])
        entries["count"].assign(1.0)


def _draws(recording, case, number):
    def find(name, otherwise=None):
        array = recording.arrays.get(name + number, otherwise)
        if array is None:
            raise KeyError(f"Expected an array {name}{number}.")
        return np.asarray(array, "float64")

    return {
        ours: tf.constant(
            theirs(find) if callable(theirs) else find(theirs), tf.float64
        )
        for ours, theirs in case.draws.items()
    }


def _named_outcomes(robust, case, outcomes, number, batch):
    loss, delta, gradients, reports = zip(*outcomes, strict=True)
    one = robust.method.replays == 1
    ours = {
        f"loss{number}": loss[0].numpy() if one else np.array(loss),
        f"delta{number}": delta[0].numpy() if one else np.array(delta),
    }
    for theirs, name in case.reports.items():
        scale = batch if theirs == "n_abnormal" else 1
        ours[theirs + number] = scale * reports[0][name].numpy()
    if number == "1":
        names = [v.path.replace(".", "/") for v in robust.trainable_variables]
        for prefix, values in (
            ("grad1", gradients[0]),
            ("grad1_last_replay", gradients[-1]),
        ):
            for name, value in zip(names, values, strict=True):
                ours[f"{prefix}/{name}"] = tf.convert_to_tensor(value).numpy()
    return ours


def errors_of(recording, ours):
    """The largest errors by kind, of the first step and of what follows.

    Returns:
        Two dicts: errors against `TOLERANCE`, and against `LATER_TOLERANCE`,
        both relative to the largest entry of the recorded array; `delta` is a
        share of pixels where a few may disagree.
    """
    first, later = {}, {}
    for name, theirs in recording.arrays.items():
        if name not in ours:
            continue
        top, _, rest = name.partition("/")
        if name.startswith("step_fraction"):
            theirs = theirs.mean()
        kind = top.rstrip("0123456789") or top
        if top == "weights2":
            kind = "averages" if "/moving_" in name else "weights"
        error = _error(recording, kind, theirs, ours[name])
        is_state = kind in STATE or kind == "feature"
        is_first = (top.endswith("1") or "grad1" in top) and not is_state
        kinds = first if is_first else later
        kinds[kind] = max(kinds.get(kind, 0.0), error)
    return first, later


def _error(recording, kind, theirs, ours):
    apart = np.abs(np.reshape(ours, np.shape(theirs)) - theirs)
    scale = max(float(np.abs(theirs).max()), 1e-30)
    few = DISAGREEING_PIXELS.get(recording.meta["method"])
    if few and kind == "delta":
        return 0.0 if np.mean(apart > TOLERANCE * scale) <= few else np.inf
    error = float(apart.max()) / scale
    # NaN would be lost in `max`.
    return error if np.isfinite(error) else np.inf


def check(recording, modes=("eager", "graph")):
    """Replays a recording in float64.

    Returns:
        Whether all is within tolerance, and a line that says so.
    """
    first, later = {}, {}
    for mode in modes:
        found = errors_of(recording, replay(recording, mode))
        for errors, more in zip((first, later), found, strict=True):
            for kind, error in more.items():
                errors[kind] = max(errors.get(kind, 0.0), error)
    passed = (
        max(first.values()) <= TOLERANCE
        and max(later.values()) <= LATER_TOLERANCE
    )
    word = "ok" if passed else "EXCEEDED"
    listed = "; ".join(
        ", ".join(f"{kind} {error:.1e}" for kind, error in errors.items())
        + f"; tolerance {tolerance:.0e}"
        for errors, tolerance in (
            (first, TOLERANCE),
            (later, LATER_TOLERANCE),
        )
    )
    return passed, f"{recording.name}: {word}: {listed}"
