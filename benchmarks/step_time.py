"""Times a training step of every method, with XLA and without.

    python -m benchmarks.step_time --width=16 --batch_size=128

The steps of all methods take turns, several rounds of them, so that what else
the machine does meets all alike. The table gives the median seconds, the
spread (fastest to slowest), and the ratio to the standard step without XLA.
"""

import os
import statistics
import time

from absl import app, flags, logging

WIDTH = flags.DEFINE_integer("width", 16, "Channels of the first group.")
BATCH_SIZE = flags.DEFINE_integer("batch_size", 128, "Images per step.")
ROUNDS = flags.DEFINE_integer("rounds", 7, "Timed steps of each.")
METHODS = flags.DEFINE_list(
    "methods", ["standard", "fastat", "gradalign", "fastbat"], "Methods."
)


def build(name, compiled):
    """A compiled RobustClassifier of PreActResNet-18."""
    import models
    from fastbat_tf import BatchNormalization, RobustClassifier, methods

    classifier = models.get(
        "preact_resnet18",
        width=WIDTH.value,
        mean=[0.5] * 3,
        std=[0.25] * 3,
        batch_normalization=BatchNormalization,
    )
    robust = RobustClassifier(classifier, methods.get(name))
    return robust.compile(jit_compile=compiled)


def main(_):
    """Prints the table."""
    import numpy as np

    random = np.random.default_rng(0)
    images = random.uniform(size=(BATCH_SIZE.value, 32, 32, 3))
    images = images.astype("float32")
    labels = random.integers(0, 10, BATCH_SIZE.value)
    variants = [(m, xla) for xla in (False, True) for m in METHODS.value]
    trained, first, times = {}, {}, {v: [] for v in variants}
    for variant in variants:
        trained[variant] = build(*variant)
        start = time.perf_counter()
        trained[variant].train_on_batch(images, labels)
        first[variant] = time.perf_counter() - start
    for _ in range(ROUNDS.value):
        for variant in variants:
            start = time.perf_counter()
            trained[variant].train_on_batch(images, labels)
            times[variant].append(time.perf_counter() - start)

    standard = statistics.median(times[METHODS.value[0], False])
    print(
        f"PreActResNet-18, width {WIDTH.value}, batch {BATCH_SIZE.value}, "
        f"{ROUNDS.value} rounds"
    )
    print("method      XLA   first s  median s  spread s       ratio")
    for variant in variants:
        median = statistics.median(times[variant])
        low, high = min(times[variant]), max(times[variant])
        print(
            f"{variant[0]:<10}  {'on' if variant[1] else 'off':<4}"
            f"{first[variant]:>9.1f}{median:>10.3f}  "
            f"{low:.3f} - {high:.3f}{median / standard:>8.2f}"
        )


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    logging.set_verbosity(logging.WARNING)
    app.run(main)
