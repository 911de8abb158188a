"""SIGTERM and SIGINT: end the run now, so that it can resume later.

SIGTERM comes from a cluster that takes the machine back, SIGINT from Ctrl-C.
"""

import contextlib
import os
import signal
import socket
import sys
import threading
import time

from fastbat_tf.runtime import display

SIGNALS = (signal.SIGTERM, signal.SIGINT)
GRACE_SECONDS = 25.0  # Clusters kill after 30.
PATIENCE_SECONDS = 1.0  # After Ctrl-C, until a line says that it is stopping.


class Preempted(SystemExit):
    """Raised when a signal arrives; ends the process with its status.

    The status is 143 for SIGTERM and 130 for SIGINT, as shells report them.

    Args:
        number: The signal. Defaults to `signal.SIGTERM`.
    """

    def __init__(self, number=signal.SIGTERM):
        super().__init__(128 + number)
        self.number = number
        self.is_told = False


class Preemption:
    """Turns SIGTERM and Ctrl-C into `Preempted`, in a consistent state.

    Inside `deferred`, the exception waits for the end of the block. A long
    TensorFlow call, such as a compilation, cannot be interrupted: after 25
    seconds, or at the second Ctrl-C, the process ends without waiting for it,
    and the run resumes from the last checkpoint.

    Args:
        tells: Boolean, whether the display says at the end how to resume.
            Defaults to `False`.

    Example:

    ```python
    with Preemption() as preemption:
        try:
            with preemption.deferred():
                robust.train_on_batch(images, labels)
        except Preempted:
            robust.save("interrupted.keras")
            raise
    ```
    """

    def __init__(self, tells=False):
        self._tells = tells
        self._requested = None  # The number of the signal that came first.
        self._raised = False
        self._deferred = False
        self._held = False
        self._expendable = False
        self._over = threading.Event()
        self._own = 0  # The number of signals that this object has sent.

    def __enter__(self):
        self._is_main = threading.current_thread() is threading.main_thread()
        if not self._is_main:  # Python handles signals in the main thread.
            return self
        self._before = {
            number: signal.signal(number, self._handle)
            for number in filter(_is_heard, SIGNALS)
        }
        self._hook, sys.unraisablehook = sys.unraisablehook, self._look_after
        # Python's handlers wait until TensorFlow returns; a byte on this pipe
        # does not.
        self._reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)
        self._fd_before = signal.set_wakeup_fd(self._writer.fileno())
        threading.Thread(target=self._watch, daemon=True).start()
        return self

    def __exit__(self, kind, error, trace):
        self._over.set()
        if self._is_main:
            signal.set_wakeup_fd(self._fd_before)
            for number, before in self._before.items():
                signal.signal(number, before)
            sys.unraisablehook = self._hook
            self._writer.close()
        if self._tells and isinstance(error, Preempted) and not error.is_told:
            error.is_told = True
            display.current().end(farewell(error.number))

    @contextlib.contextmanager
    def deferred(self):
        """Delays `Preempted` to the end of a `with` block."""
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False
        if self._requested and not self._held:
            raise Preempted(self._requested)

    @property
    def requested(self):
        """The number of the signal that came first, or 0."""
        return self._requested or 0

    @contextlib.contextmanager
    def held(self, is_held=True):
        """Delays `Preempted` to the end of a `with` block, or of the process.

        Inside, only `interruptible` raises it. The caller reads `requested`
        when it suits all workers.

        Args:
            is_held: Boolean; if false, the block has no effect. Defaults to
                `True`.
        """
        self._held = is_held
        try:
            yield
        finally:
            self._held = False
        if is_held and self._requested:
            raise Preempted(self._requested)

    @contextlib.contextmanager
    def expendable(self, is_expendable=True):
        """Lets a signal end the process at once inside a `with` block.

        Use it for long work that would add nothing to the last checkpoint,
        such as a compilation.

        Args:
            is_expendable: Boolean; if false, the block has no effect. Defaults
                to `True`.
        """
        self._expendable = is_expendable
        try:
            if is_expendable and self._requested:
                raise Preempted(self._requested)
            yield
        finally:
            self._expendable = False

    @contextlib.contextmanager
    def interruptible(self):
        """Lets signals interrupt a `with` block at once.

        TensorFlow's C++ may turn the exception into another one. The block
        still raises `Preempted`.
        """
        held, self._held = self._held, False
        try:
            if held and self._requested:
                raise Preempted(self._requested)
            yield
        except Exception as error:
            if self._raised:
                raise Preempted(self._requested) from error
            raise
        finally:
            self._held = held

    def _handle(self, number, _):
        # A second signal must not interrupt the handling of the first.
        first, self._requested = not self._requested, self._requested or number
        if first and not (self._deferred or self._held):
            self._raised = True
            raise Preempted(number)

    def _look_after(self, lost):
        """Raises `Preempted` again where Python could only print it."""
        if not isinstance(lost.exc_value, Preempted):
            self._hook(lost)
            return

        def raise_again():
            if not self._over.is_set():
                self._requested, self._own = None, self._own + 1
                main = threading.main_thread().ident
                signal.pthread_kill(main, lost.exc_value.number)

        threading.Timer(0.05, raise_again).start()

    def _watch(self):
        """Receives signals at once, even while the main thread is busy."""
        seen = []
        while received := self._reader.recv(1):
            if received[0] not in SIGNALS:
                continue
            number = signal.Signals(received[0])
            if self._own:
                self._own -= 1
                continue
            if self._expendable or (
                number == signal.SIGINT and seen.count(number)
            ):
                self._end(number)
            if not seen:
                threading.Thread(
                    target=self._wait, args=[number], daemon=True
                ).start()
            seen.append(number)
        self._reader.close()

    def _wait(self, number):
        """Ends the process if the main thread does not end it in time."""
        end = time.monotonic() + GRACE_SECONDS
        if number == signal.SIGINT and not self._over.wait(PATIENCE_SECONDS):
            if self._tells:
                display.log("Stopping ... Ctrl-C again stops at once.")
        if not self._over.wait(end - time.monotonic()):
            self._end(number)

    def _end(self, number):
        """Ends the process without waiting for the main thread."""
        status = 128 + number
        # The main thread may hold a lock that the display waits for.
        threading.Timer(2.0, os._exit, [status]).start()
        if self._tells and not self._over.is_set():
            display.current().end(farewell(number))
        os._exit(status)


@contextlib.contextmanager
def ended_at_once():
    """Lets Ctrl-C end the process at once inside a `with` block.

    An active `Preemption` takes precedence.
    """

    def end(number, _):
        display.say(farewell(number))
        os._exit(128 + number)

    if not _is_heard(signal.SIGINT):
        yield
        return
    signal.signal(signal.SIGINT, end)
    try:
        yield
    finally:  # Only the shutdown of the interpreter is left.
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def _is_heard(number):
    """Returns whether a signal is not ignored; shells ignore some with `&`."""
    return signal.getsignal(number) != signal.SIG_IGN


def farewell(number):
    """Returns the last line to print after a signal."""
    if number == signal.SIGINT:
        return "Stopped by Ctrl-C; run the same command to resume."
    return "Ended by SIGTERM; run the same command to resume."
