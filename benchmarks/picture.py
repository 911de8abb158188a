"""Draws docs/images/robustness.png: accuracy against epsilon, and images.

    python -m benchmarks.picture

Trains the demo with Fast-BAT and on clean images, attacks both networks at
several radii, and draws what the files of the runs contain. Each command
continues where it stopped, so a second call only draws. Takes about 15 minutes
on 2 CPU cores. Needs matplotlib, one of the development dependencies.
"""

import json
import pathlib

import numpy as np
from absl import app, flags

from benchmarks.shared import TOP, run_main

PICTURE = TOP / "docs" / "images" / "robustness.png"

ATTACK = "pgd-50-10"
# Radii in 255ths; the strip shows images of one of them.
RADII = (1, 2, 4, 6, 8, 12, 16)
STRIP_RADIUS = 8
AMPLIFICATION = 10
STRIP_IMAGES = 2

# Title and color of the curve of each method.
METHODS = {
    "standard": ("Standard training", "#c2410c"),
    "fastbat": ("Fast-BAT", "#1d4ed8"),
}
CLASSES = "airplane automobile bird cat deer dog frog horse ship truck".split()

RUNS = flags.DEFINE_string("runs", "runs/picture", "Directory of the runs.")
OUTPUT = flags.DEFINE_string("output", str(PICTURE), "The file to write.")


def measure(method, run_dir):
    """Trains and attacks, unless that has been done.

    Args:
        method: Name of a training method.
        run_dir: Path of the run.

    Returns:
        Path of the directory of the evaluation.
    """
    run_main(
        "--flagfile=recipes/demo.cfg",
        f"--method={method}",
        f"--run_dir={run_dir}",
    )
    results_dir = run_dir / "picture"
    run_main(
        "--mode=evaluate",
        f"--run_dir={run_dir}",
        f"--attacks={ATTACK}",
        f"--epsilons={','.join(f'{radius}/255' for radius in RADII)}",
        "--max_examples=500",
        "--save_images",
        f"--results_dir={results_dir}",
    )
    return results_dir


def read_curve(results_dir):
    """Returns radii in 255ths, and accuracies and intervals in percent."""
    results = json.loads((results_dir / "results.json").read_text())
    radii = [0.0]
    accuracies = [results["clean_accuracy"]]
    intervals = [results["clean_confidence_interval"]]
    for row in results["attacks"]:
        radii.append(255 * row["epsilon"])
        accuracies.append(row["robust_accuracy"])
        intervals.append(row["confidence_interval"])
    return radii, 100 * np.array(accuracies), 100 * np.array(intervals).T


def read_adversarial(results_dir):
    """Returns the arrays of the adversarial images of the strip's radius."""
    name = f"adversarial_{ATTACK}-{STRIP_RADIUS / 255:.8g}.npz"
    with np.load(results_dir / name) as arrays:
        return dict(arrays)


def predict(run_dir, images):
    """Returns the classes that a run's exported model predicts."""
    import tensorflow as tf

    served = tf.saved_model.load(str(run_dir / "saved_model"))
    answers = served.signatures["serving_default"](
        images=tf.constant(images, tf.float32)
    )
    return answers["classes"].numpy()


def choose(adversarial, clean_correct):
    """Returns the first images that show the difference, one per class.

    Both networks classify them correctly; the attack fools that of standard
    training and not that of Fast-BAT.
    """
    wanted = np.logical_and.reduce(list(clean_correct.values()))
    wanted &= ~adversarial["standard"]["robust"]
    wanted &= adversarial["fastbat"]["robust"]
    labels = adversarial["standard"]["label"]
    places = np.flatnonzero(wanted)
    _, first = np.unique(labels[places], return_index=True)
    return places[np.sort(first)][:STRIP_IMAGES]


