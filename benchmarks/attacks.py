"""Times the steps of each attack relative to the passes through the network.

    python -m benchmarks.attacks --width=16 --batch_size=64

At a radius at which no example is misclassified, an attack takes all its steps
with all examples. The floor is the time of the network alone: of a forward pass
and a backward pass to the images for gradient attacks, of a forward pass for
Square, and of both for FAB. Floors and attacks are timed alternately in several
rounds, so that other load on the machine affects them equally. The table shows
the median seconds per 1,000 example-steps, and the ratio to the floor. The last
line is the peak memory of the process after the floors, and after AutoAttack.
"""

import json
import statistics
import time

from absl import flags

from benchmarks.shared import build_classifier, start

WIDTH = flags.DEFINE_integer(
    "width", 16, "Channels of the first group of blocks."
)
BATCH_SIZE = flags.DEFINE_integer("batch_size", 64, "Images per batch.")
EXAMPLES = flags.DEFINE_integer("examples", 64, "Images attacked.")
ROUNDS = flags.DEFINE_integer("rounds", 5, "Timed runs of each attack.")
STEPS = flags.DEFINE_integer("steps", 20, "Steps of each run.")
NORM = flags.DEFINE_string("norm", "linf", "linf or l2.")
XLA = flags.DEFINE_bool("jit_compile", False, "Whether XLA compiles.")
JSON_FILE = flags.DEFINE_string(
    "json", None, "File to which the numbers are written."
)

TINY_RADIUS = 1e-7  # No example is misclassified.


def build_floors(network):
    """Functions of images and labels, the passes through the network alone."""
    import tensorflow as tf

    from fastbat_tf.attacks import losses

    def compiled(function):
        return tf.function(function, autograph=False, jit_compile=XLA.value)

    @compiled
    def both(images, labels):
        return losses.ask(
            network,
            losses.cross_entropy,
            images=images,
            labels=labels,
            targets=labels,
        ).gradient

    @compiled
    def forward(images, labels):
        del labels
        return network(images)

    return {"forward + backward": [both], "forward": [forward]}


def attacks_and_floors():
    """The name of each attack, its steps, and the floors of one step."""
    steps = STEPS.value
    gradient, both = ("forward + backward",), ("forward + backward", "forward")
    return [
        (f"pgd-{steps}-1", steps + 1, gradient),
        (f"apgd-ce-{steps}", steps + 1, gradient),
        (f"apgd-dlr-{steps}", steps + 1, gradient),
        (f"apgd-t-{steps}", 9 * (steps + 1), gradient),
        (f"fab-t-{steps}", 9 * steps, both),
        (f"square-{10 * steps}", 10 * steps, ("forward",)),
    ]


def main(_):
    """Prints the table."""
    import numpy as np

    from fastbat_tf import attacks
    from fastbat_tf.attacks.models import logits_of
    from fastbat_tf.distribution import peak_gigabytes

    network = logits_of(build_classifier(WIDTH.value))
    images = np.random.default_rng(0).uniform(size=(EXAMPLES.value, 32, 32, 3))
    images = images.astype("float32")
    labels = np.argmax(network(images), -1).astype("int32")
    batch = images[: BATCH_SIZE.value], labels[: BATCH_SIZE.value]

    def time_floor(functions):
        start = time.perf_counter()
        for function in functions:
            for _ in range(STEPS.value):
                answer = function(*batch)
            np.asarray(answer)
        return (time.perf_counter() - start) / STEPS.value / len(batch[0])

    def time_attack(attack, steps):
        start = time.perf_counter()
        result = attack(images, labels, TINY_RADIUS)
        if not result.robust.all():
            raise AssertionError("Expected no success at so small a radius.")
        return (time.perf_counter() - start) / steps / len(images)

    options = {
        "norm": NORM.value,
        "batch_size": BATCH_SIZE.value,
        "jit_compile": XLA.value,
    }
    floors = build_floors(network)
    rows = attacks_and_floors()
    built = {name: attacks.get(name, network, **options) for name, *_ in rows}
    for functions in floors.values():  # Trace and compile.
        time_floor(functions)
    memory = {"network": peak_gigabytes()}
    for name, steps, _ in rows:
        time_attack(built[name], steps)
    times = {name: [] for name in (*floors, *built)}
    for _ in range(ROUNDS.value):
        for name, functions in floors.items():
            times[name].append(time_floor(functions))
        for name, steps, _ in rows:
            times[name].append(time_attack(built[name], steps))
    ensemble = "+".join(
        f"{stage}-{STEPS.value}"
        for stage in ("apgd-ce", "apgd-t", "fab-t", "square")
    )
    attacks.get(ensemble, network, **options)(images, labels, TINY_RADIUS)
    memory["autoattack"] = peak_gigabytes()

    medians = {name: statistics.median(found) for name, found in times.items()}
    print(
        f"PreActResNet-18, width {WIDTH.value}, {NORM.value}, batch "
        f"{BATCH_SIZE.value}, {EXAMPLES.value} examples, {ROUNDS.value} "
        f"rounds, XLA {'on' if XLA.value else 'off'}"
    )
    print("                      s per 1,000   spread            floor  ratio")
    table = {}
    for name in times:
        floor = next(
            (
                sum(medians[part] for part in parts)
                for row, _, parts in rows
                if row == name
            ),
            medians[name],
        )
        spread = [1000 * bound(times[name]) for bound in (min, max)]
        table[name] = {
            "seconds": 1000 * medians[name],
            "spread": spread,
            "floor": 1000 * floor,
            "ratio": medians[name] / floor,
        }
        print(
            f"{name:<20}{1000 * medians[name]:>13.3f}   "
            f"{spread[0]:.3f} - {spread[1]:.3f}{1000 * floor:>9.3f}"
            f"{medians[name] / floor:>7.2f}"
        )
    print(
        f"peak memory: {memory['network']:.2f} GB after the network's passes, "
        f"{memory['autoattack']:.2f} GB after AutoAttack"
    )
    if JSON_FILE.value:
        with open(JSON_FILE.value, "w") as file:
            json.dump({"steps": table, "peak_gigabytes": memory}, file)


if __name__ == "__main__":
    start(main)
