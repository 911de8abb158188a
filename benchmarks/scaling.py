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
import math
import os
import statistics
import subprocess
import sys
import time
from typing import Any, NamedTuple

from benchmarks import collectives

BLOCK = "expected efficiency"
IMAGE_SHAPE = collectives.IMAGE_SHAPE


class Network(NamedTuple):
    """What connects the GPUs of hosts, with NCCL's own latencies.

    Attributes:
        name: String.
        between_hosts: Float, bytes per second that leave a host.
        within_host: Float, bytes per second that leave a GPU by NVLink.
            Defaults to 450 GB/s, an H100's.
        reached: Float, the share of these rates that is reached. Defaults to
            0.8.
        gpus_per_host: Integer. Defaults to 8.
        gathered_within_host: Float, bytes per second of a gather, which
            TensorFlow does not leave to NCCL. Defaults to 50 GB/s, PCIe's.
        gathered_between_hosts: Float, bytes per second of a gather by gRPC.
            Defaults to 1 GB/s.
    """

    name: str
    between_hosts: float
    within_host: float = 450e9
    reached: float = 0.8
    gpus_per_host: int = 8
    gathered_within_host: float = 50e9
    gathered_between_hosts: float = 1e9


class Step(NamedTuple):
    """A step of one GPU, as it was measured.

    Attributes:
        alone: Float, its seconds on a machine with one GPU.
        replicated: Float, its seconds as one of several replicas, without the
            exchange.
        batch: Integer, the number of images.
        fixed: Float, the share of its time that does not depend on the number
            of images.
    """

    alone: float
    replicated: float
    batch: int
    fixed: float


# PreActResNet-18 of width 64 on an H100, with XLA: docs/xla.md. On several
# replicas, the optimizer's update is outside of XLA. The fixed share is between
# a fifth and a third, the time in which the GPU was idle.
BATCH = 128
STANDARD = Step(alone=7.1e-3, replicated=9.1e-3, batch=BATCH, fixed=0.25)
FAST_BAT = Step(alone=24.1e-3, replicated=28.0e-3, batch=BATCH, fixed=0.25)
STEPS = {
    "standard": STANDARD,
    "fastbat": FAST_BAT,
    "fastbat-remembered": FAST_BAT,
}
NETWORKS = (
    Network("8 x 400 Gb/s a host", 400e9),
    Network("1 x 400 Gb/s a host", 50e9),
)
GPUS = (8, 64, 512)

# Seconds to start a sum, and of a hop in a ring and in a tree: those of the
# protocol "Simple" in NCCL's own model of its speed, src/graph/tuning.cc.
START = 8.4e-6
RING_HOPS = {"within": 3.4e-6, "between": 14.0e-6}
TREE_HOPS = {"within": 4.0e-6, "between": 14.0e-6}
# Assumed: seconds of a hop of TensorFlow's gather, a remote procedure call.
CALL = 100e-6


def all_reduce_seconds(size: float, gpus: int, network: Network) -> float:
    """Seconds of a sum over GPUs, by a ring or a tree, whichever is faster.

    Args:
        size: Float, bytes.
        gpus: Integer, the number of GPUs; whole hosts, or a part of one.
        network: A `Network`.
    """
    hosts = math.ceil(gpus / network.gpus_per_host)
    if gpus == 1:
        return 0.0
    rate = network.within_host
    if hosts > 1:
        rate = min(rate, network.between_hosts)
    rate *= network.reached
    crossings = 2 * (hosts - 1)
    ring = (
        2 * (gpus - 1) / gpus * size / rate
        + (2 * (gpus - 1) - crossings) * RING_HOPS["within"]
        + crossings * RING_HOPS["between"]
    )
    tree = 2 * size / rate + 2 * (
        (gpus / hosts - 1) * TREE_HOPS["within"]
        + math.log2(hosts) * TREE_HOPS["between"]
    )
    return START + min(ring, tree)


def all_gather_seconds(size: float, gpus: int, network: Network) -> float:
    """Seconds in which every GPU receives what all the others give.

    Args:
        size: Float, bytes that one GPU gives.
        gpus: Integer, the number of GPUs.
        network: A `Network`.
    """
    rate = network.gathered_within_host
    if gpus > network.gpus_per_host:
        rate = network.gathered_between_hosts
    return (gpus - 1) * (size / rate + CALL)


def exchange_seconds(
    traffic: collectives.Traffic, gpus: int, network: Network
) -> float:
    """Seconds in which the GPUs exchange what a step needs.

    Args:
        traffic: The `Traffic` of one GPU.
        gpus: Integer, the number of GPUs.
        network: A `Network`.
    """
    seconds = 0.0
    if traffic.reductions:
        size = traffic.reduced / traffic.reductions
        seconds += traffic.reductions * all_reduce_seconds(size, gpus, network)
    if traffic.gathers:
        size = traffic.gathered / traffic.gathers
        seconds += traffic.gathers * all_gather_seconds(size, gpus, network)
    return seconds


