"""Whether a network reads the label out of the perturbation it is trained with.

    python -m benchmarks.label_leak --runs=runs/a,runs/b

With 1 / lambda as large as the step size, Fast-BAT's corrected gradient is the
whole derivative of the loss at x + delta*(theta): the network may lower it by
steering its own attack, which knows the label. For the last weights of runs,
the accuracy on training and test images is measured

* clean;
* at the training perturbation of the true label: two steps without a sign;
* at that of a wrong label, drawn at random, beside the share of images that are
  then classified as that wrong label. An attack moves away from the label that
  it is given; if images move to it, the perturbation carries the label;
* with the perturbation of another image: the share that is classified as the
  label of that other image;
* under PGD-10;

and each with BatchNormalization's moving statistics and with those of the
batch, as in training. Batches have the size of the training's.
"""

import json
import pathlib

import numpy as np
from absl import app, flags

STEPS = 10


def method_perturbation(network, images, labels, start, *, epsilon, step_size):
    """Two steps without a sign from `start`, as of FastBAT's `ns-pgd`.

    Args:
        network: Function from images to logits.
        images: Tensor `(batch, height, width, channels)`.
        labels: Integer tensor `(batch,)`, from which the steps move away.
        start: Tensor like `images`, in the ball.
        epsilon: Float, the radius of the L-infinity ball.
        step_size: Float, the factor of the gradient.

    Returns:
        Tensor like `images`.
    """
    from fastbat_tf import perturbation

    delta = start
    for _ in range(2):
        gradient = input_gradient(network, images + delta, labels)
        delta = perturbation.project(
            delta + step_size * gradient, images, epsilon
        )
    return delta


def pgd(network, images, labels, start, *, epsilon):
    """`STEPS` signed steps of epsilon / 4, as of PGD.

    Args:
        network: Function from images to logits.
        images: Tensor `(batch, height, width, channels)`.
        labels: Integer tensor `(batch,)`, from which the steps move away.
        start: Tensor like `images`, in the ball.
        epsilon: Float, the radius of the L-infinity ball.

    Returns:
        Tensor like `images`.
    """
    import tensorflow as tf

    from fastbat_tf import perturbation

    delta = start
    for _ in range(STEPS):
        gradient = input_gradient(network, images + delta, labels)
        delta = perturbation.project(
            delta + epsilon / 4 * tf.sign(gradient), images, epsilon
        )
    return delta


def input_gradient(network, points, labels):
    """The gradient of each image's cross-entropy."""
    import tensorflow as tf

    with tf.GradientTape() as tape:
        tape.watch(points)
        loss = tf.reduce_sum(
            tf.nn.sparse_softmax_cross_entropy_with_logits(
                labels, network(points)
            )
        )
    return tape.gradient(loss, points)


def measure(network, images, labels, *, epsilon, step_size, seed=0):
    """Measures one batch.

    Args:
        network: Function from images to logits.
        images: float32 array `(batch, height, width, channels)` in [0, 1].
        labels: Integer array `(batch,)`.
        epsilon: Float, the radius.
        step_size: Float, the step size of the training.
        seed: Integer, for the starts and the wrong labels. Defaults to `0`.

    Returns:
        Dict of floats, shares of the batch.
    """
    import tensorflow as tf

    draws = np.random.default_rng(seed)
    classes = int(network(images).shape[-1])
    wrong = (labels + draws.integers(1, classes, len(labels))) % classes
    images = tf.constant(images)
    noise = draws.uniform(-epsilon, epsilon, images.shape)
    start = tf.clip_by_value(images + np.float32(noise), 0.0, 1.0) - images

    def predict(points):
        return np.argmax(network(points), -1)

    def attack(towards):
        return method_perturbation(
            network,
            images,
            tf.constant(towards, tf.int32),
            start,
            epsilon=epsilon,
            step_size=step_size,
        )

    true, other = attack(labels), attack(wrong)
    strong = pgd(
        network, images, tf.constant(labels, tf.int32), start, epsilon=epsilon
    )
    moved = tf.clip_by_value(images + tf.roll(true, 1, 0), 0.0, 1.0)
    at_other, at_moved = predict(images + other), predict(moved)
    shares = {
        "clean": predict(images) == labels,
        "true_label": predict(images + true) == labels,
        "wrong_label": at_other == labels,
        "as_wrong_label": at_other == wrong,
        "of_another_image": at_moved == labels,
        "as_other_image": at_moved == np.roll(labels, 1),
        "pgd_10": predict(images + strong) == labels,
    }
    return {name: float(each.mean()) for name, each in shares.items()}


def measure_run(run_dir, examples, weights="last"):
    """Measures the weights of a run on training and test images.

    Args:
        run_dir: Path of the run.
        examples: Integer, the number of images of either split.
        weights: `"last"` or `"best"`. Defaults to `"last"`.

    Returns:
        Dict from the split, such as `"train"`, to dicts from `"moving"` and
        `"batch"` to what `measure` returns.
    """
    import tensorflow as tf

    from benchmarks import study_network
    from fastbat_tf.data import loading
    from fastbat_tf.experiment.config import Config

    config = Config.from_dict(json.loads((run_dir / "config.json").read_text()))
    robust = study_network.load(run_dir, config, weights)
    data = loading.load_splits(config.data)
    options = config.method.options
    step_size = options["step_size"]
    if step_size == "auto":  # Where the training has ended.
        quantile = robust.method_state.entries["gradient_quantile"]
        step_size = options["epsilon"] / float(quantile)
    found = {}
    for split in ("train", "test"):
        part = getattr(data, split).first(examples)
        for mode, training in (("moving", False), ("batch", True)):
            before = robust.classifier.get_weights()
            network = tf.function(
                lambda points, training=training: robust.classifier(
                    points, training=training
                ),
                autograph=False,
            )
            size = config.training.batch_size
            batches = [
                measure(
                    network,
                    np.float32(part.images[first : first + size] / 255),
                    np.int64(part.labels[first : first + size]),
                    epsilon=options["epsilon"],
                    step_size=step_size,
                    seed=first,
                )
                for first in range(0, examples - size + 1, size)
            ]
            robust.classifier.set_weights(before)
            found.setdefault(split, {})[mode] = {
                name: float(np.mean([each[name] for each in batches]))
                for name in batches[0]
            }
    return found


def main(_):
    """Prints a table, and writes the numbers."""
    values = flags.FLAGS
    rows = {}
    for name in values.runs:
        run_dir = pathlib.Path(name)
        rows[run_dir.name] = measure_run(
            run_dir, values.examples, values.weights
        )
        if values.json:
            pathlib.Path(values.json).write_text(json.dumps(rows, indent=1))
    print("\n".join(table(rows)))


def table(rows):
    """Returns the lines of a Markdown table, in percent.

    Args:
        rows: Dict from names of runs to what `measure_run` returns.
    """
    measures = next(iter(rows.values()))["train"]["moving"]
    heads = [
        "run",
        "images",
        "statistics",
        *(m.replace("_", " ") for m in measures),
    ]
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    for name, splits in rows.items():
        for split, modes in splits.items():
            for mode, found in modes.items():
                cells = [f"`{name}`", split, mode]
                cells += [f"{100 * share:.1f}" for share in found.values()]
                lines.append(f"| {' | '.join(cells)} |")
    return lines


if __name__ == "__main__":
    flags.DEFINE_list("runs", [], "Directories of runs.")
    flags.DEFINE_integer("examples", 512, "Images of either split.")
    flags.DEFINE_string("weights", "last", "Weights: last or best.")
    flags.DEFINE_string("json", None, "File of the numbers.")
    app.run(main)
