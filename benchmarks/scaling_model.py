"""The efficiency to expect of a training on many GPUs.

It is computed from measured times of a step on one GPU, and from the bytes that
the GPUs exchange in a step (`benchmarks.collectives`). `python -m
benchmarks.scaling --model` prints the table.
"""

import math
from typing import NamedTuple

from benchmarks.collectives import Traffic

BLOCK = "expected efficiency"


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
HOST = Network("", math.inf)
EIGHT = Network("8 x 400 Gb/s a host", 400e9)
ONE = Network("1 x 400 Gb/s a host", 50e9)
COLUMNS = ((8, HOST), (64, EIGHT), (512, EIGHT), (64, ONE), (512, ONE))

# Seconds to start a sum, and of a hop in a ring and in a tree: those of the
# protocol "Simple" in NCCL's own model of its speed, src/graph/tuning.cc.
START = 8.4e-6
RING_HOPS = {"within": 3.4e-6, "between": 14.0e-6}
TREE_HOPS = {"within": 4.0e-6, "between": 14.0e-6}
# Assumed for TensorFlow's gather; between hosts, a hop is a call by gRPC.
GATHER_HOPS = {"within": 20e-6, "between": 100e-6}


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
    rate, hop = network.gathered_within_host, GATHER_HOPS["within"]
    if gpus > network.gpus_per_host:
        rate, hop = network.gathered_between_hosts, GATHER_HOPS["between"]
    return (gpus - 1) * (size / rate + hop)


def exchange_seconds(traffic: Traffic, gpus: int, network: Network) -> float:
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
    traffic: Traffic,
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


def write_table(traffics: dict[str, Traffic]) -> str:
    """Writes the table of the expected efficiencies.

    Args:
        traffics: Dict of `Traffic`s at a batch of 128 images, by the names of
            the methods.
    """
    heads = [
        f"{gpus} GPUs" + (f", {network.name}" if network.name else "")
        for gpus, network in COLUMNS
    ]
    rows = [
        f"| method, images | {' | '.join(heads)} |",
        "|---|" + "---|" * len(heads),
    ]
    whole = BATCH * COLUMNS[0][0]
    for name, step in STEPS.items():
        for images in (f"{BATCH} a GPU", f"{whole} in all"):
            shares = [
                efficiency(
                    traffics[name],
                    gpus,
                    network,
                    step=step,
                    batch=whole // gpus if "all" in images else None,
                )
                for gpus, network in COLUMNS
            ]
            cells = " | ".join(f"{100 * share:.0f} %" for share in shares)
            rows.append(f"| `{name}`, {images} | {cells} |")
    return "\n".join(rows)
