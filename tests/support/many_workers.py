"""Runs functions, or the program, in the processes of a cluster.

The processes are forks of one that has imported TensorFlow and the program,
which saves seconds for each. They are on this host, at ports of 127.0.0.1.
"""

import contextlib
import json
import multiprocessing
import os
import pathlib
import signal
import socket
import sys
import time
from collections.abc import Callable
from typing import Any

_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload(
    ["tests.support.many_workers", "fastbat_tf.experiment.train", "flags"]
)


class Worker:
    """A process of a cluster.

    Attributes:
        log: Path of the file that gets what it prints.
    """

    def __init__(self, process: Any, log: pathlib.Path) -> None:
        self._process = process
        self.log = log

    @property
    def output(self) -> str:
        return self.log.read_text(errors="replace")

    @property
    def status(self) -> int | None:
        """The exit status; the negative number of a signal; None if it runs."""
        return self._process.exitcode

    def send(self, number: int) -> None:
        os.kill(self._process.pid, number)

    def wait(self, seconds: float) -> int | None:
        self._process.join(seconds)
        return self.status

    def wait_for(self, text: str, seconds: float) -> None:
        """Waits until the worker has printed a text."""
        end = time.monotonic() + seconds
        while text not in self.output:
            if self.status is not None or time.monotonic() > end:
                raise AssertionError(
                    f"No '{text}' (status {self.status}):\n{self.output}"
                )
            time.sleep(0.02)


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [
            stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            for _ in range(count)
        ]
        return [each.getsockname()[1] for each in sockets]


def tf_config(index: int, ports: list[int]) -> str:
    addresses = [f"127.0.0.1:{port}" for port in ports]
    task = {"type": "worker", "index": index}
    return json.dumps({"cluster": {"worker": addresses}, "task": task})


@contextlib.contextmanager
def started(function: Callable, *arguments: tuple, directory: Any = None):
    """Runs a function of a module in one process for each of its arguments.

    At the end of the `with` block, processes that still run are killed.

    Args:
        function: Function that pickle can find.
        *arguments: Tuple of the arguments for each worker.
        directory: Path of the directory for their output.

    Yields:
        A list of `Worker`.
    """
    ports = free_ports(len(arguments))
    running = []
    try:
        for index, given in enumerate(arguments):
            log = pathlib.Path(directory, f"worker{index}.log")
            log.touch()
            environment = {"TF_CONFIG": tf_config(index, ports)}
            process = _forks.Process(
                target=_run, args=(function, given, log, environment)
            )
            process.start()
            running.append(Worker(process, log))
        yield running
    finally:
        for worker in running:
            if worker.status is None:
                worker.send(signal.SIGKILL)
            worker.wait(10)


def _run(function, arguments, log, environment):
    os.environ.update(environment)
    output = os.open(log, os.O_WRONLY | os.O_APPEND)
    for descriptor in (1, 2):
        os.dup2(output, descriptor)
    try:
        function(*arguments)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


def run(
    function: Callable, *arguments: tuple, directory: Any, seconds: float = 300
) -> list[Worker]:
    """Runs a function as `started` does, until all workers have ended."""
    with started(function, *arguments, directory=directory) as running:
        end = time.monotonic() + seconds
        for worker in running:
            if worker.wait(end - time.monotonic()) is None:
                raise AssertionError(
                    "A worker does not end:\n"
                    + "\n---\n".join(each.output for each in running)
                )
    return running


def main(*flags: str) -> None:
    """Runs the program in this process."""
    from flags import command, program

    command.parse(["main.py", *flags])
    program.main(None)
