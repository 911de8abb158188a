"""SIGTERM and Ctrl-C, in processes of their own."""

import pathlib
import signal
import subprocess
import sys
import threading
import time

from absl.testing import absltest

from fastbat_tf.experiment.preemption import Preempted, Preemption

TOP = pathlib.Path(__file__).absolute().parents[2]
HEAD = """
import os, signal, sys, time
from fastbat_tf.experiment import preemption
from fastbat_tf.experiment.preemption import Preempted, Preemption

def say(line):
    print(line, flush=True)

def terminate():
    os.kill(os.getpid(), signal.SIGTERM)

"""


def run(program, timeout=60):
    """Runs a program after `HEAD`: status, printed lines, seconds, errors."""
    start = time.monotonic()
    process = subprocess.run(
        [sys.executable, "-c", HEAD + program],
        cwd=TOP,
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    lines = process.stdout.splitlines()
    return process.returncode, lines, time.monotonic() - start, process.stderr


class PreemptionTest(absltest.TestCase):
    def check(self, program, status, lines):
        """Runs a program; returns its seconds."""
        found, printed, seconds, errors = run(program)
        self.assertEqual((found, printed), (status, lines), errors)
        self.assertEqual(errors, "")
        return seconds

    def test_outside_of_deferred(self):
        program = """
with Preemption():
    try:
        terminate()
        say("not reached")
    except Preempted:
        say("saves")
        raise
"""
        self.check(program, 143, ["saves"])

    def test_wakes_a_sleeping_process(self):
        program = """
with Preemption():
    try:
        say("sleeps")
        time.sleep(50)
    except Preempted:
        say("saves")
        raise
"""
        process = subprocess.Popen(
            [sys.executable, "-c", HEAD + program],
            cwd=TOP,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.assertEqual(process.stdout.readline(), "sleeps\n")
        process.terminate()
        self.assertEqual(process.communicate(timeout=20)[0], "saves\n")
        self.assertEqual(process.returncode, 143)

    def test_inside_of_deferred(self):
        program = """
with Preemption() as preemption:
    with preemption.deferred():
        say("first block")
    try:
        with preemption.deferred():
            terminate()
            say("step ends")
        say("not reached")
    except Preempted:
        say("saves")
        raise
"""
        self.check(program, 143, ["first block", "step ends", "saves"])

    def test_an_error_inside_of_deferred_is_not_hidden(self):
        program = """
try:
    with Preemption() as preemption:
        with preemption.deferred():
            terminate()
            raise ValueError("the error")
except ValueError as error:
    say(error)
"""
        self.check(program, 0, ["the error"])

    def test_exception_that_comes_out_as_another(self):
        program = """
with Preemption() as preemption:
    try:
        with preemption.interruptible():
            try:
                terminate()
            except BaseException:
                raise SystemError("of a library in C++")
    except Preempted:
        say("saves")
        raise
"""
        self.check(program, 143, ["saves"])
        program = """
with Preemption() as preemption:
    try:
        with preemption.interruptible():
            raise SystemError("real")
    except SystemError as error:
        say(error)
"""
        self.check(program, 0, ["real"])

    def test_second_signal_does_not_disturb_the_first(self):
        for where in ("pass", "time.sleep(0)"):
            program = f"""
with Preemption() as preemption:
    try:
        with preemption.deferred():
            terminate()
            terminate()
            say("step ends")
    except Preempted:
        terminate()
        {where}
        say("saves")
        raise
"""
            self.check(program, 143, ["step ends", "saves"])

    def test_a_call_that_blocks_is_ended(self):
        """In a system call that signals do not interrupt, as in TensorFlow."""
        program = """
import ctypes, threading
preemption.GRACE_SECONDS = 2.0
pthread = ctypes.CDLL(None)
lock = ctypes.create_string_buffer(64)
pthread.pthread_mutex_lock(lock)
with Preemption():
    threading.Timer(0.5, terminate).start()
    say("waits")
    pthread.pthread_mutex_lock(lock)  # For ever, and without the GIL.
    say("not reached")
"""
        seconds = self.check(program, 143, ["waits"])
        self.assertBetween(seconds, 2.4, 30)

    def test_a_step_that_blocks_after_the_handler_has_run(self):
        program = """
preemption.GRACE_SECONDS = 1.0
with Preemption() as preemption:
    with preemption.deferred():
        for _ in range(3):
            terminate()  # Python's handler runs at once.
        say("waits")
        time.sleep(50)
        say("not reached")
"""
        seconds = self.check(program, 143, ["waits"])
        self.assertBetween(seconds, 0.9, 30)

    def test_no_end_after_the_block(self):
        program = """
preemption.GRACE_SECONDS = 0.5
try:
    with Preemption():
        terminate()
        say("not reached")
except Preempted:
    say("caught")
time.sleep(1.5)
say("alive")
"""
        self.check(program, 0, ["caught", "alive"])

    def test_handlers_are_restored(self):
        program = """
def mine(*_):
    say("mine")

signal.signal(signal.SIGTERM, mine)
for _ in range(2):
    with Preemption():
        assert signal.getsignal(signal.SIGTERM) is not mine
    terminate()
    assert signal.set_wakeup_fd(-1) == -1
"""
        self.check(program, 0, ["mine", "mine"])

    def test_default_action_is_restored(self):
        program = """
with Preemption():
    pass
terminate()
say("not reached")
"""
        self.check(program, -signal.SIGTERM, [])

    def test_other_signals_go_their_way(self):
        program = """
preemption.GRACE_SECONDS = 0.3
signal.signal(signal.SIGUSR1, lambda *_: say("usr1"))
with Preemption():
    os.kill(os.getpid(), signal.SIGUSR1)
    time.sleep(1)
    say("alive")
"""
        self.check(program, 0, ["usr1", "alive"])

    def test_not_in_the_main_thread(self):
        before = signal.getsignal(signal.SIGTERM)
        found = []

        def work():
            with Preemption() as preemption, preemption.deferred():
                found.append(signal.getsignal(signal.SIGTERM))

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        self.assertEqual(found, [before])
        self.assertEqual(signal.getsignal(signal.SIGTERM), before)

    def test_status(self):
        self.assertEqual(Preempted().code, 143)
        self.assertEqual(Preempted(signal.SIGINT).code, 130)

    def test_interrupted_as_terminated(self):
        program = """
with Preemption() as preemption:
    with preemption.deferred():
        say("first block")
    try:
        with preemption.deferred():
            os.kill(os.getpid(), signal.SIGINT)
            say("step ends")
        say("not reached")
    except Preempted:
        say("saves")
        raise
"""
        self.check(program, 130, ["first block", "step ends", "saves"])
        program = """
with Preemption():
    os.kill(os.getpid(), signal.SIGINT)
    say("not reached")
"""
        self.check(program, 130, [])

    def test_the_second_interrupt_ends_at_once(self):
        program = """
with Preemption() as preemption, preemption.deferred():
    for _ in range(2):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.2)
    time.sleep(50)
    say("not reached")
"""
        self.assertLess(self.check(program, 130, []), 20)

    def test_both_signals(self):
        """The first signal counts; SIGTERM is not a second Ctrl-C."""
        program = """
with Preemption() as preemption, preemption.deferred():
    os.kill(os.getpid(), signal.SIGINT)
    terminate()
    time.sleep(0.5)
    say("step ends")
"""
        self.check(program, 130, ["step ends"])

    def test_expendable(self):
        for number, status in (("SIGTERM", 143), ("SIGINT", 130)):
            program = f"""
with Preemption() as preemption, preemption.deferred():
    with preemption.expendable():
        pass
    with preemption.expendable(False):
        say("begins")
    with preemption.expendable():
        os.kill(os.getpid(), signal.{number})
        time.sleep(50)
"""
            self.check(program, status, ["begins"])

    def test_expendable_after_a_signal(self):
        program = """
with Preemption() as preemption, preemption.deferred():
    terminate()
    with preemption.expendable():
        say("not reached")
"""
        self.check(program, 143, [])

    def test_raised_where_python_can_only_print_it(self):
        for number, status in (("SIGTERM", 143), ("SIGINT", 130)):
            program = f"""
class Collected:
    def __del__(self):
        os.kill(os.getpid(), signal.{number})

with Preemption():
    try:
        Collected()
        time.sleep(50)
    except Preempted:
        say("saves")
        raise
"""
            self.assertLess(self.check(program, status, ["saves"]), 20)

    def test_interrupts_that_are_ignored_stay_so(self):
        """A script starts a command with `&` in this way."""
        program = """
signal.signal(signal.SIGINT, signal.SIG_IGN)
with preemption.ended_at_once(), Preemption():
    os.kill(os.getpid(), signal.SIGINT)
    say("goes on")
assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
"""
        self.check(program, 0, ["goes on"])

    def test_before_the_work(self):
        line = "Stopped by Ctrl-C; run the same command to resume."
        program = """
with preemption.ended_at_once():
    with Preemption():
        pass
    os.kill(os.getpid(), signal.SIGINT)
    say("not reached")
"""
        self.check(program, 130, [line])

    def test_tells_once(self):
        program = """
with Preemption(tells=True), Preemption(tells=True):
    terminate()
"""
        line = "Ended by SIGTERM; run the same command to resume."
        self.check(program, 143, [line])


if __name__ == "__main__":
    absltest.main()
