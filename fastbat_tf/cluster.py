"""The hosts of a training, as the environment describes them.

`TF_CONFIG` is TensorFlow's own variable; under Slurm, `srun` sets the others.
This module does not import TensorFlow, so a wrong variable is refused at once.
"""

import json
import os
import socket
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from fastbat_tf.errors import InputError, WorkerLostError

VARIABLE = "TF_CONFIG"
# MultiWorkerMirroredStrategy knows these; the chief is the first of its job.
JOBS = ("chief", "worker")
MULTIWORKER = "multiworker"
SECONDS_BETWEEN_TRIES = 0.1
GREETING, START = b"fastbat_tf %d\n", b"fastbat_tf start\n"


class Cluster(NamedTuple):
    """The workers of a training.

    Attributes:
        source: String, `"TF_CONFIG"` or `"Slurm"`.
        count: Integer, the number of workers.
        index: Integer, the number of this worker; the chief is 0.
    """

    source: str
    count: int
    index: int


def find(environment: Mapping[str, str] | None = None) -> Cluster | None:
    """Finds the cluster that this process belongs to.

    Args:
        environment: Mapping of the variables. Defaults to None: `os.environ`.

    Returns:
        A `Cluster`, or None if `TF_CONFIG` has no cluster and `srun` has
        started no more than one task.

    Raises:
        InputError: If `TF_CONFIG` is not as expected.
    """
    variables = os.environ if environment is None else environment
    if variables.get(VARIABLE, "").strip():
        return _from_tf_config(variables[VARIABLE])
    # The number of tasks of this `srun`, not of the whole allocation.
    tasks = int(variables.get("SLURM_STEP_NUM_TASKS") or 1)
    if tasks > 1 and "SLURM_PROCID" in variables:
        return Cluster("Slurm", tasks, int(variables["SLURM_PROCID"]))
    return None


def check(
    strategy: str, environment: Mapping[str, str] | None = None
) -> Cluster | None:
    """Finds the cluster that a strategy uses.

    Args:
        strategy: String, the setting `strategy`.
        environment: See `find`. Defaults to None.

    Returns:
        A `Cluster`, or None if the strategy has one process.

    Raises:
        InputError: If `TF_CONFIG` is not as expected, or if the strategy is
            `"multiworker"` and there is no cluster, or if it is one for a
            single host and there are several.
    """
    found = find(environment)
    if strategy == MULTIWORKER and found is None:
        raise InputError(
            "--strategy=multiworker expects TF_CONFIG with a cluster, or a "
            "start by Slurm's srun with several tasks. Received: strategy="
            "multiworker, TF_CONFIG="
            + (os.environ if environment is None else environment).get(
                VARIABLE, "(not set)"
            )
        )
    if found is None or found.count == 1 and strategy != MULTIWORKER:
        return None
    if strategy not in ("auto", MULTIWORKER):
        raise InputError(
            f"{found.source} describes {found.count} workers, each of which "
            "would train alone; expected --strategy=auto or multiworker. "
            f"Received: strategy={strategy}"
        )
    return found


def _from_tf_config(text):
    try:
        content = json.loads(text)
    except ValueError as error:
        raise _refusal("JSON", f"{text} ({error})") from None
    if not isinstance(content, dict):
        raise _refusal("a JSON object", text)
    jobs = content.get("cluster")
    if not jobs:
        return None
    addresses = _check_jobs(jobs)
    task = content.get("task")
    if not isinstance(task, dict) or not {"type", "index"} <= task.keys():
        raise _refusal('a "task" with "type" and "index"', f"task={task}")
    kind, index = task["type"], task["index"]
    if kind not in jobs:
        raise _refusal(
            f"a task of a type in its cluster ({', '.join(jobs)})",
            f"type={kind}",
        )
    try:
        index = int(index)
    except (TypeError, ValueError):
        index = -1
    if not 0 <= index < len(jobs[kind]):
        raise _refusal(
            f"an index in [0, {len(jobs[kind])}) of the job {kind}",
            f"index={task['index']}",
        )
    before = len(jobs.get("chief", ())) if kind == "worker" else 0
    return Cluster(VARIABLE, len(addresses), before + index)


def _check_jobs(jobs):
    """Returns all addresses of a cluster."""
    known = f"a cluster of the jobs {' and '.join(JOBS)}"
    if not isinstance(jobs, dict) or not jobs.keys() <= set(JOBS):
        raise _refusal(known, f"cluster={json.dumps(jobs)}")
    if len(jobs.get("chief", ())) > 1:
        raise _refusal("one chief at most", f"chief={jobs['chief']}")
    addresses = []
    for job, listed in jobs.items():
        if not isinstance(listed, list) or not listed:
            raise _refusal(
                "a list of addresses for each job", f"{job}={listed}"
            )
        addresses += listed
    for address in addresses:
        host, _, port = str(address).rpartition(":")
        if not host or not port.isdigit() or not 0 < int(port) < 1 << 16:
            raise _refusal("addresses host:port", f"address={address}")
    if len(set(addresses)) < len(addresses):
        raise _refusal("different addresses", f"cluster={json.dumps(jobs)}")
    return addresses


def _refusal(expected, received):
    return InputError(
        f"The environment variable TF_CONFIG is expected to hold {expected}. "
        f"Received: {received}"
    )


