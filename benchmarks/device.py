"""Names the device that a benchmark runs on."""

import os
import pathlib
import re

CPUINFO = pathlib.Path("/proc/cpuinfo")
# By the name of the flag in /proc/cpuinfo.
INSTRUCTIONS = {"avx2": "AVX2", "avx512f": "AVX-512", "amx_tile": "AMX"}
# What limits the kernels of oneDNN, PyTorch and MKL, if it is set.
LIMITS = (
    "TF_ENABLE_ONEDNN_OPTS",
    "ONEDNN_MAX_CPU_ISA",
    "ATEN_CPU_CAPABILITY",
    "MKL_ENABLE_INSTRUCTIONS",
)


def describe():
    """Names the first GPU, or else the CPU and its instructions."""
    import tensorflow as tf

    for gpu in tf.config.list_physical_devices("GPU"):
        details = tf.config.experimental.get_device_details(gpu)
        return details.get("device_name", gpu.name)
    limits = [f"{x}={os.environ[x]}" for x in LIMITS if x in os.environ]
    return ", ".join([_cpu(), f"{os.cpu_count()} cores", *limits])


def is_gpu():
    """Whether TensorFlow sees a GPU."""
    import tensorflow as tf

    return bool(tf.config.list_physical_devices("GPU"))


def _cpu():
    """The CPU's model, and which vector instructions it has."""
    text = CPUINFO.read_text() if CPUINFO.exists() else ""
    model = re.search(r"model name\s*: (.*)", text)
    flags = re.search(r"flags\s*: (.*)", text)
    known = flags[1].split() if flags else ()
    has = [name for flag, name in INSTRUCTIONS.items() if flag in known]
    name = model[1] if model else "CPU"
    return f"{name} ({', '.join(has)})" if has else name