def draw_curves(axes, curves):
    """Draws accuracy against epsilon, one curve for each method."""
    for method, (radii, accuracies, bounds) in curves.items():
        title, color = METHODS[method]
        axes.fill_between(radii, *bounds, color=color, alpha=0.15, lw=0)
        axes.plot(radii, accuracies, "o-", color=color, lw=2.2, label=title)
    axes.set_xlim(-0.3, max(RADII) + 0.3)
    axes.set_ylim(0, 70)
    axes.set_xticks([0, *RADII])
    axes.set_xlabel("epsilon, in 255ths of the pixel range")
    axes.set_ylabel("accuracy (%)")
    axes.set_title(
        "Accuracy under attack (PGD, 50 steps, 10 restarts)",
        loc="left",
        fontsize=12,
        fontweight="bold",
    )
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=11)


def draw_tile(axes, image, title, color="#111111"):
    """Draws one image of the strip with a title below it."""
    axes.imshow(np.clip(image, 0, 1), interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_color(color)
    axes.set_xlabel(title, fontsize=9.5, color=color, labelpad=4)


def draw(curves, tiles):
    """Draws the whole picture.

    Args:
        curves: Dict from methods to what `read_curve` returns.
        tiles: Dict from methods to lists of `(clean, adversarial, label,
            clean_prediction, prediction)`, one for each image of the strip.

    Returns:
        A matplotlib `Figure`.
    """
    from matplotlib import figure

    whole = figure.Figure(figsize=(9, 7.2), facecolor="white")
    above, below = whole.subfigures(2, 1, height_ratios=[1.15, 1])
    draw_curves(above.add_axes((0.08, 0.16, 0.89, 0.73)), curves)
    centered = {"ha": "center", "va": "center"}
    heads = [
        "clean",
        f"perturbation ×{AMPLIFICATION}",
        "adversarial",
    ]
    columns = 3 * STRIP_IMAGES
    below.text(0.055, 0.925, f"epsilon\n{STRIP_RADIUS}/255", **centered)
    for row, (method, images) in enumerate(tiles.items()):
        title, color = METHODS[method]
        bottom = 0.55 - 0.46 * row
        below.text(
            0.055,
            bottom + 0.17,
            title.replace(" ", "\n"),
            color=color,
            fontsize=11,
            fontweight="bold",
            **centered,
        )
        for column in range(columns):
            place, part = divmod(column, 3)
            clean, attacked, label, before, after = images[place]
            left = 0.125 + 0.143 * column + 0.012 * place
            axes = below.add_axes((left, bottom, 0.132, 0.34))
            if row == 0:
                axes.set_title(heads[part], fontsize=9.5)
            if part == 1:
                noise = 0.5 + AMPLIFICATION * (attacked - clean)
                draw_tile(axes, noise, "")
                continue
            predicted = after if part else before
            right = predicted == label
            draw_tile(
                axes,
                attacked if part else clean,
                f"“{CLASSES[predicted]}”",
                "#15803d" if right else "#b91c1c",
            )
    return whole


def main(_):
    """Makes the runs, then draws the picture."""
    from fastbat_tf.data import loading

    run_dirs = {
        method: pathlib.Path(RUNS.value).absolute() / method
        for method in METHODS
    }
    results = {method: measure(method, run_dirs[method]) for method in METHODS}
    adversarial = {
        method: read_adversarial(results_dir)
        for method, results_dir in results.items()
    }
    index, labels = (adversarial["standard"][key] for key in ("index", "label"))
    np.testing.assert_array_equal(index, adversarial["fastbat"]["index"])
    clean = loading.load("cifar10_mini").test.images[index] / np.float32(255)
    before = {method: predict(run_dirs[method], clean) for method in METHODS}
    after = {
        method: predict(run_dirs[method], adversarial[method]["images"])
        for method in METHODS
    }
    shown = choose(
        adversarial,
        {method: classes == labels for method, classes in before.items()},
    )
    tiles = {
        method: [
            (
                clean[place],
                adversarial[method]["images"][place],
                labels[place],
                before[method][place],
                after[method][place],
            )
            for place in shown
        ]
        for method in METHODS
    }
    curves = {
        method: read_curve(results_dir)
        for method, results_dir in results.items()
    }
    path = pathlib.Path(OUTPUT.value)
    path.parent.mkdir(parents=True, exist_ok=True)
    draw(curves, tiles).savefig(path, dpi=110)
    print(f"Written: {path}")


if __name__ == "__main__":
    app.run(main)
