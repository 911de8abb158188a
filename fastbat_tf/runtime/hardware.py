"""What a training runs on, for its records."""

import os
import pathlib
import platform
import re
from typing import Any

import tensorflow as tf

CPU_INFO = pathlib.Path("/proc/cpuinfo")


def describe(strategy: tf.distribute.Strategy, xla: bool) -> dict[str, Any]:
    """Describes the devices of a training, as JSON's types.

    Args:
        strategy: Its `tf.distribute.Strategy`.
        xla: Boolean, whether XLA compiles its steps.

    Returns:
        Dict with `device`, the name of the GPU or the processor; `kind`,
        `"GPU"` or `"CPU"`; the number of `replicas`, of all workers; the
        number of processor `cores` that this process may use; `platform`, the
        operating system; and `xla`.
    """
    gpus = tf.config.list_physical_devices("GPU")
    return {
        "device": _gpu_names(gpus) if gpus else processor_name(),
        "kind": "GPU" if gpus else "CPU",
        "replicas": strategy.num_replicas_in_sync,
        "cores": cores(),
        "platform": platform.platform(),
        "xla": xla,
    }


def _gpu_names(gpus):
    details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
    names = [found.get("device_name", "GPU") for found in details]
    return ", ".join(dict.fromkeys(names))


def processor_name() -> str:
    """Returns the name of the processor, or of its architecture."""
    text = CPU_INFO.read_text() if CPU_INFO.exists() else ""
    # Linux names processors of x86 here, and few others.
    name = re.search(r"^model name\s*:\s*(\S.*)$", text, re.MULTILINE)
    if name:
        return name[1].strip()
    return platform.processor() or platform.machine() or "CPU"


def memory() -> int | None:
    """Returns the bytes of memory of this host, or None if it does not tell."""
    ask = getattr(os, "sysconf", None)  # Not on Windows.
    try:
        return ask and ask("SC_PAGE_SIZE") * ask("SC_PHYS_PAGES")
    except (OSError, ValueError):
        return None


def cores() -> int:
    """Returns how many processor cores this process may use."""
    # Only Linux tells; a job of a cluster may not use all of a host.
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1
