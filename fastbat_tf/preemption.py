"""SIGTERM: a cluster takes the machine back, and the run is to go on later."""

import contextlib
import os
import signal
import socket
import threading

EXIT_STATUS = 128 + signal.SIGTERM  # 143, as shells report it.
GRACE_SECONDS = 25.0  # Clusters kill after 30.


class Preempted(SystemExit):
    """Ends the process with status 143; raised where SIGTERM arrives."""

    def __init__(self):
        super().__init__(EXIT_STATUS)


class Preemption:
    """Turns SIGTERM into `Preempted`, at a moment when all is consistent.

    Inside `deferred`, the exception waits for the end of the block. A call of
    TensorFlow that lasts too long for that, such as a compilation, cannot be
    interrupted: after 25 seconds the process ends without it, and the last
    checkpoint counts.

    Example:

    ```python
    with Preemption() as preemption:
        try:
            with preemption.deferred():
                step()
        except Preempted:
            save()
            raise
    ```
    """

    def __init__(self):
        self._requested = False
        self._raised = False
        self._deferred = False
        self._deadline = threading.Timer(GRACE_SECONDS, os._exit, [EXIT_STATUS])
        self._deadline.daemon = True

    def __enter__(self):
        self._is_main = threading.current_thread() is threading.main_thread()
        if not self._is_main:  # Python handles signals in the main thread.
            return self
        self._before = signal.signal(signal.SIGTERM, self._handle)
        # Python's handlers wait for the call of TensorFlow that is running;
        # a byte on this pipe does not.
        self._reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)
        self._fd_before = signal.set_wakeup_fd(self._writer.fileno())
        threading.Thread(target=self._watch, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._deadline.cancel()
        if self._is_main:
            signal.set_wakeup_fd(self._fd_before)
            signal.signal(signal.SIGTERM, self._before)
            self._writer.close()

    @contextlib.contextmanager
    def deferred(self):
        """A block that SIGTERM does not interrupt, but ends."""
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False
        if self._requested:
            raise Preempted

    @contextlib.contextmanager
    def interruptible(self):
        """A block that SIGTERM ends at once, whatever it interrupts.

        Inside of TensorFlow's C++ the exception may come out as another one.
        """
        try:
            yield
        except Exception as error:
            if self._raised:
                raise Preempted from error
            raise

    def _handle(self, *_):
        # A second signal must not interrupt what the first one set off.
        first, self._requested = not self._requested, True
        if first and not self._deferred:
            self._raised = True
            raise Preempted

    def _watch(self):
        while received := self._reader.recv(1):
            if received[0] == signal.SIGTERM and not self._deadline.ident:
                self._deadline.start()
        self._reader.close()
