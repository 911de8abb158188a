"""Kills a run at random moments, again and again, and compares the outcome.

    python -m tests.support.chaos --kills=20 DIRECTORY [flags of main.py]

An undisturbed run of `main.py --deterministic`, and runs that SIGKILL ends
somewhere and the same command resumes, must end with the same bits: weights,
optimizer, random state, history, results, exported variables, and
TensorBoard's curves. The last process must have started from the last
checkpoint, because a new run would end with the same bits, too. Each attempt
is a fork of one process that has imported TensorFlow, which saves seconds.

If there are differences, each has a line, and the status is 1.
"""

import argparse
import json
import os
import pathlib
import random
import signal
import sys
import time

import h5py
import numpy as np

FLAGS = [
    "--flagfile=recipes/demo.cfg",
    "--method=fastat",
    "--width=1",
    "--epochs=3",
    "--batch_size=200",
    "--attacks=pgd-3-1",
    "--max_examples=50",
    "--validation_examples=50",
    "--save_every=3",
    "--deterministic",
]


def start(flags, log):
    """Forks a process that runs `main.py` with these flags."""
    process = os.fork()
    if process:
        return process
    os.setsid()
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    status = 70
    try:
        import flags as command_line
        from flags import program

        command_line.parse(["main.py", *flags])
        program.main(None)
        status = 0
    except SystemExit as error:
        status = error.code
    finally:
        sys.stdout.flush()
        os._exit(status)


def run(flags, log, kill_after=None):
    """Runs `main.py`; returns its status, or None if it was killed."""
    process = start(flags, log)
    end = time.monotonic() + (kill_after or 1e9)
    while time.monotonic() < end:
        done, status = os.waitpid(process, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    return None


def without_seconds(content):
    """Reads JSON without the entries that depend on the time."""
    if isinstance(content, dict):
        return {
            name: without_seconds(value)
            for name, value in content.items()
            if "seconds" not in name
        }
    if isinstance(content, list):
        return [without_seconds(value) for value in content]
    return content


def curves(directory):
    """All points of TensorBoard, in order: kind, tag, step, value."""
    from tensorflow.compat.v1.train import summary_iterator

    points = []
    for path in sorted(directory.rglob("events.*")):
        kind = path.parent.name
        for event in summary_iterator(str(path)):
            for value in event.summary.value:
                if value.tag not in ("epoch_seconds", "command", "versions"):
                    content = value.tensor.SerializeToString()
                    points.append((kind, value.tag, event.step, content))
    return sorted(points, key=lambda point: point[:3])


def _arrays(path):
    if path.suffix == ".npz":
        with np.load(path) as file:
            return {name: file[name] for name in file.files}
    found = {}
    with h5py.File(path) as file:
        file.visititems(
            lambda name, item: (
                found.update({name: item[()]})
                if isinstance(item, h5py.Dataset)
                else None
            )
        )
    return found


def _settings(run_dir):
    """What `config.json` says of a run, whenever and wherever it began."""
    settings = json.loads((run_dir / "config.json").read_text())
    for name in ("command", "started"):
        del settings[name]
    return settings


def resume_line(run_dir):
    """The beginning of the line with which the next process resumes."""
    checkpoints = [
        path for path in run_dir.glob("backup/*") if path.suffix != ".partial"
    ]
    if not checkpoints:
        return "Running on"
    state = json.loads((max(checkpoints) / "state.json").read_text())
    return f"Resuming: {state['epoch']} epochs and {state['batch']} steps"


def differences(run_dir, reference):
    """Lists the differences between two finished runs, one per line."""
    found = []
    for name in (
        "checkpoints/best.weights.h5",
        "checkpoints/last.weights.h5",
        "backup/*/variables.npz",
    ):
        # Only the newest checkpoint: a kill leaves more of them.
        ours, theirs = (
            _arrays(max(path.glob(name))) for path in (run_dir, reference)
        )
        if ours.keys() != theirs.keys():
            found.append(f"{name}: other arrays")
        found += [
            f"{name}: {key}"
            for key in ours.keys() & theirs.keys()
            if ours[key].tobytes() != theirs[key].tobytes()
        ]
    for name in (
        "history.csv",
        "saved_model/variables/variables.data-00000-of-00001",
    ):
        if (run_dir / name).read_bytes() != (reference / name).read_bytes():
            found.append(name)
    ours, theirs = (_settings(path) for path in (run_dir, reference))
    if ours != theirs:
        found.append("config.json")
    ours, theirs = (
        [row.split(",")[0] for row in (path / "timing.csv").open()]
        for path in (run_dir, reference)
    )
    if ours != theirs:
        found.append("timing.csv")
    ours, theirs = (
        without_seconds(json.loads((path / "results.json").read_text()))
        for path in (run_dir, reference)
    )
    text = json.dumps(ours).replace(str(run_dir), str(reference))
    if text != json.dumps(theirs):
        found.append("results.json")
    ours, theirs = (curves(p / "tensorboard") for p in (run_dir, reference))
    if ours != theirs or len({point[:3] for point in ours}) != len(ours):
        found.append("tensorboard")
    return found


def main():
    """Kills runs until the number of kills is reached."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", type=pathlib.Path)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options, more = parser.parse_known_args()
    # Before the forks, for all of them.
    from fastbat_tf.experiment import train as _  # noqa: F401

    directory = options.directory.absolute()
    directory.mkdir(parents=True)
    flags, random_state = FLAGS + more, random.Random(options.seed)
    reference = directory / "reference"
    begin = time.monotonic()
    if run([*flags, f"--run_dir={reference}"], directory / "log.txt") != 0:
        sys.exit(f"The run fails by itself: {directory / 'log.txt'}")
    duration = time.monotonic() - begin
    kills, runs, failed = 0, 0, False
    while kills < options.kills:
        run_dir = directory / f"killed{runs}"
        command = [*flags, f"--run_dir={run_dir}"]
        log = directory / f"log{runs}.txt"
        status, moments = None, []
        while status is None:
            expected, read = (
                resume_line(run_dir),
                log.stat().st_size if moments else 0,
            )
            wait = random_state.uniform(0.0, duration)
            begin = time.monotonic()
            status = run(command, log, wait if kills < options.kills else None)
            if status is None:
                kills += 1
                moments.append(wait)
        runs += 1
        if not moments:  # The first run may have been slower.
            duration = min(duration, time.monotonic() - begin)
        found = differences(run_dir, reference) if status == 0 else [log]
        said = log.read_text()[read:]
        if expected not in said and "This run is finished" not in said:
            found.append(f"no line '{expected}'")
        failed |= bool(found)
        print(
            f"run {runs}: killed after "
            f"{', '.join(f'{moment:.1f}' for moment in moments)} s: status "
            f"{status}, {found or 'the same bits'}",
            flush=True,
        )
    print(f"{kills} kills, {duration:.1f} s undisturbed.")
    sys.exit(failed)


if __name__ == "__main__":
    main()
