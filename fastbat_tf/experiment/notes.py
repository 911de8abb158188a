"""Notes at the start of a training: its devices, and what is peculiar."""

import tensorflow as tf

from fastbat_tf import workers
from fastbat_tf.experiment import building
from fastbat_tf.runtime import display, half_precision


def show(config, robust, hinted):
    """Tells on which devices a training runs, and what is peculiar about it.

    Args:
        config: A `Config`.
        robust: The compiled `RobustClassifier`.
        hinted: List of lines, the hints about this machine.
    """
    strategy = robust.distribute_strategy
    compiled = building.compiles_with_xla(config)
    precision = half_precision.notes(config.training.precision, compiled)
    notes = (*precision, *hinted, *robust.notes_on_replicas())
    for line in (_device_line(config, strategy), *notes):
        display.note(line)


def _device_line(config, strategy):
    devices = "GPU" if tf.config.list_physical_devices("GPU") else "CPU"
    xla = "on" if building.compiles_with_xla(config) else "off"
    reason = ""
    if config.runtime.jit_compile == "auto":
        reason = f" (the default on {devices}s: docs/xla.md)"
    replicas = f"replicas: {strategy.num_replicas_in_sync}"
    count = workers.of(strategy).count
    if count > 1:
        replicas = f"workers: {count}, {replicas}"
    return f"Running on {devices}, {replicas}, XLA: {xla}{reason}."
