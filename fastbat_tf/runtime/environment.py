"""The environment of TensorFlow, which this module does not import."""

import contextlib
import ctypes
import os
import pathlib
import platform
import shutil
import tempfile

# Written by the driver's kernel module, and also visible in containers.
DRIVER_FILE = pathlib.Path("/proc/driver/nvidia/version")
DEVICES = pathlib.Path("/dev")
ONEDNN = "TF_ENABLE_ONEDNN_OPTS"

_messages = []


def is_x86():
    """Whether the processor is x86, for which oneDNN was measured."""
    return platform.machine().lower() in ("x86_64", "amd64")


def enable_onednn():
    """Turns on oneDNN, unless the user has set `TF_ENABLE_ONEDNN_OPTS`.

    TensorFlow leaves these faster convolutions off on x86 processors without
    AVX-512 VNNI, AVX-VNNI, AVX-512 BF16 or AMX. It reads the variable once, so
    call this before importing TensorFlow. docs/onednn.md has measured times.
    """
    if is_x86():
        os.environ.setdefault(ONEDNN, "1")


@contextlib.contextmanager
def silent_start():
    """Captures what TensorFlow's C++ prints while it is imported.

    `start_messages` returns it. If the user has set `TF_CPP_MIN_LOG_LEVEL`,
    nothing is captured.
    """
    if "TF_CPP_MIN_LOG_LEVEL" in os.environ:
        yield
        return
    with captured_errors() as read:
        try:
            yield
        finally:
            _messages.append(read())


@contextlib.contextmanager
def captured_errors():
    """Captures what C++ prints to the standard error.

    Yields:
        A function without arguments that returns it, as a string.
    """
    with _scratch_file() as file:

        def read():
            file.seek(0)
            return file.read().decode(errors="replace")

        stderr = os.dup(2)
        os.dup2(file.fileno(), 2)
        try:
            yield read
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)


def hide_errors():
    """Hides the error lines of TensorFlow's C++, unless the user has asked.

    If a worker ends, C++ prints a page in each of the others, before the line
    with which they end. TensorFlow reads the variable once, so call this before
    importing it.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def _scratch_file():
    try:
        return tempfile.TemporaryFile()
    except OSError:  # The disk is full: the messages are dropped.
        return open(os.devnull, "w+b")


def start_messages():
    """Returns what `silent_start` has captured, or an empty string."""
    return "".join(_messages)


def has_nvidia_gpu():
    """Whether the machine has an NVIDIA driver.

    The driver's library counts only if it finds a GPU, because CUDA's container
    images also have it on machines without one.
    """
    return (
        DRIVER_FILE.exists()
        or shutil.which("nvidia-smi") is not None
        or _count_gpus() > 0
    )


def _count_gpus():
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int()
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)):
        return 0
    return count.value


def hides_gpus():
    """Whether the user has hidden all GPUs with `CUDA_VISIBLE_DEVICES`."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    # CUDA reads the list up to the first entry that is not a GPU.
    return visible is not None and visible.split(",")[0].strip() in ("", "-1")
