"""Times a training step of every method against the standard step.

    python -m benchmarks.step_time --width=16 --batch_size=128
    python -m benchmarks.step_time --jit_compile=true --steps_per_execution=50
    python -m benchmarks.step_time --torch_python=PATH/python --json=FILE

The methods take turns for several rounds, so that other load on the machine
affects all of them alike. The table lists the first step (tracing and
compilation), the median seconds with the spread from fastest to slowest, the
ratio to the standard step, this ratio on paper (a forward pass costs 1, a
backward pass to the images or to the weights 1 each), and the peak memory of a
process that does nothing else. With `--steps_per_execution`, a timed step is
one of those of a call, which also makes their batches; without it, it is a call
of `train_on_batch`. `--torch_python` takes an interpreter that has
PyTorch, whose plain training step of the same network takes turns, too.
"""

import json
import os
import statistics
import subprocess
import sys
import time

from absl import flags

from benchmarks.shared import build_classifier, start
from fastbat_tf.methods import METHODS as METHOD_SPECS
from fastbat_tf.methods.spec import costs

MODEL = flags.DEFINE_string("model", "preact_resnet18", "Name of the network.")
WIDTH = flags.DEFINE_integer("width", 16, "Channels of the first group.")
BATCH_SIZE = flags.DEFINE_integer("batch_size", 128, "Images per step.")
ROUNDS = flags.DEFINE_integer("rounds", 7, "Timed steps of each.")
METHODS = flags.DEFINE_list(
    "methods",
    [
        "standard",
        "fastat",
        "pgd",
        "gradalign",
        "fastbat",
        "fastbat-finite_difference",
    ],
    "Methods, or METHOD-VARIANT; the others are compared with the first.",
)
JIT_COMPILE = flags.DEFINE_list("jit_compile", ["false"], "XLA: false, true.")
PRECISION = flags.DEFINE_string(
    "precision", "float32", "Policy of the layers: float32, mixed_bfloat16."
)
STEPS_PER_EXECUTION = flags.DEFINE_integer(
    "steps_per_execution",
    None,
    "Time runs of main.py's kind, on data that lie on the device: so many "
    "steps in a call. Its time is divided by them.",
)
AS_ONE_PROGRAM = flags.DEFINE_bool(
    "as_one_program",
    None,
    "Whether XLA compiles the steps of a call as one program (default: on a "
    "GPU, as in main.py).",
)
TORCH_PYTHON = flags.DEFINE_string(
    "torch_python", None, "A Python with PyTorch, for its standard step."
)
JSON_FILE = flags.DEFINE_string("json", None, "Write the numbers here, too.")
MEMORY = flags.DEFINE_bool(
    "memory", True, "Measure the peak memory, in a process for each method."
)
ONE_PROCESS = flags.DEFINE_bool(
    "print_memory", False, "Make two steps and print the peak memory alone."
)

# By `NAME` or `NAME-VARIANT`, as the classes of the methods declare them.
COSTS = costs(METHOD_SPECS)


def build(name, compiled):
    """A compiled RobustClassifier."""
    import keras

    from fastbat_tf import Plan, RobustClassifier, methods

    keras.config.set_dtype_policy(PRECISION.value)
    classifier = build_classifier(WIDTH.value, MODEL.value)
    name, _, variant = name.partition("-")
    options = METHOD_SPECS[name].variants[variant].options if variant else {}
    robust = RobustClassifier(classifier, methods.get(name, **options))
    batch, steps = BATCH_SIZE.value, STEPS_PER_EXECUTION.value or 1
    return robust.compile(
        keras.optimizers.SGD(0.01, momentum=0.9),
        weight_decay=5e-4,
        plan=Plan(100, steps, batch, examples=steps * batch),
        jit_compile=compiled,
    )


def make_batch():
    """Random images, with indices, and labels."""
    import numpy as np

    random = np.random.default_rng(0)
    images = random.random((BATCH_SIZE.value, 32, 32, 3), np.float32)
    index = np.arange(BATCH_SIZE.value, dtype="int32")
    labels = random.integers(0, 10, BATCH_SIZE.value)
    return {"images": images, "index": index}, labels


