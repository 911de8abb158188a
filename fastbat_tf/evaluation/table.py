"""Prints the results of an evaluation as a table."""

import itertools

from fastbat_tf.evaluation import corruption_table
from fastbat_tf.runtime import display, formatting

HEADINGS = (
    *("attack", "epsilon", "accuracy", "95 % interval"),
    *("worst class", "seconds"),
)
LONGEST_NAME = 12  # Characters of the name of a class.


def show(results):
    """Prints the results, followed by the notes and warnings.

    Args:
        results: Dict, as `evaluate_robustness` returns it.
    """
    rows = _rows(results)
    # Rows of earlier versions say nothing about classes.
    filled = [any(column) for column in zip(*rows[1:], strict=True)]
    display.table([tuple(itertools.compress(row, filled)) for row in rows])
    display.result(
        f"{results['examples']} examples, norm {results['norm']}, seed "
        f"{results['seed']}."
    )
    for row in results.get("distances", []):
        display.result(distances(row))
    if "corruptions" in results:
        _show_corruptions(results["corruptions"])
    display.remarks(results["notes"], results["warnings"])


def _rows(results):
    rows = [
        HEADINGS,
        (
            "none (clean)",
            "",
            f"{results['clean_accuracy']:.2%}",
            _interval(results["clean_confidence_interval"]),
            "",
            "",
        ),
    ]
    for row in (*results["attacks"], *results["worst_case"]):
        rows.append(_line(row, row["attack"], radius(row)))
        for stage in row.get("stages", []):
            rows.append(_line(stage, f"  after {stage['attack']}", ""))
        if "target" in row:
            rows.append(_reached(row))
    return rows


def _show_corruptions(found):
    """Prints the accuracy on each corruption at each severity."""
    display.table(corruption_table.rows(found))
    display.result(corruption_table.describe(found))


def _line(row, name, epsilon):
    return (
        name,
        epsilon,
        f"{row['robust_accuracy']:.2%}",
        _interval(row["confidence_interval"]),
        worst_class(row),
        f"{row['seconds']:.1f}",
    )


def _reached(row):
    rate, bounds = row["target_success_rate"], row["target_confidence_interval"]
    return (
        f"  predicted as {row['target']}",
        "",
        "none attacked" if rate is None else f"{rate:.2%}",
        "" if rate is None else _interval(bounds),
        "",
        "",
    )


def radius(row):
    """The radius of a row of the results, such as `8/255`."""
    return formatting.radius(row["epsilon"], row["norm"])


def worst_class(row):
    """The class of a row with the lowest accuracy, such as `4.0% cat`.

    Rows of stages have none, nor have those of earlier versions.

    Example:

    >>> worst_class({"worst_class": {"label": 3, "robust_accuracy": 0.04}})
    '4.0% class 3'
    """
    worst = row.get("worst_class")
    if worst is None:
        return ""
    name = worst.get("name", f"class {worst['label']}")
    if len(name) > LONGEST_NAME:
        name = f"{name[: LONGEST_NAME - 3]}..."
    return f"{worst['robust_accuracy']:.1%} {name}"


def distances(row):
    """Returns a sentence about the nearest adversarial images.

    Args:
        row: Dict, an entry of `distances` of the results.
    """
    median, low, high = (
        formatting.distance(value, row["norm"])
        for value in (row["median"], *row["quartiles"])
    )
    missing = row["attacked"] - row["found"]
    none = f"; none was found for {missing}" if missing else ""
    return (
        f"Nearest adversarial images ({row['attack']}): median distance "
        f"{median}, quartiles {low} and {high}, of {row['attacked']} correctly "
        f"classified images{none}."
    )


def _interval(bounds):
    return " to ".join(f"{100 * bound:.1f}" for bound in bounds)
