"""Measures clean and robust accuracy."""

import math
import statistics
import warnings as python_warnings

import numpy as np

import fastbat_tf
from fastbat_tf.attacks import (
    check_attacks,
    check_epsilons,
    check_surrogate,
    losses,
    norms,
)
from fastbat_tf.attacks import get as get_attack
from fastbat_tf.attacks.classifier import Classifier
from fastbat_tf.attacks.inputs import as_count
from fastbat_tf.distribution import resolve_jit_compile
from fastbat_tf.errors import InputError
from fastbat_tf.evaluation import checks, inputs
from fastbat_tf.evaluation.runner import AttackOutcome, run_attack
from fastbat_tf.evaluation.state import EvaluationState
from fastbat_tf.runtime import display

NORMAL_QUANTILE = statistics.NormalDist().inv_cdf(0.975)


def evaluate_robustness(
    model,
    dataset,
    attacks=("pgd-50-10",),
    epsilons=(8 / 255,),
    norm="linf",
    max_examples=None,
    surrogate=None,
    batch_size=250,
    seed=0,
    jit_compile: bool | str = "auto",
    directory=None,
    save_images=False,
    verbose=False,
    pixel_range=None,
):
    """Measures clean accuracy, and robust accuracy under attacks.

    Every attack is measured on its own, at every radius, on all examples that
    are classified correctly; an example is robust if the attack finds nothing
    that is misclassified within the radius.

    Args:
        model: A `keras.Model`, any callable from float32 images `(batch,
            height, width, channels)` in `pixel_range` to logits `(batch,
            classes)`, or the path of a `.keras` file or a SavedModel.
        dataset: Images and labels: a pair of arrays, or a `tf.data.Dataset` of
            batches. Images are in `pixel_range`, or, where that is [0, 1] or
            as narrow, gray levels of uint8, which are divided by 255; labels
            are integers.
        attacks: Names, as `fastbat_tf.attacks.parse` takes them:
            `"autoattack"`, `"pgd-50-10"`, `"apgd-ce+square"`, ...
        epsilons: Radii, above 0. For L-infinity fractions of the pixel range.
        norm: `"linf"` or `"l2"`.
        max_examples: Integer; a subset of so many examples, the same number of
            each class as far as there are, drawn by `seed`. All if None or 0.
        surrogate: As `model`; for the attack `transfer`, the model on which the
            perturbations are made. A `RobustClassifier` takes pixels in its
            own range, any other surrogate in that of the model.
        batch_size: Integer, images per call of the model.
        seed: Integer.
        jit_compile: Whether XLA compiles the attacks; `"auto"` where it pays.
        directory: Where state, `results.json` and `outcomes.npz` go. An
            evaluation that was interrupted is continued, and gives what it
            would have given. None: nothing is written.
        save_images: Whether the adversarial images go to `directory` too, one
            `adversarial_*.npz` for each attack and radius, in `pixel_range`.
        verbose: Whether lines tell where the results go, what was done to the
            input, each warning, how far a long attack is, and what each attack
            left; on a terminal, bars show how far it is. If not, the warnings
            come by `warnings.warn`.
        pixel_range: Pair of floats, the range of the pixels that the model
            takes, such as `(0, 255)`. By default that of a
            `RobustClassifier`, and `(0, 1)` of any other model. Radii are
            those of images that were mapped to [0, 1], in both norms.

    Returns:
        A dict, the content of `results.json`. Accuracies are fractions.

        * `examples`, `subset`, `norm`, `seed`;
        * `clean_accuracy`, and `clean_confidence_interval`, 95 % (Wilson);
        * `attacks`: a dict for each attack and radius, with `attack`, `norm`,
          `epsilon`, `robust_accuracy`, `confidence_interval`, `examples`,
          `attacked`, `seconds`, `seed`, and for ensembles `stages`;
        * `worst_case`: likewise for each radius, all `attacks` together, if
          there are several;
        * `warnings`: signs that robustness is overestimated;
        * `notes`: what was done to the input.

    Raises:
        InputError: A `ValueError`, if an argument cannot be used.

    Example:

    ```python
    results = evaluate_robustness(
        model, (images, labels), attacks=["pgd-50-10", "autoattack"]
    )
    results["attacks"][1]["robust_accuracy"]
    ```
    """
    attacks = _as_list("attacks", attacks, str)
    epsilons = _as_list("epsilons", epsilons, float)
    norms.get(norm)
    check_attacks(attacks)
    check_epsilons(epsilons, norm)
    check_surrogate(attacks, surrogate)
    if not epsilons:
        raise InputError(
            "`epsilons` is expected to hold at least one radius. "
            "Received: epsilons=[]"
        )
    if save_images and directory is None:
        raise InputError(
            "`save_images` is expected with a directory. "
            "Received: directory=None"
        )
    seed = as_count("seed", seed, 0)
    batch_size = as_count("batch_size", batch_size)
    max_examples = as_count("max_examples", max_examples or 0, 0)
    network, pixels = inputs.as_network(model, pixel_range)
    images, labels, chosen, subset = inputs.take(dataset, max_examples, seed)
    # From here to the results all pixels are in [0, 1], or uint8.
    images = pixels.to_unit_array(images)
    options = {
        "norm": norm,
        "batch_size": batch_size,
        "jit_compile": resolve_jit_compile(jit_compile),
    }
    # Of the program, if that calls.
    shown = display.get(1 if verbose else -1)
    with shown.task("clean accuracy"):
        clean = Classifier(network, batch_size)(images, labels)
    signs = checks.check_network(network, clean, batch_size)
    warnings = [*signs.values()]
    settings = {
        "version": fastbat_tf.__version__,
        "attacks": attacks,
        "epsilons": epsilons,
        "norm": norm,
        "max_examples": max_examples,
        "seed": seed,
        "save_images": save_images,
        "data": inputs.fingerprint([clean.images, clean.labels]),
        "model": inputs.fingerprint_of_model(model),
        "surrogate": inputs.fingerprint_of_model(surrogate),
    }
    if not pixels.is_unit:
        settings["pixel_range"] = list(pixels)
    if surrogate is not None:
        options["surrogate"], surrogate_pixels = inputs.as_network(
            surrogate, default=pixels
        )
        if not surrogate_pixels.is_unit:
            settings["surrogate_pixel_range"] = list(surrogate_pixels)
    with EvaluationState(directory, settings, save_images) as state:
        clean = clean._replace(
            logits=state.clean_logits(clean.logits, "random" not in signs)
        )
        if surrogate is not None:
            warnings += _look_at(options["surrogate"], clean, batch_size)
        built = {name: get_attack(name, network, **options) for name in attacks}
        notes = _notes(subset, images.dtype, built, clean.logits.shape[-1])
        if not pixels.is_unit:
            notes.append(
                f"Pixels in {pixels} were mapped to [0, 1]; radii are those of "
                "the mapped images."
            )
        if directory is not None:
            shown.say(f"Results: {directory}")
        for line in (*notes, *(f"WARNING: {text}" for text in warnings)):
            shown.say(line)

        attacked = int(clean.correct.sum())
        rows, worst_case, robust = [], [], []
        for epsilon in epsilons:
            outcomes = []
            for name, attack in built.items():
                outcome = run_attack(
                    name, attack, clean, epsilon, seed, state, shown
                )
                if save_images:
                    _save_images(state, outcome, clean, chosen, epsilon, pixels)
                outcomes.append(outcome._replace(perturbation=None))
            rows += [_row(o, attacked, norm, epsilon, seed) for o in outcomes]
            robust += [outcome.robust for outcome in outcomes]
            if len(outcomes) > 1:
                together = _together(outcomes)
                row = _row(together, attacked, norm, epsilon, seed)
                worst_case.append({**row, "attacks": attacks})
            for text in checks.check_outcomes(outcomes):
                warnings.append(f"At epsilon {epsilon:.4g}: {text}")
                shown.say(f"WARNING: {warnings[-1]}")
        for text in _compare_radii(rows, robust):
            warnings.append(text)
            shown.say(f"WARNING: {text}")
        if not verbose:
            for text in warnings:
                python_warnings.warn(text, stacklevel=2)
        results = {
            "clean_accuracy": float(clean.correct.mean()),
            "clean_confidence_interval": confidence_interval(clean.correct),
            "examples": len(clean.labels),
            "subset": subset,
            "norm": norm,
            "seed": seed,
            "attacks": rows,
            "worst_case": worst_case,
            "warnings": warnings,
            "notes": notes,
        }
        if directory is not None:
            state.write_npz(
                "outcomes.npz",
                index=chosen,
                label=clean.labels,
                clean_correct=clean.correct,
                attack=np.array([row["attack"] for row in rows]),
                epsilon=np.array([row["epsilon"] for row in rows]),
                robust=np.array(robust),
            )
            state.write_results(results)
        return results


