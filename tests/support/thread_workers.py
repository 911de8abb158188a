"""Workers that are threads of one process, for tests of what they share."""

import collections
import threading
from unittest import mock

import numpy as np

from fastbat_tf import workers

SECONDS = 60  # A test fails rather than waits for ever.


class ThreadWorkers(workers.Workers):
    """One of several workers, each of which is a thread.

    Args:
        index: Integer, the number of the worker.
        count: Integer, the number of workers.
        meeting: The `_Meeting` of all workers.
    """

    def __init__(self, index, count, meeting):
        self.index, self.count = index, count
        self._meeting = meeting
        self._number = 0

    def gather(self, array):
        self._number += 1
        return self._meeting.gather(self._number, self.index, np.array(array))

    def from_chief(self, array):
        return self.gather(0 if array is None else array)[0]


class _Meeting:
    """Where the workers meet."""

    def __init__(self, count):
        self._count = count
        self._said = collections.defaultdict(dict)
        self._change = threading.Condition()
        self._has_left = False

    def gather(self, number, index, array):
        with self._change:
            said = self._said[number]
            said[index] = array
            self._change.notify_all()
            self._change.wait_for(
                lambda: len(said) == self._count or self._has_left, SECONDS
            )
            if len(said) < self._count:
                raise RuntimeError("A worker has left.")
            return [said[each].copy() for each in range(self._count)]

    def leave(self):
        with self._change:
            self._has_left = True
            self._change.notify_all()


def run(count, function):
    """Calls a function on several workers at the same time.

    Args:
        count: Integer, the number of workers.
        function: Function of a `Workers`. While it runs, `workers.of` returns
            these.

    Returns:
        List of what it returned, or raised, on each worker.
    """
    meeting, local = _Meeting(count), threading.local()
    found = [None] * count

    def work(index):
        local.workers = ThreadWorkers(index, count, meeting)
        try:
            found[index] = function(local.workers)
        except BaseException as error:
            found[index] = error
            meeting.leave()

    threads = [
        threading.Thread(target=work, args=(index,)) for index in range(count)
    ]
    with mock.patch.object(workers, "of", lambda strategy: local.workers):
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return found
