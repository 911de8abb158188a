"""Can I quote this?"""

from fastbat_tf.experiment.report import measured, suggestions
from fastbat_tf.experiment.report.blocks import Table, Text
from fastbat_tf.experiment.report.doubts import doubts
from fastbat_tf.experiment.report.measured import Measurement
from fastbat_tf.experiment.report.numbers import (
    interval,
    listed,
    mean_percent,
    norm_name,
    percent,
    radius_with_norm,
)
from fastbat_tf.experiment.report.record import RunRecord, grouped
from fastbat_tf.runtime.formatting import radius

QUESTION = "Can I quote this?"
HEADINGS = (
    *("run", "clean accuracy", "95% interval"),
    *("robust accuracy", "95% interval", "epsilon", "attacks", "examples"),
)


def blocks(records: list[RunRecord]) -> list:
    """Returns the blocks of this section.

    Args:
        records: List of `RunRecord`s.
    """
    units = grouped(records)
    quoted = {
        name: measured.quoted(measured.only(unit))
        for name, unit in units.items()
    }
    made = []
    if len(units) > 1 and any(quoted.values()):
        made.append(_overview(quoted))
    for name, unit in units.items():
        if len(units) > 1:
            made.append(Text(name, "heading"))
        made += _unit(unit, quoted[name], len(units) == 1)
    return made


def _overview(quoted):
    rows = [HEADINGS]
    for name, found in quoted.items():
        if not found:
            rows.append((name, *["not measured"], *[""] * 6))
            continue
        first = found[0]
        clean = [m.clean_accuracy for m in found]
        robust = [m.robust_accuracy for m in found]
        several = len(found) > 1
        rows.append(
            (
                f"{name} ({len(found)} seeds)" if several else name,
                _mean(clean),
                "" if several else _interval(first.clean_interval),
                _mean(robust),
                "" if several else _interval(first.interval),
                _radius(first),
                ", ".join(first.attacks),
                f"{first.examples:,}",
            )
        )
    caption = (
        "Clean accuracy, and the share of images that no attack within epsilon "
        "breaks. Of several seeds: mean ± sample standard deviation."
    )
    return Table(rows, caption)


def _unit(unit, found, is_alone):
    """The blocks of a run, or of a run with several seeds."""
    reasons = doubts(unit, found)
    unit = measured.only(unit)
    made = [Text(_verdict(found, reasons))]
    if found and (is_alone or len(unit) > 1):
        made.append(_seeds(unit, found) if len(unit) > 1 else _facts(found[0]))
    made += [Text(reason, "warning") for reason in reasons]
    if found:
        made.append(Text(_sentence(unit, found), "quote"))
    command = suggestions.measure_better(unit, found)
    if command:
        made += [
            Text("This measures it better:", "note"),
            Text(command, "code"),
        ]
    notes = [note for r in unit for note in r.results.get("notes", [])]
    made += [Text(note, "note") for note in dict.fromkeys(notes)]
    return made


def _verdict(found, reasons):
    if not found:
        return "No: there is nothing to quote yet."
    if not reasons:
        return "Yes: no sign against it was found."
    if len(reasons) == 1:
        return "Only with this warning."
    return f"Only with these {len(reasons)} warnings."


def _facts(one: Measurement):
    first, *others = one.attacks
    rows = [
        ("measured", "accuracy", "95% interval"),
        (
            "clean images",
            _percent(one.clean_accuracy),
            _interval(one.clean_interval),
        ),
        (
            f"worst case of {len(one.attacks)} attacks" if others else first,
            percent(one.robust_accuracy),
            interval(one.interval),
        ),
    ]
    attacks = ", ".join(one.attacks)
    caption = (
        f"On {one.examples:,} images; the attacks ({attacks}) move each pixel "
        f"by at most {radius(one.epsilon, one.norm)} of its range."
        if one.norm == "linf"
        else f"On {one.examples:,} images; the attacks ({attacks}) move each "
        f"image by at most {_radius(one)}."
    )
    return Table(rows, caption)


def _seeds(unit, found):
    clean = [m.clean_accuracy for m in found]
    robust = [m.robust_accuracy for m in found]
    rows = [
        (
            *("seed", "clean accuracy", "95% interval"),
            *("robust accuracy", "95% interval"),
        )
    ]
    for record, one in zip(unit, found, strict=True):
        rows.append(
            (
                str(record.config["training"]["seed"]),
                _percent(one.clean_accuracy),
                _interval(one.clean_interval),
                percent(one.robust_accuracy),
                interval(one.interval),
            )
        )
    rows.append(("mean ± sd", _mean(clean), "", _mean(robust), ""))
    first = found[0]
    return Table(
        rows,
        f"On {first.examples:,} images, at epsilon {_radius(first)}, attacks: "
        f"{', '.join(first.attacks)}. sd: sample standard deviation.",
    )


def _sentence(unit, found):
    first, one = unit[0], found[0]
    version = first.settings(one.rows[0]).get("version")
    program = f"fastbat_tf {version}" if version else "fastbat_tf"
    images = "test images" if first.config else "images"
    attacks = listed(one.attacks)
    if len(one.attacks) > 1:
        attacks = f"the worst case of {attacks}"
    clean = [m.clean_accuracy for m in found]
    robust = [m.robust_accuracy for m in found]
    several = len(found) > 1
    scores = []
    if None not in clean:
        shown = (
            ""
            if several
            else f" (95% interval {_interval(one.clean_interval)})"
        )
        scores.append(f"a clean accuracy of {_mean(clean)}{shown}")
    shown = "" if several else f" (95% interval {interval(one.interval)})"
    scores.append(f"a robust accuracy of {_mean(robust)}{shown}")
    over = ""
    if several:
        over = f" (mean ± sample standard deviation over {len(found)} seeds)"
    return (
        f"{_subject(unit)} has {' and '.join(scores)}{over} under {attacks} "
        f"within {norm_name(one.norm)} radius {radius(one.epsilon, one.norm)}, "
        f"measured on {one.examples:,} {images} with {program}."
    )


def _subject(unit):
    first = unit[0]
    if first.config is None:
        model = first.results.get("model")
        return f"The model {model}" if model else "The model"
    config = first.config
    seeds = [str(record.config["training"]["seed"]) for record in unit]
    details = [f"{config['training']['epochs']} epochs"]
    found = measured.training_radius(first)
    if found:
        norm, epsilon = found
        details.append(f"{norm_name(norm)} epsilon {radius(epsilon, norm)}")
    word = "seed" if len(seeds) == 1 else "seeds"
    details.append(f"{word} {', '.join(seeds)}")
    method = first.method
    if method == "standard":
        method = "standard training"
    return (
        f"{config['model']['model']} trained on {config['data']['dataset']} "
        f"with {method} ({', '.join(details)})"
    )


def _radius(one):
    return radius_with_norm(one.epsilon, one.norm)


def _mean(shares):
    return "" if None in shares else mean_percent(shares)


def _percent(share):
    return "" if share is None else percent(share)


def _interval(bounds):
    return "" if bounds is None else interval(bounds)
