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
from fastbat_tf.files import sha256
from fastbat_tf.methods import METHODS
from tests.support.written_evaluations import (
    EPSILON,
    write_evaluation,
    write_json,
)


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
    write_json(directory / "config.json", config)
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
    write_json(directory / "results.json", results)
    (directory / "saved_model").mkdir(exist_ok=True)
    write_json(directory / "ended.json", {"ended": "2026-11-26T10:30:00Z"})
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
    write_json(run / "results.json", story)


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


def _write_csv(path, rows):
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
