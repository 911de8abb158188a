"""What the benchmarks share: a network, and the memory of the process."""

import re


def build_classifier(width, model="preact_resnet18"):
    """A network of the zoo with its initial weights; some have no width."""
    import models
    from fastbat_tf import BatchNormalization

    module, _ = models.parse(model)
    options = {"width": width} if "width" in models.OPTIONS[module] else {}
    return models.get(
        model,
        **options,
        mean=[0.5] * 3,
        std=[0.25] * 3,
        batch_normalization=BatchNormalization,
    )


def peak_gigabytes():
    """The most memory that this process, or its GPU, has held."""
    import tensorflow as tf

    if tf.config.list_physical_devices("GPU"):
        return tf.config.experimental.get_memory_info("GPU:0")["peak"] / 2**30
    # Not `getrusage`: a new process inherits the peak of its parent there.
    with open("/proc/self/status") as file:
        kilobytes = re.search(r"VmHWM:\s+(\d+) kB", file.read())[1]
    return int(kilobytes) / 2**20
