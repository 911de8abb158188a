"""The cost of every method: a step over a standard step, measured and on paper.

    python -m benchmarks.methods --width=16 --batch_size=128 --rounds=7

The methods take turns. On paper a forward pass costs 1, and a backward pass to
the images or to the weights 1 each; the classes of the methods declare them.
The table is that of `docs/methods.md`: put its rows between the lines `begin:
method costs` and `end: method costs`, then run `python -m
fastbat_tf.methods.generate`. The last column is the measured ratio over the one
on paper. The other flags are those of `benchmarks.step_time`.
"""

from absl import flags

from benchmarks import step_time
from benchmarks.shared import start


def main(_):
    """Prints the table."""
    names = list(step_time.COSTS)
    measured = step_time.measure([(name, False) for name in names])
    medians = {name: measured[name, False].median() for name in names}
    print("| method | forwards | backwards | on paper | measured | over it |")
    print("|---|---|---|---|---|---|")
    standard = step_time.COSTS["standard"].total()
    for name in names:
        passes = step_time.COSTS[name]
        paper = passes.total() / standard
        ratio = medians[name] / medians["standard"]
        print(
            f"| `{name}` | {passes.forwards:g} | {passes.to_images:g} + "
            f"{passes.to_weights:g} | {paper:.2f} | {ratio:.2f} | "
            f"{ratio / paper:.2f} |"
        )
    print(f"A standard step takes {medians['standard']:.3f} s.")


if __name__ == "__main__":
    flags.FLAGS.set_default("memory", False)
    start(main)
