"""Writes directories of evaluations, without TensorFlow; see `written_runs`."""

import json
import pathlib

import numpy as np

from fastbat_tf.experiment.report.numbers import confidence_interval

CLASSES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)
EPSILON = 8 / 255
STAGES = {"autoattack": ("apgd-ce", "apgd-t", "fab-t", "square")}
# Which share of an example's margin an attack needs to break it.
STRENGTH = {"fgsm": 0.7, "pgd-10-1": 0.9, "apgd-ce": 0.95, "square": 0.85}
SHAPE = (8, 8, 3)


def write_evaluation(
    directory,
    *,
    attacks=("pgd-10-1", "fgsm"),
    epsilons=(EPSILON,),
    norm="linf",
    examples=200,
    seed=0,
    robustness=1.0,
    old=False,
    class_names=CLASSES,
    gallery=True,
    surface=False,
    model=None,
    warnings=(),
):
    """Writes the directory of an evaluation.

    Args:
        directory: Path.
        attacks: Names of attacks.
        epsilons: Radii.
        norm: The norm.
        examples: Integer, how many.
        seed: Integer, which also draws the numbers.
        robustness: Float, the scale of the margins.
        old: Whether the version before wrote it: booleans only.
        class_names: Names of ten classes, or None.
        gallery: Whether there is a `gallery.npz`.
        surface: Whether there is a `surface.npz`.
        model: The path that was measured, if it was a file.
        warnings: Strings.

    Returns:
        The dict of `results.json`.
    """
    directory = pathlib.Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    scale = robustness * (1.2 * EPSILON if norm == "linf" else 1.0)
    drawn = _Examples(examples, seed, scale)
    rows, robust, worst = [], [], []
    for epsilon in epsilons:
        common = {"norm": norm, "epsilon": epsilon, "seed": seed}
        at_epsilon = []
        for attack in attacks:
            row, outcome = drawn.attack(attack, epsilon, common)
            rows.append(row)
            at_epsilon.append(outcome)
        robust += at_epsilon
        if len(attacks) > 1:
            all_of_them = np.all(at_epsilon, axis=0)
            row = _row("worst case", all_of_them, common, drawn.correct.sum())
            worst.append({**row, "attacks": list(attacks)})
    subset = f"A class-balanced subset, drawn with seed {seed}."
    results = {
        "clean_accuracy": float(drawn.correct.mean()),
        "clean_confidence_interval": _interval(drawn.correct),
        "examples": examples,
        "subset": subset,
        "norm": norm,
        "seed": seed,
        "attacks": rows,
        "worst_case": worst,
        "warnings": list(warnings),
        "notes": [subset],
    }
    if not old:
        if class_names is not None:
            results["class_names"] = list(class_names)
        if model is not None:
            results["model"] = model
    write_json(directory / "results.json", results)
    settings = {
        "version": "0.1.0",
        "attacks": list(attacks),
        "epsilons": list(epsilons),
        "norm": norm,
        "max_examples": examples,
        "seed": seed,
    }
    write_json(directory / "settings.json", settings)
    drawn.save(directory / "outcomes.npz", rows, np.array(robust), old)
    if gallery and not old:
        drawn.save_gallery(directory, attacks[0], epsilons[0], norm)
    if surface and not old:
        drawn.save_surface(directory, epsilons[0], norm)
    return results


def write_json(path, content):
    path.write_text(json.dumps(content, indent=2) + "\n")


