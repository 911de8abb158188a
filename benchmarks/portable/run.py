"""Trains with an exported step, without TensorFlow.

    python -m benchmarks.portable.run runs/portable

needs the output of `benchmarks.portable.export`, NumPy, and JAX, on whose first
device it runs (`JAX_PLATFORMS=cpu` selects the CPU). To the folder `portable/`
it writes `history.csv`, a row per epoch, and the state of the training,
`checkpoint.npz`, whose weights `benchmarks.portable.load` loads into
TensorFlow. If it was interrupted, the same command resumes from there.

    python -m benchmarks.portable.run runs/portable --time_steps=50

only times the step.
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
from jaxlib import xla_client

BLOCK = 50  # Steps after which the time limit is checked.


class Computation:
    """A step that `export_step` wrote, compiled for a device.

    Args:
        folder: `pathlib.Path` of the folder.
        device: A `jax.Device`.
    """

    def __init__(self, folder, device):
        self.description = json.loads((folder / "step.json").read_text())
        self._device = device
        self._loaded = device.client.compile_and_load(
            (folder / self.description["file"]).read_bytes(),
            xla_client.DeviceList((device,)),
            xla_client.CompileOptions(),
        )

    def __call__(self, state, **arguments):
        """Makes a step, without waiting for the device.

        Args:
            state: Dict from paths to device arrays, the variables, which is
                updated with their new values.
            **arguments: Arrays, or numbers.

        Returns:
            Dict of device arrays, the results.
        """
        given = [
            state[entry["state"]]
            if "state" in entry
            else self._put(entry, arguments[entry["argument"]])
            for entry in self.description["inputs"]
        ]
        sharded = self._loaded.execute_sharded(given)
        arrays = sharded.disassemble_into_single_device_arrays()
        results, outputs = {}, self.description["outputs"]
        for entry, (array,) in zip(outputs, arrays, strict=True):
            if "state" in entry:
                state[entry["state"]] = array
            else:
                results[entry["result"]] = array
        return results

    def _put(self, entry, value):
        if isinstance(value, jax.Array):
            return value
        value = np.asarray(value, entry["dtype"]).reshape(entry["shape"])
        return jax.device_put(value, self._device)


class Run:
    """The training of a run directory on a device.

    Args:
        run_dir: Path of the run directory.
        device: A `jax.Device`.
    """

    def __init__(self, run_dir, device):
        self._folder = pathlib.Path(run_dir) / "portable"
        self._checkpoint = self._folder / "checkpoint.npz"
        self._device = device
        start = time.perf_counter()
        self._step = Computation(self._folder, device)
        say(f"Compiled in {time.perf_counter() - start:.1f} s.")
        data = read_arrays(self._folder / "data.npz")
        orders = data.pop("order")
        self._orders = [jax.device_put(order, device) for order in orders]
        self._data = self._put(data)

    def _make_step(self, state, epoch, batch):
        batch = {"order": self._orders[epoch], "epoch": epoch, "batch": batch}
        return self._step(state, **self._data, **batch)

    def train(self, deadline):
        """Trains to the end, or until the deadline.

        Args:
            deadline: Float, a time of `time.monotonic()`.
        """
        epochs, per_epoch = len(self._orders), len(self._orders[0])
        state, done, seconds, history = self._resume()
        start = time.perf_counter()
        while done < epochs * per_epoch:
            epoch, batch = divmod(done, per_epoch)
            logs = self._make_step(state, epoch, batch)
            done += 1
            ends = done % per_epoch == 0
            if not ends and done % BLOCK:
                continue
            logs = {name: float(value) for name, value in logs.items()}
            seconds += time.perf_counter() - start
            if ends:
                history.append({"epoch": epoch + 1, **logs, "seconds": seconds})
                self._log(history)
                seconds = 0.0
                for name in self._step.description["metrics"]:
                    zeros = np.zeros_like(state[name])
                    state[name] = jax.device_put(zeros, self._device)
            late = time.monotonic() > deadline
            if ends or late:
                progress = {"done": done, "seconds": seconds}
                self._save(state, {**progress, "history": history})
            if late and done < epochs * per_epoch:
                say(f"Stopped at the time limit after {done} steps.")
                return
            start = time.perf_counter()

    def time_steps(self, count):
        """Times steps of the first epoch, after the first step.

        Args:
            count: Integer, the number of steps.
        """
        state, times = self._initial(), []
        for number in range(count + 1):
            start = time.perf_counter()
            batch = number % len(self._orders[0])
            jax.block_until_ready(self._make_step(state, 0, batch))
            times.append(1000 * (time.perf_counter() - start))
        first, *times = times
        memory = self._device.memory_stats() or {}  # It is None on CPUs.
        say(
            f"Milliseconds per step on {self._device.device_kind}: median "
            f"{statistics.median(times):.2f} of {count}, {min(times):.2f} to "
            f"{max(times):.2f}; the first {first:.0f}. "
            f"Peak memory: {memory.get('peak_bytes_in_use', 0) >> 20} MiB."
        )

    def _put(self, arrays):
        return {k: jax.device_put(arrays[k], self._device) for k in arrays}

    def _initial(self):
        return self._put(read_arrays(self._folder / "state.npz"))

    def _resume(self):
        if not self._checkpoint.exists():
            return self._initial(), 0, 0.0, []
        arrays = read_arrays(self._checkpoint)
        progress = json.loads(str(arrays.pop("progress")))
        say(f"Resuming after {progress['done']} steps.")
        return self._put(arrays), *progress.values()

    def _save(self, state, progress):
        partial = self._folder / "checkpoint.partial.npz"
        arrays = {k: np.asarray(v) for k, v in state.items()}
        np.savez(partial, progress=json.dumps(progress), **arrays)
        partial.replace(self._checkpoint)

    def _log(self, history):
        say(", ".join(f"{k} {v:.6g}" for k, v in history[-1].items()))
        with (self._folder / "history.csv").open("w", newline="") as stream:
            writer = csv.DictWriter(stream, list(history[-1]))
            writer.writeheader()
            writer.writerows(history)


def read_arrays(file):
    """Reads the arrays of an `.npz` file as a dict."""
    with np.load(file) as arrays:
        return dict(arrays)


def say(text):
    """Prints and flushes, so that an interrupted log is complete so far."""
    print(text, flush=True)


def main():
    """Trains, or times the step."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run_dir", help="written by benchmarks.portable.export")
    parser.add_argument(
        "--minutes", type=float, default=float("inf"), help="when to stop"
    )
    parser.add_argument(
        "--time_steps", type=int, default=0, help="only time this many steps"
    )
    given = parser.parse_args()
    deadline = time.monotonic() + 60 * given.minutes
    jax.config.update("jax_enable_x64", True)  # Steps are counted in int64.
    try:
        run = Run(given.run_dir, jax.devices()[0])
    except OSError as error:
        sys.exit(
            "error: Expected a run directory that benchmarks.portable.export "
            f"wrote. Received: run_dir={given.run_dir} ({error})"
        )
    if given.time_steps:
        run.time_steps(given.time_steps)
    else:
        run.train(deadline)


if __name__ == "__main__":
    main()
