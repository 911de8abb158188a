"""Summarizes the outcomes of the attacks in `results.json`."""

import numpy as np

from fastbat_tf.evaluation.runner import AttackOutcome

CONFIDENCE = 0.95


def summarize(request, clean, outcomes, *, subset, warnings, notes):
    """Returns the content of `results.json`.

    Args:
        request: The `Request`.
        clean: A `Clean`.
        outcomes: Dict from each radius to the list of its `AttackOutcome`s.
        subset: The sentence that describes the subset, or None.
        warnings: List of strings.
        notes: List of strings.

    Returns:
        A dict of JSON types, which `evaluate_robustness` documents.
    """
    rows, worst_case = [], []
    attacked = int(clean.correct.sum())
    for epsilon, at_epsilon in outcomes.items():
        rows += [_row(o, request, epsilon, attacked) for o in at_epsilon]
        if len(at_epsilon) > 1:
            row = _row(_worst_case(at_epsilon), request, epsilon, attacked)
            worst_case.append({**row, "attacks": request.attacks})
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


def confidence_interval(outcomes):
    """Returns the 95 % confidence interval of a proportion (Wilson, 1927).

    Args:
        outcomes: bool array.

    Returns:
        List of two floats, the lower and the upper bound.

    Example:

    >>> [round(bound, 3) for bound in confidence_interval(np.arange(100) < 50)]
    [0.404, 0.596]
    """
    from scipy import stats  # Takes a second to import.

    test = stats.binomtest(int(np.sum(outcomes)), len(outcomes))
    interval = test.proportion_ci(CONFIDENCE, method="wilson")
    return [float(interval.low), float(interval.high)]


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
