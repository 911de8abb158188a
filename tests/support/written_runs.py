"""Writes directories of runs and evaluations, without TensorFlow.

The numbers are drawn, but they fit together: an example that an attack breaks
is broken by stronger ones and at larger radii, and every accuracy in
`results.json` is that of the arrays beside it.
"""

import csv
import json
import pathlib

import numpy as np

from fastbat_tf.experiment.config import (
    Config,
    DataConfig,
    EvaluationConfig,
    MethodConfig,
    TrainingConfig,
)
from fastbat_tf.experiment.report.numbers import confidence_interval
from fastbat_tf.files import sha256
from fastbat_tf.methods import METHODS

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
        robustness: Float, the scale of the margins; infinity resists all.
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
    drawn = _Examples(examples, seed, robustness * max(epsilons) * 1.2)
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
    _write_json(directory / "results.json", results)
    settings = {
        "version": "0.1.0",
        "attacks": list(attacks),
        "epsilons": list(epsilons),
        "norm": norm,
        "max_examples": examples,
        "seed": seed,
    }
    _write_json(directory / "settings.json", settings)
    drawn.save(directory / "outcomes.npz", rows, np.array(robust), old)
    if gallery and not old:
        drawn.save_gallery(directory, attacks[0], epsilons[0], norm)
    if surface and not old:
        drawn.save_surface(directory, epsilons[0], norm)
    return results


def write_run(
    directory,
    method="fastbat",
    *,
    seed=37,
    epochs=4,
    old=False,
    unfinished=False,
    dataset="cifar10_mini",
    options=None,
    rollback=False,
    **evaluation,
):
    """Writes the directory of a run.

    Args:
        directory: Path.
        method: Name of the method.
        seed: Integer, the seed of the training.
        epochs: Integer.
        old: Whether the version before wrote it: epochs from 0, no new
            columns.
        unfinished: Whether it was killed before it was measured.
        dataset: Name of the data set.
        options: Dict of options of the method, or None.
        rollback: Whether it rolls back after catastrophic overfitting.
        **evaluation: Arguments of `write_evaluation`, of the measurement at
            the end of the training.

    Returns:
        The path.
    """
    directory = pathlib.Path(directory)
    measured = evaluation.get("epsilons", (EPSILON,))
    config = Config(
        data=DataConfig(dataset),
        method=MethodConfig(method, options or {}),
        training=TrainingConfig(epochs=epochs, seed=seed),
        evaluation=EvaluationConfig(
            attacks=evaluation.get("attacks", ("pgd-10-1", "fgsm")),
            epsilons=measured,
            norm=evaluation.get("norm", "linf"),
        ),
    ).to_dict()
    config["versions"] = {"tensorflow": "2.21.0", "keras": "3.15.1"}
    if rollback:
        config["overfitting"]["on_overfitting"] = "rollback"
    if not old:
        config["command"] = f"python main.py --method={method} --seed={seed}"
        config["started"] = "2026-11-26T10:00:00Z"
        config["environment"] = {
            "device": "NVIDIA H100",
            "kind": "GPU",
            "replicas": 1,
            "cores": 16,
            "platform": "Linux",
            "xla": True,
        }
    best = directory / "checkpoints" / "best.weights.h5"
    best.parent.mkdir(parents=True, exist_ok=True)
    best.write_bytes(f"weights of {method}, seed {seed}".encode())
    _write_json(directory / "config.json", config)
    rows = _history(method, seed, epochs, old, rollback)
    _write_csv(directory / "history.csv", rows)
    _write_csv(directory / "timing.csv", _timing(rows))
    if unfinished:
        return directory
    write = {"old": old, "epsilons": measured, **evaluation}
    results = write_evaluation(directory / "evaluations" / "training", **write)
    _add_path(results, "evaluations/training", old)
    results["weights"] = "best val_robust_accuracy"
    results["weights_sha256"] = sha256(best)
    results["training_seconds"] = round(
        sum(r["seconds"] for r in _timing(rows))
    )
    if not old:
        results["best_epoch"] = epochs
    _write_json(directory / "results.json", results)
    (directory / "saved_model").mkdir(exist_ok=True)
    _write_json(directory / "ended.json", {"ended": "2026-11-26T10:30:00Z"})
    return directory