def check_slurm_host(
    address: str, index: int, environment: Mapping[str, str] | None = None
) -> None:
    """Refuses a numbering of Slurm's tasks that goes from host to host.

    Args:
        address: String `host:port`, where this task is expected.
        index: Integer, Slurm's number of this task.
        environment: See `find`. Defaults to None.

    Raises:
        InputError: If this task runs on another host.
    """
    variables = os.environ if environment is None else environment
    host = address.rpartition(":")[0]
    actual = variables.get("SLURMD_NODENAME", host)
    if actual != host:
        raise InputError(
            "Slurm's tasks are expected to be numbered host by host, as with "
            f"srun --distribution=block: task {index} on {host}. Received: "
            f"SLURMD_NODENAME={actual}"
        )


def check_own_gpus(
    addresses: Sequence[str],
    index: int,
    gpus: int,
    environment: Mapping[str, str] | None = None,
) -> None:
    """Refuses workers of one host that would take the same GPUs.

    Args:
        addresses: Sequence of strings `host:port`, the addresses of all
            workers.
        index: Integer, the number of this worker.
        gpus: Integer, the number of GPUs that this worker sees.
        environment: See `find`. Defaults to None.

    Raises:
        InputError: If the workers of this host see more GPUs together than it
            has.
    """
    variables = os.environ if environment is None else environment
    hosts = [address.rpartition(":")[0] for address in addresses]
    count = hosts.count(hosts[index])
    on_host = variables.get("SLURM_GPUS_ON_NODE", "")
    if on_host.isdigit():
        available = int(on_host)
    elif "CUDA_VISIBLE_DEVICES" in variables:
        return  # What the others see is not known here.
    else:
        available = gpus  # It sees them all.
    if count > 1 and count * gpus > available:
        raise InputError(
            f"Each of the {count} workers on {hosts[index]} is expected to see "
            "GPUs of its own only, by Slurm's --gpus-per-task or by "
            "CUDA_VISIBLE_DEVICES. "
            f"Received: {gpus} of {available} GPUs for each worker"
        )


def wait_for_all(address: str, cluster: Cluster, seconds: float) -> None:
    """Waits until all workers are up.

    TensorFlow would wait for them without an end, and without hearing Ctrl-C.
    The others connect to the address of the chief, which only then becomes
    TensorFlow's.

    Args:
        address: String `host:port`, the address of the chief.
        cluster: The `Cluster`, with the number of this worker.
        seconds: Float, how long to wait.

    Raises:
        WorkerLostError: If workers are missing after this time.
    """
    end = time.monotonic() + seconds
    host, _, port = address.rpartition(":")
    if cluster.index:
        _report(host.strip("[]"), int(port), cluster, end)
    else:
        _welcome(int(port), cluster, end)


def _welcome(port, cluster, end):
    """Waits, as the chief, for a connection of each worker."""
    arrived: dict[int, socket.socket] = {}
    with _listen(port, end) as server:
        while len(arrived) < cluster.count - 1:
            if time.monotonic() > end:
                missing = set(range(1, cluster.count)) - arrived.keys()
                names = ", ".join(map(str, sorted(missing)))
                raise _missing(cluster, f"no sign of worker {names}")
            try:
                connection = server.accept()[0]
            except TimeoutError:
                continue
            index = _greeting(connection)
            if index is None:
                connection.close()
            else:  # A worker that was started again comes twice.
                arrived[index] = connection
    for connection in arrived.values():
        connection.sendall(START)
    for connection in arrived.values():
        connection.settimeout(5)
        with connection:  # Closed by the worker first: the port is free.
            connection.recv(1)


def _listen(port, end):
    while True:
        try:
            server = socket.create_server(("", port))
        except OSError as error:
            # The last run may be about to end.
            if time.monotonic() > end:
                raise InputError(
                    "The chief is expected to find its port free. "
                    f"Received: port={port} ({error.strerror})"
                ) from error
            time.sleep(SECONDS_BETWEEN_TRIES)
        else:
            server.settimeout(SECONDS_BETWEEN_TRIES)
            return server


def _greeting(connection):
    """Reads the number of a worker; None from anything else."""
    prefix = GREETING.split(b"%")[0]
    connection.settimeout(5)
    try:
        with connection.makefile("rb") as lines:
            line = lines.readline(100)
    except OSError:
        return None
    if not line.startswith(prefix):
        return None
    return int(line[len(prefix) :])


def _report(host, port, cluster, end):
    """Tells the chief that this worker is up, and waits for the others."""
    received = None
    while True:
        left = end - time.monotonic()
        if left < 0:
            raise _missing(cluster, received)
        received = f"no answer from the chief at {host}:{port}"
        try:
            with socket.create_connection((host, port), timeout=left) as chief:
                chief.sendall(GREETING % cluster.index)
                received = f"the chief at {host}:{port} waits for others"
                with chief.makefile("rb") as lines:
                    if lines.readline(100) == START:
                        return
        except OSError:  # The chief is not up yet.
            pass
        time.sleep(SECONDS_BETWEEN_TRIES)


def _missing(cluster, received):
    return WorkerLostError(
        f"Not all of the {cluster.count} workers have come up within "
        "`collective_timeout`; expected the same command on each host. "
        f"Received: {received}"
    )
