"""What an exported model says about itself."""

import dataclasses
from typing import Any

from fastbat_tf.attacks.ensembles import LEAST_EXAMPLES, is_ensemble
from fastbat_tf.attacks.registry import DEFAULT_EPSILON

TOLERANCE = 1e-9  # Of two radii that are the same.


@dataclasses.dataclass(frozen=True)
class ModelInfo:
    """What is known about a model, for its file and its card.

    None stands for what is not known.

    Attributes:
        name: String, a short name of the model. Defaults to `"model"`.
        network: String, the name of the network. Defaults to `None`.
        class_names: Tuple of strings, one for each logit. Defaults to `None`.
        dataset: String, the training data. Defaults to `None`.
        method: String, the training method. Defaults to `None`.
        norm: `"linf"` or `"l2"`, the norm of the training attack. Defaults to
            `None`.
        epsilon: Float, the radius of the training attack, a fraction of the
            pixel range. Defaults to `None`.
        results: Dict as `evaluate_robustness` returns it. Defaults to `None`:
            nothing was measured.
        doubts: Tuple of sentences, the reasons not to quote the results as they
            are. Defaults to `()`.
        license: String, an identifier such as `"apache-2.0"`. Defaults to
            `None`.
        command: String, the command line of the training. Defaults to `None`.
        command_is_recorded: Boolean, whether it is the one that was typed, and
            not another one with the same settings. Defaults to `True`.
        config: Dict of all settings of the training, as `Config.to_dict`
            returns it. Defaults to `None`.
        best_epoch: Integer, the epoch of these weights, from 1. Defaults to
            `None`.
        initial_weights: String, what the training started from, or what the
            weights are. Defaults to `None`: random weights, or not known.
        versions: Dict from names of packages to the versions that trained it.
            Defaults to `None`.
        device: String, what it was trained on. Defaults to `None`.
        weights_sha256: String, the checksum of the file of its weights.
            Defaults to `None`.

    Example:

    ```python
    import fastbat_tf as fb

    results = fb.evaluate_robustness(model, (images, labels))
    info = fb.ModelInfo("my-model", dataset="my data", results=results)
    fb.export(model, "exported", "onnx", info=info)
    ```
    """

    name: str = "model"
    network: str | None = None
    class_names: tuple[str, ...] | None = None
    dataset: str | None = None
    method: str | None = None
    norm: str | None = None
    epsilon: float | None = None
    results: dict[str, Any] | None = None
    doubts: tuple[str, ...] = ()
    license: str | None = None
    command: str | None = None
    command_is_recorded: bool = True
    config: dict[str, Any] | None = None
    best_epoch: int | None = None
    initial_weights: str | None = None
    versions: dict[str, str] | None = None
    device: str | None = None
    weights_sha256: str | None = None

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The rows of the results: each attack, then the worst cases."""
        results = self.results or {}
        return [*results.get("attacks", []), *results.get("worst_case", [])]

    @property
    def worst_case(self) -> dict[str, Any] | None:
        """The row of the results that says how robust the model is.

        It is the lowest one at the radius of the training; of a training
        without a radius, at the usual one of the norm that was measured. Of
        several sets of examples, one of at least 100 that AutoAttack has tried
        comes first, then the largest. None if nothing was measured there.
        """
        norm = self.norm or (self.results or {}).get("norm")
        epsilon = self.epsilon or DEFAULT_EPSILON.get(norm)
        groups = {}
        for row in self.rows:
            if (
                row["norm"] == norm
                and abs(row["epsilon"] - epsilon) < TOLERANCE
            ):
                key = row["examples"], row.get("seed")
                groups.setdefault(key, []).append(row)
        if not groups:
            return None
        chosen = max(groups.values(), key=_preference)
        # The same of all attacks together says more than of one of them.
        return min(
            chosen,
            key=lambda row: (row["robust_accuracy"], "attacks" not in row),
        )


def _preference(rows):
    """Sorts rows of the same examples by what they say."""
    names = [row["attack"] for row in rows if "attacks" not in row]
    examples = rows[0]["examples"]
    strong = is_ensemble(names)
    return strong and examples >= LEAST_EXAMPLES, examples, strong, len(names)
