"""Trains and measures with exported computations, without TensorFlow.

    python -m benchmarks.portable.run runs/portable

needs the output of `benchmarks.portable.export`, NumPy, and JAX, on whose first
device it runs (`JAX_PLATFORMS=cpu` selects the CPU). To the same run directory
it writes `history.csv` and `results.json`, and to its folder `portable/` the
whole state of the training, `checkpoint.npz`, and the best weights, `best.npz`,
which `benchmarks.portable.load` loads into TensorFlow. If it was interrupted,
the same command resumes from the checkpoint.

    python -m benchmarks.portable.run runs/portable --time_steps=50

only times the computations on random images.
"""

import argparse
import csv
import json
import pathlib
import statistics
import sys
import time

import jax
import numpy as np

from benchmarks.portable import measure
from benchmarks.portable.computation import (
    Computation,
    PortableError,
    put_state,
    read_data,
    read_description,
    save,
)

BLOCK = 50  # Steps after which the time limit is checked.


class Run:
    """A run directory on a device.

    Args:
        run_dir: Path of the run directory.
        data_file: Path of the images; None for those in the run directory.
        device: A `jax.Device`.
        cache: `pathlib.Path` of a folder that caches compiled computations.
            Defaults to None.
    """

    def __init__(self, run_dir, data_file, device, cache=None):
        self.folder, self.description = read_description(run_dir)
        self.path = pathlib.Path(run_dir)
        self.device = device
        self.cache = cache
        self.data_file = data_file or self.folder / "data.npz"
        self.checkpoint = self.folder / "checkpoint.npz"
        self.best = self.folder / "best.npz"
        self._initial = self.folder / "initial.npz"
        self._computations = {}

    def _get(self, name):
        """Returns a computation, which is compiled on first use."""
        if name not in self._computations:
            start = time.perf_counter()
            self._computations[name] = Computation(
                self.folder,
                self.description["computations"][name],
                self.device,
                self.cache,
            )
            seconds = round(time.perf_counter() - start, 1)
            say(f"{name} compiled in {seconds} s")
        return self._computations[name]

    def train(self, deadline):
        """Trains to the end, or until the deadline.

        Args:
            deadline: Float, a time of `time.monotonic()`.

        Returns:
            Whether the training is complete.
        """
        data = self._data()
        order = np.load(self.folder / "order.npy")
        epochs, per_epoch = order.shape[:2]
        state, done, seconds = self._resume()
        images, labels = (
            jax.device_put(data[f"train_{name}"], self.device)
            for name in ("images", "labels")
        )
        train = self._get("train")
        start = time.perf_counter()
        while done < epochs * per_epoch:
            epoch, batch = divmod(done, per_epoch)
            logs = train(
                state,
                images=images,
                labels=labels,
                chosen=order[epoch, batch],
                epoch=epoch,
                batch=batch,
            )
            done += 1
            ends = done % per_epoch == 0
            if not ends and done % BLOCK:
                continue
            logs = {name: float(value) for name, value in logs.items()}
            seconds += time.perf_counter() - start
            if ends:
                row = {
                    "epoch": epoch,
                    **logs,
                    "seconds": seconds,
                    "milliseconds_per_step": 1000 * seconds / per_epoch,
                    "peak_memory_mib": self._peak_memory(),
                    **self._validate(state, data),
                }
                self._end_epoch(state, row)
                seconds = 0.0
            late = time.monotonic() > deadline
            if ends or late:
                progress = {"done": done, "seconds": seconds}
                save(self.checkpoint, {**state, **progress})
            if late and done < epochs * per_epoch:
                say(f"Stopped at the time limit after {done} steps.")
                return False
            start = time.perf_counter()
        return True

    def measure(self, attacks, examples):
        """Attacks the test split with the best weights.

        Each attack is measured on its own. The parts of an ensemble run in
        order, each on what the previous ones left.

        Args:
            attacks: Sequence of names; if empty, all attacks that were exported
                for the test split.
            examples: Integer, the number of test images to use, from the first
                on; 0 for all.
        """
        settings, data = self.description["evaluation"], self._data()
        state = put_state(self.best, self.device)
        images = data["test_images"][: examples or None]
        labels = data["test_labels"][: examples or None]
        logits = self._classify(state, images)
        correct = measure.is_correct(logits, labels)
        for attack in attacks or settings["attacks"]:
            for epsilon in settings["epsilons"]:
                start = time.perf_counter()
                stages = self._run_stages(
                    attack,
                    state,
                    images=images,
                    labels=labels,
                    logits=logits,
                    robust=correct,
                    epsilon=epsilon,
                    seed=settings["seed"],
                )
                robust = stages[-1][1]
                row = {
                    "attack": attack,
                    "epsilon": epsilon,
                    "robust_accuracy": float(robust.mean()),
                    "clean_accuracy": float(correct.mean()),
                    "examples": len(labels),
                    "seconds": round(time.perf_counter() - start, 1),
                    "seed": settings["seed"],
                    "stages": [[n, float(r.mean())] for n, r in stages],
                }
                say(json.dumps(row))
                self._add_to_results(row)

    def time_steps(self, count):
        """Compiles all computations, and times steps on random images.

        Args:
            count: Integer, the number of training steps.
        """
        for name in self.description["computations"]:
            self._get(name)
        train, random = self._get("train"), np.random.default_rng(0)
        arguments = {
            name: jax.device_put(
                random.integers(0, 10, shape).astype(dtype), self.device
            )
            for name, (shape, dtype) in train.arguments.items()
        }
        state, times = put_state(self._initial, self.device), []
        for _ in range(count + 1):
            start = time.perf_counter()
            logs = jax.block_until_ready(train(state, **arguments))
            times.append(1000 * (time.perf_counter() - start))
        first, *times = times
        say(
            f"Milliseconds per step on {self.device.device_kind}: median "
            f"{statistics.median(times):.2f} of {count}, {min(times):.2f} to "
            f"{max(times):.2f}; the first {first:.0f}. "
            f"Peak memory: {self._peak_memory()} MiB."
        )
        say(", ".join(f"{k} {float(v):.6g}" for k, v in logs.items()))

    def _data(self):
        return read_data(self.data_file, self.description["data"])

    def _resume(self):
        if not self.checkpoint.exists():
            return put_state(self._initial, self.device), 0, 0.0
        state = put_state(self.checkpoint, self.device)
        done = int(state.pop("done"))
        say(f"Resuming after {done} steps.")
        return state, done, float(state.pop("seconds"))

    def _validate(self, state, data):
        settings = self.description["evaluation"]
        count = settings["validation_examples"] or None
        images = data["validation_images"][:count]
        labels = data["validation_labels"][:count]
        logits = self._classify(state, images)
        correct = measure.is_correct(logits, labels)
        stages = self._run_stages(
            settings["validation_attack"],
            state,
            images=images,
            labels=labels,
            logits=logits,
            robust=correct,
            epsilon=settings["validation_epsilon"],
            seed=self.description["seed"],
        )
        robust = stages[-1][1]
        return {
            "val_clean_accuracy": float(correct.mean()),
            "val_robust_accuracy": float(robust.mean()),
        }

    def _classify(self, state, images):
        return measure.classify(self._get("classify"), state, images)

    def _stages(self, attack):
        known = self.description["attacks"]
        if attack not in known:
            raise PortableError(
                f"Expected one of the exported attacks, {', '.join(known)}. "
                f"Received: attack={attack}"
            )
        return known[attack]

    def _run_stages(self, attack, state, *, robust, **problem):
        """Returns the name of each stage of an attack, and what it leaves."""
        stages = []
        for name in self._stages(attack):
            settings = self.description["stages"][name]
            robust = measure.attack(
                self._get(name), settings, state, robust=robust, **problem
            )
            stages.append((name, robust))
        return stages

    def _end_epoch(self, state, row):
        """Logs an epoch, saves the best weights, and resets the metrics."""
        say(", ".join(f"{name} {value:.6g}" for name, value in row.items()))
        file = self.path / "history.csv"
        history = []
        if file.exists():
            with file.open(newline="") as stream:
                history = [
                    {current(name): value for name, value in old.items()}
                    for old in csv.DictReader(stream)
                ]
        # Rows without a checkpoint are from epochs that are repeated.
        history = [old for old in history if int(old["epoch"]) < row["epoch"]]
        monitor = current(self.description["monitor"])
        if all(row[monitor] > float(old[monitor]) for old in history):
            kept = set(self.description["classifier"])
            save(
                self.best,
                {
                    k: v
                    for k, v in state.items()
                    if k in kept or "_constant" in k
                },
            )
        with file.open("w", newline="") as stream:
            writer = csv.DictWriter(stream, list(row))
            writer.writeheader()
            writer.writerows([*history, row])
        for name in self.description["reset_every_epoch"]:
            zeros = np.zeros_like(state[name])
            state[name] = jax.device_put(zeros, self.device)

    def _add_to_results(self, row):
        """Adds a row to `results.json`, or replaces it."""
        file, rows = self.path / "results.json", []
        if file.exists():
            rows = json.loads(file.read_text())["attacks"]
        same = ("attack", "epsilon", "examples")
        rows = [r for r in rows if any(r[key] != row[key] for key in same)]
        with (self.path / "history.csv").open(newline="") as stream:
            history = list(csv.DictReader(stream))
        seconds, steps = (
            [float(epoch[name]) for epoch in history]
            for name in ("seconds", "milliseconds_per_step")
        )
        results = {
            "device": self.device.device_kind,
            "jax": jax.__version__,
            "weights": f"best {self.description['monitor']}",
            "training_seconds": round(sum(seconds), 1),
            "milliseconds_per_step": round(statistics.median(steps), 2),
            "training_peak_memory_mib": int(history[0]["peak_memory_mib"]),
            "attacks": [*rows, row],
        }
        file.write_text(json.dumps(results, indent=2) + "\n")

    def _peak_memory(self):
        known = self.device.memory_stats() or {}  # It is None on CPUs.
        return known.get("peak_bytes_in_use", 0) // 2**20


