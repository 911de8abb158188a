"""Explains why TensorFlow does not use the NVIDIA GPU of the machine."""

import ctypes
import pathlib
import re
import sys

import tensorflow as tf

from fastbat_tf.runtime import environment

# The libraries of CUDA 12, with which TensorFlow 2.21 is built.
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
    """Returns a line with the reason and the remedy.

    Call it only if TensorFlow has no GPU.

    Returns:
        A string, or None if there is no NVIDIA GPU or the user has hidden it
        with `CUDA_VISIBLE_DEVICES`.
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
            "TensorFlow supports CUDA on Linux, and on Windows in WSL2",
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
            "there is a driver, but no device file such as /dev/nvidia0",
            "Give the container access to it, as docker run --gpus=all does",
        )
    said = _said_by_tensorflow(environment.start_messages())
    if said:
        return (
            f"TensorFlow says: {said}",
            "Update the driver, or restart the machine if it was updated",
        )
    return (
        "TensorFlow gives no reason",
        "TF_CPP_MIN_LOG_LEVEL=0 shows its messages at the start",
    )


def _is_installed(library):
    # TensorFlow first looks into the packages of its extra `and-cuda`.
    packages = pathlib.Path(tf.__file__).parent.parent
    if any(packages.glob(f"nvidia/*/lib/{library}")):
        return True
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def _driver_version():
    """Returns a version such as `"550.54.15"`, or None without a driver."""
    file = environment.DRIVER_FILE
    text = file.read_text() if file.exists() else ""
    found = re.search(r"Kernel Module.*?\s(\d+\.[\d.]+)", text)
    return found and found[1]


def _said_by_tensorflow(messages):
    """Returns the last warning or error about CUDA, without its prefix."""
    lines = re.findall(
        r"^(?:[WE]\d|\S+ \S+: [WE] ).*?\w*(?:cuda|gpu)\w*\.cc:\d+\] (.+)$",
        messages,
        re.MULTILINE,
    )
    return lines[-1].strip().rstrip(".") if lines else None
