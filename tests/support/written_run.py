"""Writes the files of a run without a training, for tests of the report."""

import csv
import pathlib

import numpy as np

from fastbat_tf.evaluation.results import confidence_interval
from fastbat_tf.experiment.config import (
    Config,
    DataConfig,
    EvaluationConfig,
    MethodConfig,
    TrainingConfig,
)
from fastbat_tf.files import write_json

CLASS_NAMES = ["airplane", "automobile", "bird", "cat"]
EPSILONS = tuple(level / 255 for level in (2, 8, 16, 64))
ENSEMBLE = "apgd-ce-5+square-20"
ATTACKS = ("fgsm", ENSEMBLE)
# What each attack leaves of the radius at which an image breaks.
STRENGTHS = {"fgsm": 1.4, "apgd-ce-5": 1.1, "square-20": 1.2, ENSEMBLE: 1.0}
EPOCHS, EXAMPLES, SIDE = 4, 40, 8


def write_run(directory, method="fastbat", *, seed=0, scale=12 / 255):
    """Writes a directory as a training and its evaluation leave it.

    Args:
        directory: Path.
        method: Name of the method. Defaults to `"fastbat"`.
        seed: Integer, of the training and of all numbers. Defaults to `0`.
        scale: Float, the mean radius at which an image breaks.

    Returns:
        The `pathlib.Path` of the directory.
    """
    directory = pathlib.Path(directory)
    evaluation = directory / "evaluations/training"
    evaluation.mkdir(parents=True)
    draws = np.random.default_rng(seed)
    _write_config(directory, method, seed)
    _write_epochs(directory, method, draws)
    results = _write_outcomes(evaluation, draws, scale)
    write_json(evaluation / "results.json", results)
    write_json(evaluation / "settings.json", {"seed": 0, "norm": "linf"})
    for row in results["attacks"] + results["worst_case"]:
        row["outcomes"] = "evaluations/training/outcomes.npz"
    results |= {"weights": "best val_robust_accuracy", "best_epoch": 3}
    write_json(directory / "results.json", {**results, "training_seconds": 9.5})
    write_json(directory / "ended.json", {})
    return directory


def _write_config(directory, method, seed):
    config = Config(
        data=DataConfig("cifar10_mini"),
        method=MethodConfig(method),
        training=TrainingConfig(epochs=EPOCHS, seed=seed),
        evaluation=EvaluationConfig(
            attacks=ATTACKS, epsilons=EPSILONS, max_examples=EXAMPLES
        ),
    )
    settings = {
        **config.to_dict(),
        "versions": {"tensorflow": "2.21.0", "keras": "3.15.1"},
        "command": f"python main.py --method={method} --dataset=cifar10_mini "
        f"--epochs={EPOCHS} --seed={seed} --attacks={','.join(ATTACKS)} "
        "--epsilons=2/255,8/255,16/255,64/255 --run_dir=runs/a_long_name",
        "started": "2026-01-01T12:00:00+00:00",
        "environment": {
            "device": "A CPU of a rather long name @ 2.00GHz",
            "kind": "CPU",
            "replicas": 1,
            "cores": 2,
            "platform": "Linux-6.1.0-x86_64-with-glibc2.36",
            "xla": False,
        },
    }
    write_json(directory / "config.json", settings)


def _write_epochs(directory, method, draws):
    columns = ["loss", "learning_rate", "val_clean_accuracy"]
    columns += ["val_fgsm_accuracy", "val_robust_accuracy"]
    columns += ["val_overfitting_gap", "val_gradient_alignment"]
    columns += ["accuracy" if method == "standard" else "perturbed_accuracy"]
    if method == "fastbat":
        columns += [
            f"robust_{name}"
            for name in (
                *("interior_fraction", "implicit_ratio"),
                *("implicit_cosine", "gradient_norm"),
            )
        ]
    rows = [
        {"epoch": epoch, "overfitting_alarm": float(epoch == EPOCHS)}
        | {name: draws.uniform(0.1, 0.9) for name in columns}
        for epoch in range(1, EPOCHS + 1)
    ]
    _write_csv(directory / "history.csv", rows)
    seconds = {"seconds": 2.5, "first_step_seconds": 0.5, "peak_gigabytes": 1.5}
    _write_csv(
        directory / "timing.csv",
        [{"epoch": r["epoch"], **seconds} for r in rows],
    )


