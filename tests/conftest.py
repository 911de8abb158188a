"""Which tests are long, and which cases of a parametrized test are quick.

A test that is marked `quick` names those of its cases that `make test` runs:

    @parameterized.product(method=("pgd", "trades"), jit_compile=(False, True))
    @pytest.mark.quick("pgd True", "trades False")

A case is one of them if it has that name or, without a name, if all of these
words are among its arguments. The others are marked `slow`.

`long_tests.txt` names the tests that took longer than LONG when they were last
measured, and the classes whose preparation did. Nobody marks them by hand; a
test that is new or renamed runs in `make check` until all are measured again:

    make test PYTEST_FLAGS=--record-long

Other runs list the tests that take longer than TOO_LONG and are not in it.
"""

import gc
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
    _mark_slow_cases(items)
    for item in items:
        name = _name(item.nodeid)
        if {name, name.split("::")[0]} & recorded:
            item.add_marker(pytest.mark.long)


def pytest_collection_finish(session):
    gc.freeze()  # What is imported stays.


@pytest.fixture(scope="module", autouse=True)
def small_heap():
    """Spares garbage collections what the files before have left.

    After thousands of tests, a full collection took 3 seconds.
    """
    yield
    gc.collect()
    gc.freeze()


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


def _mark_slow_cases(items):
    for item in items:
        mark = item.get_closest_marker("quick")
        if mark is None:
            continue
        stem = item.function.__wrapped__.__name__
        cases = [
            _words(stem, case)
            for case in vars(item.cls).values()
            if stem == getattr(getattr(case, "__wrapped__", 0), "__name__", 0)
        ]
        chosen = [set(name.split()) for name in mark.args]
        for words in chosen:
            if not any(words <= case for case in cases):
                raise pytest.UsageError(
                    f"No case of {item.nodeid} is called {sorted(words)}."
                )
        own = _words(stem, item.function)
        if not any(words <= own for words in chosen):
            item.add_marker(pytest.mark.slow)


def _words(stem, case):
    """The name of a case; or the words of its arguments, if it has none."""
    name = case.__name__.removeprefix(stem).removeprefix("_")
    if name:
        return {name}
    arguments = case.__x_params_repr__
    return {*re.findall(r"\w+", arguments), *re.findall(r"[\w.]+", arguments)}


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
