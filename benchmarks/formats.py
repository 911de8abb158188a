"""Measures a run in each format: its size, its speed and its robustness.

    python -m benchmarks.formats --run_dir=runs/fastbat --json=FILE

The run is exported in each format (`exports/` of the run), on one CPU core.
The first table lists the size of the file; the milliseconds for one image and
the images a second in batches of 32, each with the ratio to `predict_on_batch`
of Keras, medians of calls that take turns, so that other load on the machine
affects all of them alike; the largest difference of a logit from Keras'; and
the share of the test images that get the same class.

The second table lists the accuracy under attacks that need no gradients of the
model: Square, and PGD on the Keras model, which is a white-box attack on the
Keras model alone. Since `tflite_int8` takes pixels of 8 bits, the row `keras,
8-bit pixels` has the Keras model behind the same rounding: how it differs from
`keras` is due to the pixels, and how `tflite_int8` differs from it is due to
the integers inside. The last column compares the images that a row and `keras`
get right under all attacks.

The measurements of each attack are kept in `formats/` of the run, so that the
same command resumes after an interruption.
"""

import argparse
import dataclasses
import json
import os
import pathlib
import statistics
import time
from typing import Any, NamedTuple

from benchmarks import device
from fastbat_tf.experiment.report import paired
from fastbat_tf.runtime import environment

BATCH_SIZE = 32


class Speed(NamedTuple):
    """Medians of the time of calls.

    Attributes:
        seconds: Of a call with one image.
        batch_seconds: Of a call with `BATCH_SIZE` images.
    """

    seconds: float
    batch_seconds: float


def use_cores(count):
    """Limits this process, and the threads that it starts, to some cores."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:count])


def export(run_dir, name, data_dir=None):
    """Exports a run in a format, unless it has been; returns the path."""
    from fastbat_tf import models
    from fastbat_tf.experiment.export import export_run
    from fastbat_tf.experiment.export_request import ExportRequest
    from fastbat_tf.saving.formats import registry

    file = registry.get(name).file
    path = run_dir / "exports" / name / file if file else run_dir / name
    if not path.exists():
        request = ExportRequest(name, data_dir=data_dir)
        export_run(run_dir, models.get, request, verbosity=-1)
    return path


def read_test_images(run_dir, data_dir, count):
    """A class-balanced subset: float32 images in [0, 1], and labels."""
    import numpy as np

    from fastbat_tf.data import loading
    from fastbat_tf.evaluation import inputs
    from fastbat_tf.experiment.run_directory import RunDirectory

    data = RunDirectory(run_dir).load_config().data
    if data_dir:
        data = dataclasses.replace(data, data_dir=data_dir)
    sample = inputs.take(loading.load_test(data), count, seed=0)
    return np.float32(sample.images) / 255, sample.labels


def size_of(path):
    """The bytes of a file, or of all files of a directory."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def rounded(network):
    """The network behind pixels that are rounded to 8 bits."""
    import tensorflow as tf

    # Rounding has no gradient, of which the evaluation would warn. No attack
    # asks for it.
    to_integers = tf.grad_pass_through(tf.round)
    return lambda images: network(to_integers(images * 255) / 255)


def get_call(name, path, network):
    """A function from a batch of images to logits, as one would serve them."""
    import keras
    import numpy as np

    if name == "keras":
        model: Any = keras.models.load_model(path, compile=False)
        return model.predict_on_batch
    return lambda images: np.asarray(network(images))


