"""Summarizes the outcomes of the attacks in `results.json`."""

import numpy as np

from fastbat_tf.evaluation.class_accuracy import by_class
from fastbat_tf.evaluation.intervals import confidence_interval
from fastbat_tf.evaluation.runner import AttackOutcome


def summarize(
    request, clean, outcomes, *, subset, warnings, notes, class_names=None
):
    """Returns the content of `results.json`.

    Args:
        request: The `Request`.
        clean: A `Clean`.
        outcomes: Dict from each radius to the list of its `AttackOutcome`s.
        subset: The sentence that describes the subset, or None.
        warnings: List of strings.
        notes: List of strings.
        class_names: List of strings, the names by label. Defaults to None.

    Returns:
        A dict of JSON types, which `evaluate_robustness` documents.
    """
    rows, worst_case = [], []
    attacked = int(clean.correct.sum())

    def row(outcome, epsilon):
        return {
            **_row(outcome, request, epsilon, attacked),
            **by_class(outcome.robust, clean, class_names),
        }

    for epsilon, at_epsilon in outcomes.items():
        rows += [row(outcome, epsilon) for outcome in at_epsilon]
        if len(at_epsilon) > 1:
            together = row(_worst_case(at_epsilon), epsilon)
            worst_case.append({**together, "attacks": request.attacks})
    return {
        "clean_accuracy": float(clean.correct.mean()),
        "clean_confidence_interval": confidence_interval(clean.correct),
        "examples": len(clean.labels),
        "subset": subset,
        "norm": request.norm,
        "seed": request.seed,
        "attacks": rows,
        "worst_case": worst_case,
        "warnings": warnings,
        "notes": notes,
    }


def _worst_case(outcomes):
    """Returns the outcome of all attacks together at one radius."""
    return AttackOutcome(
        "worst case",
        white_box=True,
        robust=np.all([outcome.robust for outcome in outcomes], axis=0),
        seconds=sum(outcome.seconds for outcome in outcomes),
    )


def _row(outcome, request, epsilon, attacked):
    row = {
        "attack": outcome.name,
        "norm": request.norm,
        "epsilon": epsilon,
        "robust_accuracy": float(outcome.robust.mean()),
        "confidence_interval": confidence_interval(outcome.robust),
        "examples": len(outcome.robust),
        "attacked": attacked,
        "seconds": round(outcome.seconds, 1),
        "seed": request.seed,
    }
    row |= _reached(outcome.reached)
    if outcome.stages:
        row["stages"] = []
        for stage in outcome.stages:
            row["stages"].append(_row(stage, request, epsilon, attacked))
            attacked = int(stage.robust.sum())
    return row


def _reached(reached):
    """What a row has in addition if the attack leads toward a class."""
    if reached is None:
        return {}
    success = reached.success[reached.attacked]
    return {
        "target": reached.target,
        # `attacked` counts all that are classified correctly, as elsewhere.
        "target_examples": len(success),
        "target_success_rate": float(success.mean()) if len(success) else None,
        "target_confidence_interval": (
            confidence_interval(success) if len(success) else None
        ),
    }