def memory_of(name, compiled):
    """The peak memory in GB of two steps, in a process of their own."""
    answer = subprocess.run(
        [
            sys.executable,
            "-m",
            "benchmarks.step_time",
            f"--model={MODEL.value}",
            f"--width={WIDTH.value}",
            f"--batch_size={BATCH_SIZE.value}",
            f"--precision={PRECISION.value}",
            f"--methods={name}",
            f"--jit_compile={str(compiled).lower()}",
            "--print_memory",
        ],
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    return float(answer.stdout.split()[-1])


class TorchStep:
    """PyTorch's step of a method, in a process that waits to be asked."""

    def __init__(self, method):
        script = os.path.join(os.path.dirname(__file__), "torch_step.py")
        self._process = subprocess.Popen(
            [
                TORCH_PYTHON.value,
                script,
                f"--width={WIDTH.value}",
                f"--batch_size={BATCH_SIZE.value}",
                f"--method={method}",
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, line="step"):
        """Seconds of a step, or GB for `"memory"`."""
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        return float(self._process.stdout.readline().split()[0])


def timed_step(robust, batch):
    """A function that makes a step, and returns its seconds."""

    def step():
        start = time.perf_counter()
        robust.train_on_batch(*batch)
        return time.perf_counter() - start

    return step


def timed_call(robust):
    """A function that makes the steps of a call; returns seconds of each."""
    import numpy as np

    from fastbat_tf.data import Augmentation
    from fastbat_tf.data.resident import ResidentBatches
    from fastbat_tf.data.sources import Examples
    from fastbat_tf.distribution import has_accelerator
    from fastbat_tf.experiment import execution, loop

    count = STEPS_PER_EXECUTION.value
    random = np.random.default_rng(0)
    # One epoch has the steps of a call.
    examples = count * BATCH_SIZE.value
    batches = ResidentBatches(
        Examples(
            random.integers(0, 256, (examples, 32, 32, 3), np.uint8),
            random.integers(0, 10, examples, np.int32),
        ),
        BATCH_SIZE.value,
        seed=0,
        augmentation=Augmentation(padding=4),
        with_index=robust.method.remembers_examples,
    )
    loop.make_variables(robust)
    as_one = AS_ONE_PROGRAM.value
    if as_one is None:
        as_one = robust.compiles_step and has_accelerator()
    steps = execution.ResidentSteps(robust, batches, count, as_one=as_one)

    def call():
        start = time.perf_counter()
        logs, _ = steps.run(0, 0, count)
        float(logs["loss"])
        return (time.perf_counter() - start) / count

    return call


def measure(variants):
    """Times the variants, which take turns.

    Returns:
        Dicts by variant: the seconds of the first step, the list of the
        seconds of the others, and the peak memory in GB.
    """
    batch, steps = make_batch(), {}
    for variant in variants:
        name, compiled = variant
        if compiled is None:
            steps[variant] = TorchStep(name.removeprefix("torch-")).ask
        else:
            robust = build(*variant)
            steps[variant] = (
                timed_call(robust)
                if STEPS_PER_EXECUTION.value
                else timed_step(robust, batch)
            )
    first = {variant: step() for variant, step in steps.items()}
    times = {variant: [] for variant in variants}
    for _ in range(ROUNDS.value):
        for variant, step in steps.items():
            times[variant].append(step())
    memory = {}
    for variant in variants if MEMORY.value else ():
        torch = variant[1] is None
        memory[variant] = (
            steps[variant]("memory") if torch else memory_of(*variant)
        )
    return first, times, memory


def main(_):
    """Prints the table."""
    compiled = [text == "true" for text in JIT_COMPILE.value]
    variants = [(name, xla) for xla in compiled for name in METHODS.value]
    if ONE_PROCESS.value:
        from fastbat_tf.distribution import peak_gigabytes

        robust = build(*variants[0])
        for _ in range(2):
            robust.train_on_batch(*make_batch())
        print(peak_gigabytes())
        return
    if TORCH_PYTHON.value:
        variants += [("torch-standard", None), ("torch-fastbat", None)]
    first, times, memory = measure(variants)
    standard = statistics.median(times[variants[0]])
    print(
        f"{MODEL.value}, width {WIDTH.value}, batch {BATCH_SIZE.value}, "
        f"{PRECISION.value}, {ROUNDS.value} rounds"
    )
    print(
        "method                     XLA  first s  median s  spread s         "
        "ratio  on paper  peak GB"
    )
    rows = []
    for name, xla in variants:
        median = statistics.median(times[name, xla])
        passes = COSTS[name.removeprefix("torch-")]
        row = {
            "method": name,
            "jit_compile": xla,
            "first_seconds": first[name, xla],
            "median_seconds": median,
            "seconds": times[name, xla],
            "ratio": median / standard,
            "forwards": passes.forwards,
            "backwards": (passes.to_images, passes.to_weights),
            "ratio_on_paper": passes.total() / COSTS["standard"].total(),
            "peak_gigabytes": memory.get((name, xla)),
        }
        rows.append(row)
        low, high = min(row["seconds"]), max(row["seconds"])
        peak = row["peak_gigabytes"]
        print(
            f"{name:<27}{'on' if xla else '':<4}{first[name, xla]:>8.1f}"
            f"{median:>10.3f}  {low:.3f} - {high:.3f}{row['ratio']:>9.2f}"
            f"{row['ratio_on_paper']:>10.2f}"
            + (f"{peak:>9.2f}" if peak else "")
        )
    if JSON_FILE.value:
        with open(JSON_FILE.value, "w") as file:
            json.dump(rows, file, indent=1)


if __name__ == "__main__":
    start(main)
