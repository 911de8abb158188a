"""Which tests are long: `make check` leaves them out.

`long_tests.txt` names the tests that took longer than LONG when they were last
measured, and the classes whose preparation did. Nobody marks them by hand; a
test that is new or renamed runs in `make check` until all are measured again:

    make test PYTEST_FLAGS=--record-long

Other runs list the tests that take longer than TOO_LONG and are not in it.
"""

import os
import pathlib
import re

import pytest

# Seconds of CPU time, of this process and of those that it has started.
LONG = 0.3
TOO_LONG = 1.5  # Leaves room for a busy machine, and for what runs first.
FILE = pathlib.Path(__file__).with_name("long_tests.txt")

_clock = pytest.StashKey[float]()
_seconds = {}  # By the name of a test, or of a class for its preparation.


def pytest_addoption(parser):
    parser.addoption(
        "--record-long",
        action="store_true",
        help=f"write the names of the long tests to {FILE.name}",
    )


def pytest_collection_modifyitems(items):
    recorded = _read()
    for item in items:
        name = _name(item.nodeid)
        if {name, name.split("::")[0]} & recorded:
            item.add_marker(pytest.mark.long)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    item.stash[_clock] = _cpu_seconds()
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item):
    report = yield
    now = _cpu_seconds()
    # Properties are sent from the processes of xdist to the one that reports.
    report.user_properties.append(("cpu", now - item.stash[_clock]))
    item.stash[_clock] = now
    return report


def pytest_runtest_logreport(report):
    name = _name(report.nodeid)
    if report.when == "setup":
        name = name.split("::")[0]
    seconds = dict(report.user_properties)["cpu"]
    _seconds[name] = max(seconds, _seconds.get(name, 0))


def pytest_terminal_summary(terminalreporter, config):
    if config.getoption("record_long"):
        names = sorted(name for name in _seconds if _seconds[name] > LONG)
        FILE.write_text("".join(f"{name}\n" for name in names))
        return
    recorded = _read()
    for name, seconds in sorted(_seconds.items()):
        if seconds > TOO_LONG and not {name, name.split("::")[0]} & recorded:
            terminalreporter.write_line(
                f"{name} takes {seconds:.1f} s, and is not in {FILE.name}."
            )


def _read():
    return set(FILE.read_text().split())


def _name(nodeid):
    """`Class::test`: no file, which may move, and no parameters."""
    name = nodeid.split("::", 1)[-1]
    return re.sub(r"(\d+|\[.*\])$", "", name)


def _cpu_seconds():
    times = os.times()
    return (
        times.user + times.system + times.children_user + times.children_system
    )
