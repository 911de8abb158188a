"""Counts the passes of AutoAttack in several orders of its attacks.

    python -m benchmarks.autoattack_order --runs=runs/pgd,runs/standard

Random numbers depend on the example, the attack and the round alone, so every
order breaks the same examples. An example that no attack breaks goes through
all of them, in any order, and costs the same. An order can only save passes
with examples that are broken. So the table shows, for each run, the images that
the network is asked about, forward and backward, for both kinds of examples in
the published order; the share of the broken ones is what the best of all orders
cannot reach. For other orders, it shows what the broken examples cost, and
whether each of them is broken again.
"""

import json
import pathlib

from absl import flags

from benchmarks.shared import start

RUNS = flags.DEFINE_list("runs", None, "Run directories.", required=True)
EXAMPLES = flags.DEFINE_integer("examples", 100, "Test images of each run.")
EPSILON = flags.DEFINE_float("epsilon", 8 / 255, "Radius, in L-infinity.")
BATCH_SIZE = flags.DEFINE_integer("batch_size", 100, "Images per batch.")
JSON_FILE = flags.DEFINE_string("json", None, "File for the numbers.")

ORDERS = {
    "published": "apgd-ce+apgd-t+fab-t+square",
    "apgd-t first": "apgd-t+apgd-ce+fab-t+square",
    "fab-t first": "fab-t+apgd-ce+apgd-t+square",
    "square first": "square+apgd-ce+apgd-t+fab-t",
}
# Backward passes for each forward pass.
BACKWARD = {"apgd-ce": 1.0, "apgd-t": 1.0, "fab-t": 0.5, "square": 0.0}


class Counter:
    """A network that counts the images that it is asked about."""

    def __init__(self, network):
        import tensorflow as tf

        self._tf = tf
        self._network = network
        self.images = tf.Variable(0, dtype=tf.int64)

    def __call__(self, images):
        count = self._tf.shape(images, out_type=self._tf.int64)[0]
        # As a side effect, so that it runs in loops and under a gradient.
        self.images.assign_add(count)
        return self._network(images)

    def take(self):
        """Returns the count, and starts again."""
        count = int(self.images)
        self.images.assign(0)
        return count


def run_order(name, counter, clean, robust):
    """Runs the attacks of an order on some examples.

    Args:
        name: The name of an ensemble.
        counter: The `Counter`.
        clean: A `Clean`.
        robust: bool array `(examples,)`, the examples to attack.

    Returns:
        bool array, those that are left, and a dict from attacks to pairs: the
        images of forward and of backward passes.
    """
    from fastbat_tf import attacks
    from fastbat_tf.attacks.records import Record

    built = attacks.get(name, counter, batch_size=BATCH_SIZE.value)
    passes = {}
    counter.take()
    for stage in built.stages():
        record = Record.start(robust, clean)
        stage.run(clean, record, EPSILON.value)
        robust = record.robust
        forward = counter.take()
        passes[stage.name] = forward, BACKWARD[stage.name] * forward
    return robust, passes


def total(passes):
    """All forward and backward passes of some attacks."""
    return [sum(each) for each in zip(*passes.values(), strict=True)]


def measure(path):
    """Measures one run; returns a dict of what the table shows."""
    from fastbat_tf.attacks.classifier import Classifier
    from fastbat_tf.attacks.models import logits_of
    from fastbat_tf.data import loading
    from fastbat_tf.evaluation.inputs import take
    from fastbat_tf.experiment.building import load_best
    from fastbat_tf.experiment.run_directory import RunDirectory
    from fastbat_tf.models import get

    run = RunDirectory(pathlib.Path(path))
    config = run.load_config()
    classifier = load_best(run, config, get).classifier
    counter = Counter(logits_of(classifier))
    sample = take(loading.load_test(config.data), EXAMPLES.value, 0)
    images = sample.images.astype("float32")
    if sample.images.dtype == "uint8":
        images /= 255
    clean = Classifier(counter, BATCH_SIZE.value)(images, sample.labels)
    left, passes = run_order(ORDERS["published"], counter, clean, clean.correct)
    broken = clean.correct & ~left
    found = {
        "examples": len(clean.labels),
        "correct": int(clean.correct.sum()),
        "robust": int(left.sum()),
        "all": total(passes),
        "stages": passes,
        "broken": {},
    }
    for order, name in ORDERS.items():
        again, passes = run_order(name, counter, clean, broken)
        found["broken"][order] = {
            "passes": total(passes),
            "left": int(again.sum()),
        }
        show(path, order, found)
    return found


def show(path, order, found):
    """Prints a line of the table."""
    one, published = (
        found["broken"][each]["passes"] for each in (order, "published")
    )
    everything = sum(found["all"])
    saved = (sum(published) - sum(one)) / everything
    print(
        f"{pathlib.Path(path).name:<10} {order:<14}"
        f"{found['correct']:>8}{found['robust']:>8}"
        f"{everything:>12,.0f}{sum(one):>10,.0f}"
        f"{sum(one) / everything:>9.2%}{saved:>9.2%}"
        f"{found['broken'][order]['left']:>6}",
        flush=True,
    )


def main(_):
    """Prints the table."""
    print(
        "run        order          correct  robust  all passes    broken"
        "    share    saved  left",
        flush=True,
    )
    results = {path: measure(path) for path in RUNS.value}
    if JSON_FILE.value:
        pathlib.Path(JSON_FILE.value).write_text(json.dumps(results, indent=2))


if __name__ == "__main__":
    start(main)