class _Examples:
    """Examples, and how far each of them is from being misclassified."""

    def __init__(self, count, seed, scale):
        self.random = np.random.default_rng(seed)
        self.label = np.arange(count, dtype=np.int32) % len(CLASSES)
        self.index = np.arange(count) * 3
        self.correct = self.random.random(count) < 0.8
        hardness = 0.5 + self.label / len(CLASSES)
        self.margin = scale * hardness * self.random.random(count)
        noise = self.random.random(count)
        self.noise = {"fgsm": 0.1 * noise, "square": 0.2 * noise[::-1]}
        self.other = (self.label + 1 + self.random.integers(0, 8, count)) % 10
        self.confidence = 0.3 + 0.6 * self.random.random(count)

    def robust(self, attack, epsilon):
        strength = STRENGTH.get(attack, 1.0) - self.noise.get(attack, 0)
        return self.correct & (self.margin >= epsilon * strength)

    def attack(self, name, epsilon, common):
        left, stages = self.correct, []
        for stage in STAGES.get(name, name.split("+") if "+" in name else ()):
            attacked = int(left.sum())
            left = left & self.robust(stage, epsilon)
            stages.append(_row(stage, left, common, attacked))
        robust = left if stages else self.robust(name, epsilon)
        row = _row(name, robust, common, self.correct.sum())
        if stages:
            row["stages"] = stages
            row["seconds"] = round(sum(s["seconds"] for s in stages), 1)
        return row, robust

    def save(self, path, rows, robust, old):
        arrays = {
            "index": self.index,
            "label": self.label,
            "clean_correct": self.correct,
            "attack": np.array([row["attack"] for row in rows]),
            "epsilon": np.array([row["epsilon"] for row in rows]),
            "robust": robust,
        }
        if not old:
            clean = np.where(self.correct, self.label, self.other)
            arrays["clean_class"] = clean.astype(np.int32)
            arrays["clean_confidence"] = self.confidence.astype(np.float32)
            classes = np.where(robust, self.label, self.other)
            arrays["adversarial_class"] = classes.astype(np.int32)
            shared = np.where(self.correct & ~robust, 0.9, 1.0)
            arrays["adversarial_confidence"] = np.float32(
                self.confidence * shared
            )
        np.savez_compressed(path, **arrays)

    def save_gallery(self, directory, attack, epsilon, norm):
        count = min(16, len(self.label))
        chosen = np.arange(count)
        image = self.random.random((count, *SHAPE)).astype(np.float32)
        sign = self.random.choice([-1, 1], image.shape)
        moved = np.clip(image + epsilon * sign, 0, 1).astype(np.float32)
        robust = self.robust(attack, epsilon)[chosen]
        correct = self.correct[chosen]
        label, other = self.label[chosen], self.other[chosen]
        kinds = ["fixed"] * 8 + ["fragile"] * 4 + ["robust"] * 4
        np.savez_compressed(
            directory / "gallery.npz",
            index=self.index[chosen],
            label=label,
            kind=np.array(kinds[:count]),
            image=image,
            adversarial=moved,
            clean_class=np.where(correct, label, other),
            clean_confidence=np.float32(self.confidence[chosen]),
            adversarial_class=np.where(robust, label, other),
            adversarial_confidence=np.float32(self.confidence[chosen]),
            attack=attack,
            epsilon=epsilon,
            norm=norm,
        )

    def save_surface(self, directory, epsilon, norm):
        steps = np.linspace(-1, 1, 11)
        loss = 1 + steps[:, None] ** 2 + 0.3 * steps[None, :]
        np.savez_compressed(
            directory / "surface.npz",
            loss=loss.astype(np.float32),
            predicted=(loss > 1.4).astype(np.int32),
            steps=steps,
            index=self.index[0],
            label=self.label[0],
            epsilon=epsilon,
            norm=norm,
        )


def _row(attack, robust, common, attacked):
    return {
        "attack": attack,
        "norm": common["norm"],
        "epsilon": common["epsilon"],
        "robust_accuracy": float(robust.mean()),
        "confidence_interval": _interval(robust),
        "examples": len(robust),
        "attacked": int(attacked),
        "seconds": round(0.5 + 0.01 * len(attack) * int(attacked), 1),
        "seed": common["seed"],
    }


def _interval(outcomes):
    return list(confidence_interval(int(outcomes.sum()), len(outcomes)))
