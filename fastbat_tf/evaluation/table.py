"""Prints the results of an evaluation as a table."""

from fastbat_tf.evaluation import corruption_table
from fastbat_tf.runtime import display, formatting

HEADINGS = ("attack", "epsilon", "accuracy", "95 % interval", "seconds")


def show(results):
    """Prints the results, followed by the notes and warnings.

    Args:
        results: Dict, as `evaluate_robustness` returns it.
    """
    display.table(_rows(results))
    display.result(
        f"{results['examples']} examples, norm {results['norm']}, seed "
        f"{results['seed']}."
    )
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
        ),
    ]
    for row in (*results["attacks"], *results["worst_case"]):
        rows.append(_line(row, row["attack"], radius(row)))
        for stage in row.get("stages", []):
            rows.append(_line(stage, f"  after {stage['attack']}", ""))
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
        f"{row['seconds']:.1f}",
    )


def radius(row):
    """The radius of a row of the results, such as `8/255`."""
    return formatting.radius(row["epsilon"], row["norm"])


def _interval(bounds):
    return " to ".join(f"{100 * bound:.1f}" for bound in bounds)