def measure(run, name, *, old=False, **evaluation):
    """Measures a written run once more, as `--mode=evaluate` does.

    Args:
        run: Path of the run.
        name: String, the name of the directory in `evaluations`.
        old: Whether the version before did it.
        **evaluation: Arguments of `write_evaluation`.
    """
    run = pathlib.Path(run)
    place = f"evaluations/{name}"
    results = write_evaluation(run / place, old=old, **evaluation)
    _add_path(results, place, old)
    story = json.loads((run / "results.json").read_text())
    for group in ("attacks", "worst_case"):
        new = [_key(row) for row in results[group]]
        older = [row for row in story[group] if _key(row) not in new]
        story[group] = older + results[group]
    story["warnings"] += results["warnings"]
    _write_json(run / "results.json", story)


def write_seeds(directory, method="fastbat", seeds=(0, 1, 2), **options):
    """Writes the directory of several seeds.

    Args:
        directory: Path.
        method: Name of the method.
        seeds: Integers.
        **options: Arguments of `write_run`.

    Returns:
        The path.
    """
    directory = pathlib.Path(directory)
    for seed in seeds:
        robustness = 1 + 0.1 * seed
        path = directory / f"seed-{seed}"
        write_run(path, method, seed=seed, robustness=robustness, **options)
    return directory


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


def _history(method, seed, epochs, old, rollback):
    random = np.random.default_rng(seed)
    rows = []
    spec = METHODS[method]
    for epoch in range(epochs):
        share = 1 - 0.8 ** (epoch + 1)
        noise = 0.02 * random.random()
        robust = 0.5 * share + noise
        row = {
            "epoch": epoch if old else epoch + 1,
            "loss": 2.3 - share,
            "robust_gradient_norm": 0.5 + noise,
            "val_clean_accuracy": 0.8 * share + noise,
            "val_robust_accuracy": robust,
        }
        training = 0.55 * share + noise
        has_attack = bool(spec.options)
        is_plain = not has_attack and not old
        row["accuracy" if is_plain else "perturbed_accuracy"] = training
        if has_attack:
            row["val_fgsm_accuracy"] = robust + 0.05
            row["val_gradient_alignment"] = 0.95 - 0.1 * share
            row["val_overfitting_gap"] = 0.05
            row["overfitting_alarm"] = 0.0
        if not old:
            row["learning_rate"] = 0.2 * (1 - epoch / epochs)
            if rollback:
                row["overfitting_rollback"] = float(epoch == 1)
        if method == "fastbat":
            row["robust_interior_fraction"] = 0.3 + 0.2 * share
            row["robust_implicit_ratio"] = 0.002 * share
            row["robust_implicit_cosine"] = 0.1 * noise
        rows.append(row)
    return rows


def _timing(rows):
    return [
        {
            "epoch": row["epoch"],
            "seconds": 12.5 if k == 0 else 6.25,
            "first_step_seconds": 5.5 if k == 0 else 0.25,
            "peak_gigabytes": 1.5,
        }
        for k, row in enumerate(rows)
    ]


def _key(row):
    names = ("attack", "norm", "epsilon", "examples", "seed", "attacks")
    return [row.get(name) for name in names]


def _add_path(results, directory, old):
    if not old:
        for row in results["attacks"] + results["worst_case"]:
            row["outcomes"] = f"{directory}/outcomes.npz"


def _interval(outcomes):
    return list(confidence_interval(int(outcomes.sum()), len(outcomes)))


def _write_json(path, content):
    path.write_text(json.dumps(content, indent=2) + "\n")


def _write_csv(path, rows):
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
