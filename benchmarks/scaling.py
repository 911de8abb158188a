"""How a training step scales with the number of replicas.

    python -m benchmarks.scaling --replicas=1,2,4 --json=FILE
    python -m benchmarks.scaling --model

The first command times a step of R replicas on R logical CPU devices, which
share one core and one thread, so that nothing is gained by working at the same
time. R replicas of b images then compute as much as R steps of one device on b
images; what the step takes beyond this is not computation: it exchanges
gradients and keeps R copies of the weights in step.

The second command needs no device. From measured times of a step on a GPU, and
from the bytes that the replicas exchange (the table in docs/distributed.md, see
`benchmarks.collectives`), it prints the efficiency to expect on many GPUs.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from typing import Any

from benchmarks import collectives, scaling_model
from benchmarks.collectives import IMAGE_SHAPE


def serve(arguments: argparse.Namespace) -> None:
    """Times a step for each line that arrives, in a process of its own."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    import tensorflow as tf

    from fastbat_tf.distribution import make_deterministic

    make_deterministic()  # One thread.
    replicas = arguments.one
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0],
        [tf.config.LogicalDeviceConfiguration()] * replicas,
    )
    strategy = tf.distribute.get_strategy()
    if replicas > 1:
        strategy = tf.distribute.MirroredStrategy(
            [f"CPU:{replica}" for replica in range(replicas)]
        )
    robust = collectives.build(
        arguments.method,
        width=arguments.width,
        batch=arguments.batch_size,
        strategy=strategy,
    )
    step, data = collectives.step_on_replicas(
        robust, IMAGE_SHAPE, arguments.batch_size
    )
    for _ in sys.stdin:
        wall, cpu = time.perf_counter(), time.process_time()
        step(data)
        robust.step.value.numpy()  # Waits for the step.
        seconds = time.perf_counter() - wall, time.process_time() - cpu
        print(json.dumps(seconds), flush=True)


class Server:
    """A process that times steps of some replicas when asked.

    Args:
        replicas: Integer, the number of replicas.
        arguments: List of strings, the other arguments of the command.
    """

    def __init__(self, replicas: int, arguments: list[str]) -> None:
        self._process: Any = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "benchmarks.scaling",
                f"--one={replicas}",
                *arguments,
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self) -> tuple[float, float]:
        """Seconds of a step: of the clock, and of the CPU."""
        self._process.stdin.write("step\n")
        self._process.stdin.flush()
        wall, cpu = json.loads(self._process.stdout.readline())
        return wall, cpu

    def stop(self) -> None:
        """Ends the process."""
        self._process.stdin.close()
        self._process.wait()


def share_not_computation(seconds: float, computing: float) -> float:
    """The share of a step that is not computation.

    Args:
        seconds: Float, CPU seconds of a step on all replicas.
        computing: Float, CPU seconds of as many steps of one device as there
            are replicas, each on the images of one of them.
    """
    return 1 - computing / seconds


def time_replicas(
    counts: list[int], passed: list[str], rounds: int
) -> list[dict[str, Any]]:
    """Times steps of several numbers of replicas, which take turns.

    Before each step on R replicas, one device makes R steps, so that other load
    on the machine affects both alike.

    Args:
        counts: List of integers, the numbers of replicas.
        passed: List of strings, the arguments of the processes.
        rounds: Integer, the number of timed steps of each.

    Returns:
        Dict for each number of replicas.
    """
    servers = {count: Server(count, passed) for count in {1, *counts}}
    first = {count: server.ask()[0] for count, server in servers.items()}
    times: dict[int, list] = {count: [] for count in counts}
    shares: dict[int, list] = {count: [] for count in counts}
    for _ in range(rounds):
        for count in counts:
            alone = [servers[1].ask()[1] for _ in range(count)]
            times[count].append(servers[count].ask())
            cpu = times[count][-1][1]
            shares[count].append(share_not_computation(cpu, sum(alone)))
    for server in servers.values():
        server.stop()
    return [
        {
            "replicas": count,
            "first_seconds": first[count],
            "median_seconds": statistics.median(x for x, _ in times[count]),
            "median_cpu_seconds": statistics.median(x for _, x in times[count]),
            "share_not_computation": statistics.median(shares[count]),
            "shares_not_computation": shares[count],
            "seconds": times[count],
        }
        for count in counts
    ]


def measure(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Times the replicas; prints and returns the rows."""
    settings = {
        name: getattr(arguments, name)
        for name in ("method", "width", "batch_size")
    }
    rows = time_replicas(
        [int(count) for count in arguments.replicas.split(",")],
        [f"--{name}={value}" for name, value in settings.items()],
        arguments.rounds,
    )
    print("| replicas | first (s) | step (s) | CPU (s) | not computation |")
    print("|---|---|---|---|---|")
    for row in rows:
        row |= settings
        shares = sorted(row["shares_not_computation"])
        print(
            f"| {row['replicas']} | {row['first_seconds']:.1f} | "
            f"{row['median_seconds']:.3f} | {row['median_cpu_seconds']:.3f} | "
            f"{100 * row['share_not_computation']:.1f} % "
            f"({100 * shares[0]:.1f} to {100 * shares[-1]:.1f}) |"
        )
    return rows


def main(given: list[str] | None = None) -> None:
    """Runs the command.

    Args:
        given: List of strings. Defaults to those of the command line.
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--method", default="fastbat")
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument(
        "--batch_size", type=int, default=32, help="Images of one replica."
    )
    parser.add_argument("--replicas", default="1,2,4")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", help="Write the numbers here, too.")
    parser.add_argument("--model", action="store_true")
    parser.add_argument("--write", action="store_true", help="The model.")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args(given)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if arguments.one:
        serve(arguments)
    elif arguments.model:
        text = collectives.PAGE.read_text()
        traffics = collectives.read_table(text, scaling_model.BATCH)
        table = scaling_model.write_table(traffics)
        print(table)
        if arguments.write:
            collectives.write_block(scaling_model.BLOCK, table)
    else:
        rows = measure(arguments)
        if arguments.json:
            with open(arguments.json, "w") as file:
                json.dump(rows, file, indent=1)


if __name__ == "__main__":
    main()
