"""What do the images look like?"""

from collections.abc import Sequence

import numpy as np

from fastbat_tf.experiment.report import (
    contact_sheet,
    measured,
    missing,
    suggestions,
)
from fastbat_tf.experiment.report.blocks import Picture, Table, Text, of_each
from fastbat_tf.experiment.report.contact_sheet import Caption, Example
from fastbat_tf.experiment.report.numbers import (
    class_name,
    percent,
    radius_with_norm,
)
from fastbat_tf.experiment.report.record import RunRecord, grouped

QUESTION = "What do the images look like?"
KINDS = {
    "fixed": "Fixed images: the first of each class that is classified "
    "correctly",
    "fragile": "The most fragile images: those that the measured attacks "
    "break at the smallest radii",
    "robust": "The most robust images: those that withstand the measured "
    "attacks at the largest radii",
}
LARGE = 96  # Pixels of a side; of larger images half as many are shown.


def blocks(records: Sequence[RunRecord]) -> list:
    """Returns the blocks of this section.

    Args:
        records: `RunRecord`s.
    """
    return of_each(grouped(records), _unit)


def _unit(unit, name, number):
    """Returns the blocks of a run, or of the first of several seeds."""
    found = [(record, record.arrays("gallery.npz")) for record in unit]
    found = [(record, arrays) for record, arrays in found if _has_any(arrays)]
    if not found:
        return _missing(unit)
    first, arrays = found[0]
    size = radius_with_norm(float(arrays["epsilon"]), str(arrays["norm"]))
    attack = f"{arrays['attack']} at {size}"
    found = [Text(_answer(arrays, attack))]
    if len(unit) > 1:
        found.append(
            Text(f"Of one of {len(unit)} seeds, {first.name}.", "note")
        )
    names = first.class_names or []
    sheets = _sheets(arrays, names)
    scale = contact_sheet.scale_of(arrays["image"], arrays["adversarial"])
    side = contact_sheet.side_for(
        [example for sheet in sheets.values() for example in sheet], scale
    )
    for kind, examples in sheets.items():
        file = f"gallery-{number}-{kind}"
        content = contact_sheet.draw(examples, scale, side, file)
        alt = f"{KINDS[kind]}. Clean, adversarial, and their difference."
        caption = f"{KINDS[kind]}."
        if kind == next(iter(sheets)):
            caption += f" {_caption(arrays, scale, side, attack)}"
        found.append(Picture(file, content, "svg", alt, caption))
    found.append(_table(arrays, names))
    return found


def _has_any(arrays):
    return arrays is not None and len(arrays["index"]) > 0


def _missing(unit):
    record = unit[0]
    if not record.results:
        return missing.results(record)
    one = measured.quoted(unit)
    attacks = one[0].attacks if one else ["pgd-10-1"]
    return [
        Text(
            "Not known: this evaluation kept no images (gallery.npz), as "
            "earlier versions of the program did. A new evaluation does:"
        ),
        Text(suggestions.evaluate(record, attacks), "code"),
    ]


def _answer(arrays, attack):
    fixed = arrays["kind"] == "fixed"
    which = "fixed images" if fixed.any() else "images"
    shown = fixed if fixed.any() else np.ones(len(fixed), bool)
    label = arrays["label"]
    clean = (arrays["clean_class"] == label) & shown
    left = clean & (arrays["adversarial_class"] == label)
    change = np.abs(arrays["adversarial"] - arrays["image"]).max()
    return (
        f"Of {shown.sum()} {which}, {clean.sum()} are classified correctly, "
        f"and of these {left.sum()} also under {attack}. The attack changes a "
        f"pixel by at most {255 * change:.3g} of 255 gray levels."
    )


def _caption(arrays, scale, side, attack):
    text = (
        f"From above: the image, the adversarial image of {attack}, and the "
        f"difference times {scale:.3g}, gray is 0. Predicted class and "
        "probability: right (\N{CHECK MARK}) or wrong (\N{BALLOT X})."
    )
    longer = max(arrays["image"].shape[1:3])
    if side < longer:
        text += (
            f" Reduced from {longer} to {side} pixels to keep the page small."
        )
    return text


def _sheets(arrays, names):
    """Returns lists of `Example`s by kind."""
    large = max(arrays["image"].shape[1:3]) > LARGE
    sheets = {}
    for kind in KINDS:
        (places,) = np.nonzero(arrays["kind"] == kind)
        if large:
            places = places[: (len(places) + 1) // 2]
        if len(places):
            sheets[kind] = [_example(arrays, k, names) for k in places]
    return sheets


def _example(arrays, place, names):
    label = int(arrays["label"][place])
    captions = []
    for stage in ("clean", "adversarial"):
        predicted = int(arrays[f"{stage}_class"][place])
        confidence = float(arrays[f"{stage}_confidence"][place])
        captions.append(
            Caption(
                class_name(names, predicted),
                f"{100 * confidence:.0f}%",
                predicted == label,
            )
        )
    return Example(
        class_name(names, label),
        arrays["image"][place],
        arrays["adversarial"][place],
        *captions,
    )


def _table(arrays, names):
    heads = "image", "group", "true class", "predicted", "probability"
    rows = [(*heads, "under attack", "probability")]
    for k in range(len(arrays["index"])):
        rows.append(
            (
                str(arrays["index"][k]),
                str(arrays["kind"][k]),
                class_name(names, int(arrays["label"][k])),
                class_name(names, int(arrays["clean_class"][k])),
                percent(float(arrays["clean_confidence"][k])),
                class_name(names, int(arrays["adversarial_class"][k])),
                percent(float(arrays["adversarial_confidence"][k])),
            )
        )
    return Table(rows, "All images of the gallery, by place in the test split.")
