"""Where a training runs."""

import functools
import pathlib
import re

import tensorflow as tf

from fastbat_tf.errors import InputError


def get_strategy(name):
    """The distribution strategy.

    Args:
        name: `"none"`: one device; `"mirrored"`: all GPUs, or all logical CPU
            devices if there is no GPU; `"auto"`: mirrored if there is more
            than one GPU.

    Returns:
        A `tf.distribute.Strategy`.
    """
    gpus = tf.config.list_logical_devices("GPU")
    if name == "mirrored" or (name == "auto" and len(gpus) > 1):
        devices = gpus or tf.config.list_logical_devices("CPU")
        return _mirrored(tuple(device.name for device in devices))
    return tf.distribute.get_strategy()


@functools.cache  # The collectives of two would have the same keys.
def _mirrored(devices):
    return tf.distribute.MirroredStrategy(devices)


def check_batch_size(batch_size, strategy):
    """Refuses a batch that the replicas cannot share evenly."""
    replicas = strategy.num_replicas_in_sync
    if batch_size % replicas:
        raise InputError(
            f"`batch_size` is expected to be a multiple of the {replicas} "
            f"replicas. Received: batch_size={batch_size}"
        )


def check_steps_per_execution(steps, replicas):
    """Refuses what Keras has for one replica alone."""
    if steps > 1 and replicas > 1:
        raise InputError(
            "Keras cannot run several steps in one execution on several "
            f"replicas; expected 1 on {replicas} replicas. "
            f"Received: steps_per_execution={steps}"
        )


def has_accelerator():
    """Whether there is a GPU or TPU."""
    return bool(
        tf.config.list_physical_devices("GPU")
        + tf.config.list_physical_devices("TPU")
    )


def make_deterministic():
    """Makes the same program give the same bits, from now to its end.

    On a CPU with one thread for each operation and between operations: sums of
    several threads come in any order. On a GPU by deterministic kernels, which
    TensorFlow has for what is used here. Before TensorFlow has begun to work.
    """
    if has_accelerator():
        tf.config.experimental.enable_op_determinism()
    else:
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(1)


def resolve_jit_compile(jit_compile):
    """Returns whether XLA compiles the step: a bool for `"auto"` or a bool."""
    if jit_compile == "auto":
        return bool(tf.config.list_physical_devices("GPU"))
    if not isinstance(jit_compile, bool):
        raise InputError(
            '`jit_compile` is expected to be True, False or "auto". '
            f"Received: jit_compile={jit_compile}"
        )
    return jit_compile


def peak_gigabytes():
    """The most memory that the fullest GPU, or else this process, has held.

    Returns:
        Float, in units of 2**30 bytes; None where the system does not say.
    """
    gpus = tf.config.list_logical_devices("GPU")
    if gpus:
        infos = [tf.config.experimental.get_memory_info(g.name) for g in gpus]
        return max(info["peak"] for info in infos) / 2**30
    # Not `getrusage`: a new process inherits the peak of its parent there.
    status = pathlib.Path("/proc/self/status")
    text = status.read_text() if status.exists() else ""
    kilobytes = re.search(r"VmHWM:\s+(\d+) kB", text)
    return int(kilobytes[1]) / 2**20 if kilobytes else None
