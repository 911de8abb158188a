"""Measures the share of its time that a training waits for data.

    python -m benchmarks.input_pipeline --width=16 --batch_size=128

Batches are shuffled, augmented and prefetched, as in training. The time until
the next batch is there is compared with the time of the step on it.
"""

import time

from absl import flags

from benchmarks.shared import build_classifier, start

WIDTH = flags.DEFINE_integer("width", 16, "Channels of the first group.")
BATCH_SIZE = flags.DEFINE_integer("batch_size", 128, "Images per step.")
STEPS = flags.DEFINE_integer("steps", 60, "Timed steps.")
METHODS = flags.DEFINE_list("methods", ["standard", "fastbat"], "Methods.")


def main(_):
    """Prints a line for each method."""
    from fastbat_tf import RobustClassifier, data, methods
    from fastbat_tf.data import loading, pipeline

    augmentation = data.get("cifar10_mini").augmentation
    train = loading.load("cifar10_mini").train
    for name in METHODS.value:
        classifier = build_classifier(WIDTH.value)
        robust = RobustClassifier(classifier, methods.get(name)).compile()
        batches = iter(
            pipeline.training_batches(
                train, BATCH_SIZE.value, seed=0, augmentation=augmentation
            )
        )
        robust.train_on_batch(*next(batches))  # Traces and compiles.
        waiting = working = 0.0
        for _ in range(STEPS.value):
            start = time.perf_counter()
            batch = next(batches)
            ready = time.perf_counter()
            robust.train_on_batch(*batch)
            waiting += ready - start
            working += time.perf_counter() - ready
        print(
            f"{name}: {working / STEPS.value:.3f} s a step, waits "
            f"{1000 * waiting / STEPS.value:.2f} ms for data: "
            f"{waiting / (waiting + working):.2%} of the time"
        )


if __name__ == "__main__":
    start(main)