def confidence_interval(outcomes):
    """The 95 % confidence interval of a share (Wilson, 1927).

    Args:
        outcomes: bool array.

    Returns:
        List of two floats.

    Example:

    >>> [round(bound, 3) for bound in confidence_interval(np.arange(100) < 50)]
    [0.404, 0.596]
    """
    count, share = len(outcomes), float(np.mean(outcomes))
    square = NORMAL_QUANTILE**2 / count
    center = (share + square / 2) / (1 + square)
    half = NORMAL_QUANTILE * math.sqrt(
        share * (1 - share) / count + square / count / 4
    )
    half /= 1 + square
    return [max(center - half, 0.0), min(center + half, 1.0)]


def _as_list(name, values, kind):
    try:
        if isinstance(values, str):  # Else each letter would be a value.
            raise TypeError
        return [kind(value) for value in values]
    except (TypeError, ValueError):
        raise InputError(
            f"`{name}` is expected as a list of {kind.__name__}. "
            f"Received: {name}={values}"
        ) from None


def _look_at(surrogate, clean, batch_size):
    """Refuses a surrogate of other classes; gives what `checks` finds in it."""
    # Labels that any model has: how many it has is asked first.
    answers = Classifier(surrogate, batch_size)(
        clean.images, np.zeros_like(clean.labels)
    )
    answers = answers._replace(labels=clean.labels)
    ours, theirs = clean.logits.shape[-1], answers.logits.shape[-1]
    if ours != theirs:
        raise InputError(
            f"The surrogate is expected to know the model's {ours} classes. "
            f"Received: classes={theirs}"
        )
    signs = checks.check_network(surrogate, answers, batch_size)
    return [f"The surrogate: {text}" for text in signs.values()]