def _write_csv(path, rows):
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def _write_outcomes(directory, draws, scale):
    """Writes the arrays of an evaluation, and returns its results."""
    labels = np.arange(EXAMPLES) % len(CLASS_NAMES)
    correct = draws.random(EXAMPLES) < 0.8
    breaks_at = correct * draws.exponential(scale, EXAMPLES)
    clean_class = np.where(correct, labels, (labels + 1) % len(CLASS_NAMES))
    rows, worst_case, arrays = [], [], []
    for epsilon in EPSILONS:
        robust = {
            name: breaks_at * strength > epsilon
            for name, strength in STRENGTHS.items()
        }
        stage = [robust["apgd-ce-5"], robust[ENSEMBLE]]
        for name in ATTACKS:
            row = _row(name, epsilon, robust[name], correct.sum())
            if name == ENSEMBLE:
                row["stages"] = [
                    _row("apgd-ce-5", epsilon, stage[0], correct.sum()),
                    _row("square-20", epsilon, stage[1], stage[0].sum()),
                ]
            rows.append(row)
            arrays.append((name, epsilon, robust[name]))
        row = _row("worst case", epsilon, robust[ENSEMBLE], correct.sum())
        worst_case.append({**row, "attacks": list(ATTACKS)})
    attacks, epsilons, robust = map(np.array, zip(*arrays, strict=True))
    adversarial = np.where(robust, labels, (clean_class + correct) % 4)
    confidences = draws.uniform(0.3, 1, (1 + len(rows), EXAMPLES))
    confidences = confidences.astype("float32")
    common = {"index": np.arange(EXAMPLES), "label": labels}
    clean = {
        "clean_class": clean_class.astype("int32"),
        "clean_confidence": confidences[0],
    }
    np.savez(
        directory / "outcomes.npz",
        **common,
        **clean,
        clean_correct=correct,
        attack=attacks,
        epsilon=epsilons,
        robust=robust,
        adversarial_class=adversarial.astype("int32"),
        adversarial_confidence=confidences[1:],
    )
    place = 1 + 2 * EPSILONS.index(8 / 255)
    adversarial = {
        "adversarial_class": adversarial[place].astype("int32"),
        "adversarial_confidence": confidences[1 + place],
    }
    _write_images(directory, {**common, **clean, **adversarial}, draws)
    return {
        "clean_accuracy": float(correct.mean()),
        "clean_confidence_interval": confidence_interval(correct),
        "examples": EXAMPLES,
        "subset": f"A class-balanced subset, drawn with seed 0: {EXAMPLES} of "
        "1000 examples.",
        "norm": "linf",
        "seed": 0,
        "class_names": CLASS_NAMES,
        "attacks": rows,
        "worst_case": worst_case,
        "warnings": ["fgsm at 2/255: this is a warning, in its own words."],
        "notes": ["The images are uint8: pixels were divided by 255."],
    }


def _row(name, epsilon, robust, attacked):
    return {
        "attack": name,
        "norm": "linf",
        "epsilon": epsilon,
        "robust_accuracy": float(robust.mean()),
        "confidence_interval": confidence_interval(robust),
        "examples": len(robust),
        "attacked": int(attacked),
        "seconds": 1.5,
        "seed": 0,
    }


def _write_images(directory, arrays, draws):
    """Writes the gallery and the loss surface."""
    images = draws.random((16, SIDE, SIDE, 3)).astype("float32")
    signs = draws.choice([-8 / 255, 8 / 255], images.shape)
    common = {"epsilon": 8 / 255, "norm": "linf"}
    np.savez(
        directory / "gallery.npz",
        **{name: values[:16] for name, values in arrays.items()},
        kind=np.repeat(["fixed", "fragile", "robust"], [8, 4, 4]),
        image=images,
        adversarial=np.clip(images + signs, 0, 1).astype("float32"),
        attack=ENSEMBLE,
        **common,
    )
    steps = np.linspace(-1, 1, 5)
    loss = 1 + np.hypot(*np.meshgrid(steps, steps, indexing="ij"))
    np.savez(
        directory / "surface.npz",
        loss=loss.astype("float32"),
        predicted=(loss > 1.5).astype("int32"),
        steps=steps,
        index=3,
        label=0,
        **common,
    )
