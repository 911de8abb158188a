"""Notes at the start of a training: its devices, and what is peculiar."""

import tensorflow as tf

from fastbat_tf import workers
from fastbat_tf.runtime import display, half_precision


def show(config, robust, hinted):
    """Tells on which devices a training runs, and what is peculiar about it.

    Args:
        config: A `Config`.
        robust: The compiled `RobustClassifier`.
        hinted: List of lines, the hints about this machine.
    """
    precision = half_precision.notes(
        config.training.precision, robust.compiles_step
    )
    notes = (*precision, *hinted, *robust.notes_on_replicas())
    for line in (_device_line(config, robust), *notes):
        display.note(line)


def _device_line(config, robust):
    strategy = robust.distribute_strategy
    devices = "GPU" if tf.config.list_physical_devices("GPU") else "CPU"
    xla = "on" if robust.compiles_step else "off"
    reason = ""
    is_default = robust.compiles_step == (devices == "GPU")
    if config.runtime.jit_compile == "auto" and is_default:
        reason = f" (the default on {devices}s: docs/xla.md)"
    replicas = f"replicas: {strategy.num_replicas_in_sync}"
    count = workers.of(strategy).count
    if count > 1:
        replicas = f"workers: {count}, {replicas}"
    return f"Running on {devices}, {replicas}, XLA: {xla}{reason}."
