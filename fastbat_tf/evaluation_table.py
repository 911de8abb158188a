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
        rows.append(_line(row, row["attack"], _radius(row)))
        for stage in row.get("stages", []):
            rows.append(_line(stage, f"  after {stage['attack']}", ""))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            [row[0].ljust(widths[0])]
            + [
                cell.rjust(width)
                for cell, width in zip(row[1:], widths[1:], strict=True)
            ]
        ).rstrip()
        for row in rows
    ]
    lines.append(
        f"{results['examples']} examples, norm {results['norm']}, seed "
        f"{results['seed']}."
    )
    lines += results["notes"]
    lines += [f"WARNING: {text}" for text in results["warnings"]]
    return "\n".join(lines)


def _line(row, name, radius):
    return (
        name,
        radius,
        f"{row['robust_accuracy']:.2%}",
        _interval(row["confidence_interval"]),
        f"{row['seconds']:.1f}",
    )


def _radius(row):
    if row["norm"] == "linf":
        return f"{255 * row['epsilon']:g}/255"
    return f"{row['epsilon']:g}"


def _interval(bounds):
    return " to ".join(f"{100 * bound:.1f}" for bound in bounds)