def current(name):
    """Returns today's name of a column that an earlier version recorded."""
    return {"val_accuracy": "val_clean_accuracy"}.get(name, name)


def say(text):
    """Prints and flushes, so that an interrupted log is complete so far."""
    print(text, flush=True)


def main():
    """Trains and measures, or times the steps."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run_dir", help="written by benchmarks.portable.export")
    parser.add_argument("--data_file", help="the images, if not in run_dir")
    parser.add_argument(
        "--minutes", type=float, default=float("inf"), help="when to stop"
    )
    parser.add_argument(
        "--time_steps", type=int, default=0, help="only time this many steps"
    )
    parser.add_argument(
        "--attacks",
        nargs="*",
        default=(),
        help="a selection of the exported attacks",
    )
    parser.add_argument(
        "--examples", type=int, default=0, help="number of test images"
    )
    parser.add_argument(
        "--cache", type=pathlib.Path, help="folder that caches compilations"
    )
    given = parser.parse_args()
    deadline = time.monotonic() + 60 * given.minutes
    jax.config.update("jax_enable_x64", True)  # Steps are counted in int64.
    try:
        device = jax.devices()[0]
        run = Run(given.run_dir, given.data_file, device, given.cache)
        if given.time_steps:
            run.time_steps(given.time_steps)
        elif run.train(deadline):
            run.measure(given.attacks, given.examples)
    except PortableError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
