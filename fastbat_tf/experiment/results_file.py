"""The `results.json` of a run, to which training and evaluations add."""

import json

from fastbat_tf import files
from fastbat_tf.errors import InputError

GROUPS = ("attacks", "worst_case")
TEXTS = ("warnings", "notes")
SECONDS_TO_ADD = 60.0  # Another process is done with it in milliseconds.


def read(path):
    """The run's `results.json`; a run that was cut short has none.

    Raises:
        InputError: If it cannot be read.
    """
    if not path.exists():
        return {}
    try:
        story = json.loads(path.read_text())
        if not isinstance(story, dict):
            raise ValueError("no object")
    except (OSError, ValueError) as error:
        raise InputError(
            "The run's results are expected as JSON; mend or remove the file. "
            f"Received: path={path} ({error})"
        ) from error
    return story


def add(path, results, of_training=False):
    """Adds to the run's results, in the place of older rows like the new.

    What was measured on other weights goes: `weights_sha256` tells. Several
    processes may add at once: one waits for the other.

    Args:
        path: Of the file.
        results: What `evaluate_robustness` returns, with `weights_sha256`, the
            checksum of the file of the weights.
        of_training: Whether it is the measurement that ends the training,
            which stands above the others.

    Returns:
        The dict that was written.

    Raises:
        InputError: If the file cannot be read.
        OSError: If it cannot be written.
    """
    with files.locked(path.with_name(f".{path.name}.lock"), SECONDS_TO_ADD):
        story = read(path)
        weights = story.get("weights_sha256")
        if weights is None and not of_training:
            weights = results.get("weights_sha256")  # It does not say.
        if weights != results.get("weights_sha256"):
            story = {}
        story = _merge(story, results, of_training)
        files.write_json(path, story)
    return story


def _merge(story, results, of_training):
    merged = {**results, **story}
    if of_training:
        merged = {**story, **results}
    for group in GROUPS:
        new = results[group]
        known = [_key(row) for row in new]
        older = [r for r in story.get(group, []) if _key(r) not in known]
        merged[group] = new + older if of_training else older + new
    for group in TEXTS:
        texts = [story.get(group, []), results[group]]
        if of_training:
            texts.reverse()
        merged[group] = list(dict.fromkeys(sum(texts, [])))
    return merged


def _key(row):
    names = ("attack", "norm", "epsilon", "examples", "seed", "attacks")
    return [row.get(name) for name in names]