def measure_speed(calls, images, rounds):
    """Times functions, which take turns.

    Args:
        calls: Dict from names to functions of a batch of images.
        images: Array of at least `BATCH_SIZE` images.
        rounds: Integer, calls with one image; a fifth of it with a batch.

    Returns:
        Dict from names to `Speed`.
    """
    medians = {name: [] for name in calls}
    for size, count in ((1, rounds), (BATCH_SIZE, max(1, rounds // 5))):
        seconds = {name: [] for name in calls}
        for number in range(-2, count):  # The first two trace and warm up.
            first = number % (len(images) // size) * size
            batch = images[first : first + size]
            for name, call in calls.items():
                begin = time.perf_counter()
                call(batch)
                if number >= 0:
                    seconds[name].append(time.perf_counter() - begin)
        for name, found in seconds.items():
            medians[name].append(statistics.median(found))
    return {name: Speed(*found) for name, found in medians.items()}


def answers(call, images):
    """The logits of images."""
    import numpy as np

    starts = range(0, len(images), BATCH_SIZE)
    return np.concatenate([call(images[i : i + BATCH_SIZE]) for i in starts])


def print_costs(rows):
    """Prints the table of sizes and speeds, with ratios to the first row."""
    print(
        "| format | MB | ms an image | ratio | images/s in batches of "
        f"{BATCH_SIZE} | ratio | largest difference of logits | same class |"
    )
    print("|---|---|---|---|---|---|---|---|")
    first = rows[0]
    for row in rows:
        rate, base = (BATCH_SIZE / x["batch_seconds"] for x in (row, first))
        print(
            f"| {row['format']} | {row['bytes'] / 1e6:.2f} "
            f"| {1e3 * row['seconds']:.2f} "
            f"| {row['seconds'] / first['seconds']:.2f} "
            f"| {rate:.0f} | {rate / base:.2f} "
            f"| {row['logit_difference']:.1e} "
            f"| {100 * row['same_class']:.1f} % |"
        )


def percent(share, interval):
    """An accuracy with its 95 % interval."""
    low, high = (100 * bound for bound in interval)
    return f"{100 * share:.1f} ({low:.1f} to {high:.1f})"


def print_robustness(rows):
    """Prints the table of accuracies."""
    names = [row["attack"] for row in rows[0]["results"]["attacks"]]
    titles = ["format", "clean", *names, "all attacks", "minus the first"]
    print(f"| {' | '.join(titles)} |")
    print("|" + "---|" * len(titles))
    for row in rows:
        results, difference = row["results"], row["difference"]
        cells = [
            row["format"],
            percent(
                results["clean_accuracy"], results["clean_confidence_interval"]
            ),
            *(
                percent(x["robust_accuracy"], x["confidence_interval"])
                for x in results["attacks"]
            ),
            f"{100 * row['robust_accuracy']:.1f}",
            percent(difference["value"], difference["interval"])
            + f", p = {difference['p']:.2f}",
        ]
        print(f"| {' | '.join(cells)} |", flush=True)


def measure_costs(paths, networks, images, rounds):
    """The rows of the first table, as dicts.

    Args:
        paths: Dict from formats to paths.
        networks: Dict from formats to functions from images to logits.
        images: Array of images.
        rounds: Integer; see `measure_speed`.
    """
    import numpy as np

    calls = {
        x: get_call(x, paths[x], network) for x, network in networks.items()
    }
    speeds = measure_speed(calls, images, rounds)
    logits = {x: answers(call, images) for x, call in calls.items()}
    expected = next(iter(logits.values()))
    return [
        {
            "format": name,
            "bytes": size_of(paths[name]),
            **speeds[name]._asdict(),
            "logit_difference": float(np.abs(found - expected).max()),
            "same_class": np.mean(found.argmax(-1) == expected.argmax(-1)),
        }
        for name, found in logits.items()
    ]


def measure_attacks(networks, data, attacks, epsilon, directory):
    """The rows of the second table, as dicts.

    Args:
        networks: Dict from formats to functions from images to logits.
        data: Pair of images and labels.
        attacks: List of names.
        epsilon: Float, the radius.
        directory: `pathlib.Path`, where the outcomes are kept.
    """
    import numpy as np

    from fastbat_tf import evaluate_robustness

    first, reference = next(iter(networks.items()))
    also = {f"{first}, 8-bit pixels": rounded(reference)}
    transfers = any(name.startswith("transfer") for name in attacks)
    rows, expected = [], None
    for name, network in {**networks, **also}.items():
        kept = directory / name.replace(" ", "_")
        results = evaluate_robustness(
            network,
            data,
            attacks,
            epsilon,
            surrogate=reference if transfers else None,
            batch_size=100,
            directory=kept,
        )
        with np.load(kept / "outcomes.npz") as outcomes:
            robust = outcomes["robust"].all(0)
        expected = robust if expected is None else expected
        rows.append(
            {
                "format": name,
                "results": results,
                "robust_accuracy": robust.mean(),
                "difference": paired.compare(robust, expected)._asdict(),
            }
        )
    return rows


def measure(arguments):
    """Prints both tables, and returns their numbers as a dict."""
    from fastbat_tf.saving import model_files

    run_dir = pathlib.Path(arguments.run_dir)
    data = read_test_images(run_dir, arguments.data_dir, arguments.examples)
    paths = {
        name: export(run_dir, name, arguments.data_dir)
        for name in arguments.formats.split(",")
    }
    networks = {name: model_files.load(path) for name, path in paths.items()}
    found = {
        "device": device.describe(),
        "cores": arguments.cores,
        "examples": len(data[0]),
        "epsilon": arguments.epsilon,
    }
    print(
        f"{found['device']}, of which {arguments.cores} used; "
        f"{found['examples']} test images, epsilon "
        f"{255 * arguments.epsilon:g}/255",
        flush=True,
    )
    found["costs"] = measure_costs(paths, networks, data[0], arguments.rounds)
    print_costs(found["costs"])
    if arguments.attacks:
        found["robustness"] = measure_attacks(
            networks,
            data,
            arguments.attacks.split(","),
            arguments.epsilon,
            run_dir / "formats",
        )
        print_robustness(found["robustness"])
    return found


def main(given: list[str] | None = None) -> None:
    """Runs the command.

    Args:
        given: List of strings. Defaults to those of the command line.
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run_dir", required=True)
    parser.add_argument("--data_dir", help="Default: that of the run.")
    parser.add_argument(
        "--formats",
        default="keras,saved_model,tflite,tflite_int8,onnx",
        help="The others are compared with the first.",
    )
    parser.add_argument("--examples", type=int, default=500)
    parser.add_argument(
        "--attacks",
        default="square-1000,transfer-pgd-50-10",
        help="Without gradients of the model; empty: no attacks.",
    )
    parser.add_argument("--epsilon", type=float, default=8 / 255)
    parser.add_argument(
        "--rounds", type=int, default=100, help="Timed calls of one image."
    )
    parser.add_argument(
        "--cores", type=int, default=1, help="CPU cores that are used."
    )
    parser.add_argument("--json", help="Write the numbers here, too.")
    arguments = parser.parse_args(given)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    use_cores(arguments.cores)
    environment.enable_onednn()
    with environment.silent_start():
        import tensorflow  # noqa: F401
    found = measure(arguments)
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump(found, file, indent=1)


if __name__ == "__main__":
    main()