def efficiency(
    traffic: collectives.Traffic,
    gpus: int,
    network: Network,
    *,
    step: Step = FAST_BAT,
    batch: int | None = None,
) -> float:
    """The speed-up over one GPU, divided by the number of GPUs.

    Nothing is exchanged while the GPUs compute.

    Args:
        traffic: The `Traffic` of one GPU at the batch of `step`.
        gpus: Integer, the number of GPUs.
        network: A `Network`.
        step: A `Step`. Defaults to Fast-BAT's on an H100.
        batch: Integer, images of one GPU. Defaults to those of `step`, for
            weak scaling.
    """
    part = 1.0 if batch is None else batch / step.batch
    traffic = traffic._replace(gathered=traffic.gathered * part)
    seconds = step.replicated * (step.fixed + (1 - step.fixed) * part)
    seconds += exchange_seconds(traffic, gpus, network)
    return part * step.alone / seconds


def read_traffic(text: str, batch: int) -> dict[str, collectives.Traffic]:
    """Reads the bytes that the methods exchange from the page's table.

    Args:
        text: String, the page.
        batch: Integer, the number of images of one replica.

    Returns:
        Dict of `Traffic`s by the names of the methods.
    """
    _, _, rest = text.partition(f"<!-- begin: {collectives.BLOCK} -->")
    rows, _, _ = rest.partition(f"<!-- end: {collectives.BLOCK} -->")
    return dict(
        collectives.read_row(row, batch)
        for row in rows.splitlines()
        if row.startswith("| `")
    )


def write_model(traffics: dict[str, collectives.Traffic]) -> str:
    """Writes the table of the expected efficiencies.

    Args:
        traffics: Dict of `Traffic`s at a batch of 128 images, by the names of
            the methods.
    """
    heads = [f"{n} GPUs, {network.name}" for network in NETWORKS for n in GPUS]
    rows = [
        f"| method, images a GPU | {' | '.join(heads)} |",
        "|---|" + "---|" * len(heads),
    ]
    whole = BATCH * GPUS[0]
    for name, step in STEPS.items():
        for images in (str(BATCH), f"{whole} / GPUs"):
            shares = [
                efficiency(
                    traffics[name],
                    gpus,
                    network,
                    step=step,
                    batch=BATCH if images == str(BATCH) else whole // gpus,
                )
                for network in NETWORKS
                for gpus in GPUS
            ]
            cells = " | ".join(f"{100 * share:.0f} %" for share in shares)
            rows.append(f"| `{name}`, {images} | {cells} |")
    return "\n".join(rows)


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


def summarize(
    replicas: int, first: float, times: list[tuple[float, float]]
) -> dict[str, Any]:
    """Summarizes the times of a number of replicas.

    Args:
        replicas: Integer.
        first: Float, seconds of the first step, with its tracing.
        times: List of pairs, seconds of the clock and of the CPU.
    """
    return {
        "replicas": replicas,
        "first_seconds": first,
        "median_seconds": statistics.median(wall for wall, _ in times),
        "median_cpu_seconds": statistics.median(cpu for _, cpu in times),
        "seconds": times,
    }


def share_not_computation(seconds: float, replicas: int, one: float) -> float:
    """The share of a step that is not computation.

    Args:
        seconds: Float, CPU seconds of a step on all replicas.
        replicas: Integer, the number of replicas.
        one: Float, CPU seconds of a step of one device on the images of one
            replica.
    """
    return 1 - replicas * one / seconds


def measure(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Times the replicas, which take turns; prints and returns the rows."""
    counts = sorted({1, *map(int, arguments.replicas.split(","))})
    passed = [
        f"--{name}={getattr(arguments, name)}"
        for name in ("method", "width", "batch_size")
    ]
    servers = {count: Server(count, passed) for count in counts}
    first = {count: server.ask()[0] for count, server in servers.items()}
    times: dict[int, list] = {count: [] for count in counts}
    for _ in range(arguments.rounds):
        for count, server in servers.items():
            times[count].append(server.ask())
    for server in servers.values():
        server.stop()
    rows = [summarize(n, first[n], times[n]) for n in counts]
    one = rows[0]["median_cpu_seconds"]
    print("| replicas | step (s) | CPU (s) | not computation |")
    print("|---|---|---|---|")
    for row in rows:
        cpu = row["median_cpu_seconds"]
        share = share_not_computation(cpu, row["replicas"], one)
        row["share_not_computation"] = share
        row |= {"method": arguments.method, "width": arguments.width}
        row["batch_size"] = arguments.batch_size
        print(
            f"| {row['replicas']} | {row['median_seconds']:.3f} | {cpu:.3f} | "
            f"{100 * share:.1f} % |"
        )
    return rows


def main() -> None:
    """Runs the command."""
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
    arguments = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if arguments.one:
        serve(arguments)
    elif arguments.model:
        text = collectives.PAGE.read_text()
        table = write_model(read_traffic(text, BATCH))
        print(table)
        if arguments.write:
            collectives.write_block(BLOCK, table)
    else:
        rows = measure(arguments)
        if arguments.json:
            with open(arguments.json, "w") as file:
                json.dump(rows, file, indent=1)


if __name__ == "__main__":
    main()
