"""Why TensorFlow does not use an NVIDIA GPU that is there."""

import ctypes
import pathlib
import re
import sys

import tensorflow as tf

from fastbat_tf.runtime import environment

# Of CUDA 12, the series that TensorFlow 2.21 is built with.
LIBRARIES = (
    "libcudart.so.12",
    "libcublas.so.12",
    "libcufft.so.11",
    "libcusolver.so.11",
    "libcusparse.so.12",
    "libcudnn.so.9",
)
OLDEST_DRIVER = 525
INSTALL = 'pip install "tensorflow[and-cuda]"'


def explain():
    """One line with the reason and the remedy, where TensorFlow has no GPU.

    Returns:
        A string; None if there is no NVIDIA GPU, or if the user has hidden it
        by `CUDA_VISIBLE_DEVICES`.
    """
    if environment.hides_gpus() or not environment.has_nvidia_gpu():
        return None
    reason, remedy = _find_reason()
    return (
        "TensorFlow cannot use the NVIDIA GPU of this machine: "
        f"{reason}. {remedy}."
    )


def _find_reason():
    if not tf.test.is_built_with_cuda():
        if sys.platform == "linux":
            return "it is built without CUDA", f"To use it: {INSTALL}"
        return (
            "it is built without CUDA",
            "TensorFlow has CUDA on Linux, and on Windows in WSL2",
        )
    missing = [name for name in LIBRARIES if not _is_installed(name)]
    if missing:
        return (
            f"CUDA's libraries are missing ({', '.join(missing)})",
            f"To use it: {INSTALL}",
        )
    version = _driver_version()
    if version and int(version.split(".")[0]) < OLDEST_DRIVER:
        return (
            f"its driver {version} is too old for CUDA 12",
            f"Update the driver to {OLDEST_DRIVER} or newer",
        )
    if version and not any(environment.DEVICES.glob("nvidia[0-9]*")):
        return (
            "the driver is there, and no device file such as /dev/nvidia0",
            "Give the container its GPU, as by docker run --gpus=all",
        )
    said = _said_by_tensorflow(environment.start_messages())
    if said:
        return (
            f"TensorFlow says: {said}",
            "Update the driver, or restart the machine if it was updated",
        )
    return (
        "TensorFlow gives no reason here",
        "TF_CPP_MIN_LOG_LEVEL=0 shows what it says at its start",
    )


def _is_installed(library):
    # Where TensorFlow looks first: the packages of its extra `and-cuda`.
    packages = pathlib.Path(tf.__file__).parent.parent
    if any(packages.glob(f"nvidia/*/lib/{library}")):
        return True
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def _driver_version():
    """Such as `"550.54.15"`; None if the kernel does not say."""
    file = environment.DRIVER_FILE
    text = file.read_text() if file.exists() else ""
    found = re.search(r"Kernel Module.*?\s(\d+\.[\d.]+)", text)
    return found and found[1]


def _said_by_tensorflow(messages):
    """The last warning or error about CUDA in its log, without the prefix."""
    lines = re.findall(
        r"^(?:[WE]\d|\S+ \S+: [WE] ).*?\w*(?:cuda|gpu)\w*\.cc:\d+\] (.+)$",
        messages,
        re.MULTILINE,
    )
    return lines[-1].strip().rstrip(".") if lines else None
