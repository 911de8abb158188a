"""Results of an evaluation as text."""

HEADINGS = ("attack", "epsilon", "accuracy", "95 % interval", "seconds")


def format_table(results):
    """The results as a table, with what must be known to read it.

    Args:
        results: As `evaluate_robustness` gives them.

    Returns:
        A string of several lines.
    """
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
    lines = align(rows)
    lines.append(
        f"{results['examples']} examples, norm {results['norm']}, seed "
        f"{results['seed']}."
    )
    lines += results["notes"]
    lines += [f"WARNING: {text}" for text in results["warnings"]]
    return "\n".join(lines)


def align(rows):
    """Lines of a table: its first column to the left, the others right.

    Args:
        rows: Tuples of strings, of one length.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            [row[0].ljust(widths[0])]
            + [
                cell.rjust(width)
                for cell, width in zip(row[1:], widths[1:], strict=True)
            ]
        ).rstrip()
        for row in rows
    ]


def _line(row, name, epsilon):
    return (
        name,
        epsilon,
        f"{row['robust_accuracy']:.2%}",
        _interval(row["confidence_interval"]),
        f"{row['seconds']:.1f}",
    )


def radius(row):
    """The radius of a row of the results, as people write it."""
    if row["norm"] == "linf":
        return f"{255 * row['epsilon']:g}/255"
    return f"{row['epsilon']:g}"


def _interval(bounds):
    return " to ".join(f"{100 * bound:.1f}" for bound in bounds)