def _compare_radii(rows, robust):
    by_attack = {}
    for row, standing in zip(rows, robust, strict=True):
        radii = by_attack.setdefault(row["attack"], {})
        radii[row["epsilon"]] = standing
    return checks.check_radii(by_attack)


def _notes(subset, dtype, built, classes):
    notes = [subset] if subset else []
    if dtype == np.uint8:
        notes.append("The images are uint8: pixels were divided by 255.")
    for attack in built.values():
        for stage in attack.stages():
            note = losses.fallback(getattr(stage, "loss_name", None), classes)
            if note and note not in notes:
                notes.append(note)
    return notes


def _together(outcomes):
    return AttackOutcome(
        "worst case",
        True,
        np.all([outcome.robust for outcome in outcomes], axis=0),
        sum(outcome.seconds for outcome in outcomes),
    )


def _row(outcome, attacked, norm, epsilon, seed):
    row = {
        "attack": outcome.name,
        "norm": norm,
        "epsilon": epsilon,
        "robust_accuracy": float(outcome.robust.mean()),
        "confidence_interval": confidence_interval(outcome.robust),
        "examples": len(outcome.robust),
        "attacked": attacked,
        "seconds": round(outcome.seconds, 1),
        "seed": seed,
    }
    if outcome.stages:
        row["stages"] = []
        for stage in outcome.stages:
            row["stages"].append(_row(stage, attacked, norm, epsilon, seed))
            attacked = int(stage.robust.sum())
    return row


def _save_images(state, outcome, clean, chosen, epsilon, pixels):
    images = np.clip(clean.images + outcome.perturbation, 0.0, 1.0)
    state.write_npz(
        f"adversarial_{outcome.name}-{epsilon:.8g}.npz",
        images=pixels.from_unit(images),
        label=clean.labels,
        robust=outcome.robust,
        index=chosen,
    )
