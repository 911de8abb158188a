"""Reasons not to quote a result as it is."""

from fastbat_tf.experiment.report import curves, measured
from fastbat_tf.experiment.report.epochs import Epochs
from fastbat_tf.experiment.report.measured import FEW_EXAMPLES, Measurement
from fastbat_tf.experiment.report.numbers import (
    interval,
    is_same_radius,
    norm_name,
    percent,
)
from fastbat_tf.experiment.report.record import RunRecord
from fastbat_tf.runtime.formatting import radius


def doubts(unit: list[RunRecord], found: list[Measurement]) -> list[str]:
    """Returns the warnings about a result.

    Args:
        unit: List of one `RunRecord`, or of those of several seeds.
        found: The `Measurement`s to quote, one for each; `[]` if there is
            none.
    """
    reasons = []
    for record in unit:
        about = f"{record.name}: " if len(unit) > 1 else ""
        for reason in (*_of_run(record), *record.results.get("warnings", [])):
            reasons.append(f"{about}{reason}")
    if not found and all(record.results for record in unit):
        reasons.append(
            "The seeds have no radius, attacks and number of images in common."
            if len(unit) > 1
            else "No attack has been run on it."
        )
    if found:
        reasons += [r for r in map(_few, found[:1]) if r]
        unit = measured.only(unit)
        reasons += curves.signs_of_masking(unit, curves.of(unit))
        reasons += _weak(found[0])
        reasons += _other_radius(unit[0], found[0])
        for one in found:
            reasons += _impossible(one)
    return list(dict.fromkeys(reasons))


def _of_run(record):
    reasons = []
    if not record.results:
        epochs = len(record.history)
        total = Epochs(record).planned
        reasons.append(
            f"The run has not ended: it has made {epochs} of {total} epochs, "
            "and has no results yet. The same command continues it."
        )
    elif not record.has_ended:
        reasons.append(
            "The run has not ended: these results are of its best weights so "
            "far."
        )
    if record.weights_have_changed:
        reasons.append(
            "The results are of other weights than the best ones that the run "
            "has now; measure it again."
        )
    return reasons


def _few(one):
    if one.examples >= FEW_EXAMPLES:
        return None
    low, high = one.interval
    return (
        f"Only {one.examples:,} images: the 95% interval of the robust "
        f"accuracy, {interval(one.interval)}, is {100 * (high - low):.1f} "
        f"points wide. Published results use {FEW_EXAMPLES:,} or more."
    )


def _weak(one):
    if one.is_ensemble or one.robust_accuracy == 0:
        return []  # Of nothing, no attack leaves less.
    if len(one.attacks) == 1:
        (name,) = one.attacks
        begin = f"One attack alone, {name}, overestimates robustness"
    else:
        begin = "These attacks together are weaker than AutoAttack"
    return [f"{begin}: papers report autoattack."]


def _other_radius(record, one):
    trained = measured.training_radius(record)
    if trained is None:
        return []
    norm, epsilon = trained
    if is_same_radius(norm, epsilon, one.norm, one.epsilon):
        return []
    return [
        f"It was trained for {norm_name(norm)} epsilon "
        f"{radius(epsilon, norm)}, but measured at {norm_name(one.norm)} "
        f"{radius(one.epsilon, one.norm)} only."
    ]


def _impossible(one):
    if one.clean_accuracy is None or one.robust_accuracy <= one.clean_accuracy:
        return []
    return [
        f"The robust accuracy, {percent(one.robust_accuracy)}, is above the "
        f"clean accuracy, {percent(one.clean_accuracy)}, which cannot be: the "
        "files are of different models."
    ]
