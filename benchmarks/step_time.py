"""Times a training step of every method against the standard step.

    python -m benchmarks.step_time
    python -m benchmarks.step_time --jit_compile=true --steps_per_execution=50
    python -m benchmarks.step_time --torch_python=PATH/python --json=FILE

On a GPU, the first command times Fast-BAT as a run of `main.py` trains it
(PreActResNet-18, width 64, batch 128, XLA, 50 steps in a call), and prints the
goals beside what it measures; `--precision=mixed_bfloat16` has goals, too.

The methods take turns for several rounds, so that other load on the machine
affects all of them alike. The table lists the first call (tracing, compilation
and a first step), the median wall and CPU seconds of a step with the spread of
the wall time from fastest to slowest, the ratio to the standard step, this
ratio on paper (a forward pass costs 1, a backward pass to the images or to the
weights 1 each), and the peak memory of a process that does nothing else. With
`--steps_per_execution`, a timed step is one of those of a call, which also
makes their batches; without it, it is a call of `train_on_batch`.

`--torch_python` takes an interpreter that has PyTorch, whose steps of
`benchmarks/torch_step.py` take turns, too. The last line compares Fast-BAT with
the passes of the published program.
"""

import json
import os
import subprocess
import sys
import time

from absl import flags

from benchmarks import device, goals
from benchmarks.goals import Measured, Seconds
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
    0,
    "Time runs of main.py's kind, on data that lie on the device: so many "
    "steps in a call. Its time is divided by them.",
)
AS_ONE_PROGRAM = flags.DEFINE_bool(
    "as_one_program",
    None,
    "Whether XLA compiles the steps of a call as one program (default: on a "
    "GPU, as in main.py).",
)
THREADS = flags.DEFINE_integer(
    "threads", 0, "Threads of TensorFlow and of PyTorch; 0: as they like."
)
TORCH_PYTHON = flags.DEFINE_string(
    "torch_python", None, "A Python with PyTorch, for its steps on the CPU."
)
TORCH_METHODS = flags.DEFINE_list(
    "torch_methods",
    ["standard", "fastbat", "fastbat-published"],
    "Steps of PyTorch to time.",
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
# The published program also evaluates the clean images, and takes the final
# images forward, and the gradient to them, once more.
PUBLISHED = "torch-fastbat-published"
TORCH_COSTS = {
    "torch-standard": COSTS["standard"],
    "torch-fastbat": COSTS["fastbat"],
    PUBLISHED: COSTS["fastbat"]._replace(
        forwards=COSTS["fastbat"].forwards + 2,
        to_images=COSTS["fastbat"].to_images + 1,
    ),
}

# Defaults on a GPU.
ON_GPU = {
    "width": 64,
    "methods": "standard,fastbat",
    "jit_compile": "true",
    "steps_per_execution": 50,
}


def build(name, compiled):
    """A compiled RobustClassifier."""
    import keras

    from fastbat_tf import Plan, RobustClassifier, methods

    keras.config.set_dtype_policy(PRECISION.value)
    classifier = build_classifier(WIDTH.value, MODEL.value)
    name, _, variant = name.partition("-")
    options = METHOD_SPECS[name].variants[variant].options if variant else {}
    robust = RobustClassifier(classifier, methods.get(name, **options))
    batch, steps = BATCH_SIZE.value, max(STEPS_PER_EXECUTION.value, 1)
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
            f"--steps_per_execution={STEPS_PER_EXECUTION.value}",
            f"--threads={THREADS.value}",
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
                f"--threads={THREADS.value}",
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, line="step"):
        """Returns the two numbers of an answer."""
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        first, second = self._process.stdout.readline().split()
        return Seconds(float(first), float(second))


def timed_step(robust):
    """A function that makes a step."""
    batch = make_batch()
    return lambda: robust.train_on_batch(*batch)


def timed_call(robust):
    """A function that makes the steps of a call."""
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
        logs, _ = steps.run(0, 0, count)
        float(logs["loss"])

    return call


def get_call(variant):
    """A function that makes the steps of a call, and returns its `Seconds`."""
    name, compiled = variant
    if compiled is None:
        return TorchStep(name.removeprefix("torch-")).ask
    robust = build(name, compiled)
    several = STEPS_PER_EXECUTION.value
    call = timed_call(robust) if several else timed_step(robust)

    def timed():
        wall, cpu = time.perf_counter(), time.process_time()
        call()
        return Seconds(time.perf_counter() - wall, time.process_time() - cpu)

    return timed


def measure(variants):
    """Times the variants, which take turns.

    Args:
        variants: List of pairs, the name of a method and whether XLA compiles
            it; None for a step of PyTorch.

    Returns:
        Dict from variants to `Measured`.
    """
    calls = {variant: get_call(variant) for variant in variants}
    first = {variant: call().wall for variant, call in calls.items()}
    times = {variant: [] for variant in variants}
    for _ in range(ROUNDS.value):
        for variant, call in calls.items():
            steps = 1 if variant[1] is None else STEPS_PER_EXECUTION.value or 1
            wall, cpu = call()
            times[variant].append(Seconds(wall / steps, cpu / steps))
    measured = {}
    for variant in variants:
        memory = None
        if MEMORY.value:
            is_torch = variant[1] is None
            memory = (
                calls[variant]("memory")[0] if is_torch else memory_of(*variant)
            )
        measured[variant] = Measured(first[variant], times[variant], memory)
    return measured


def prepare():
    """Sets the threads of TensorFlow, and the defaults on a GPU."""
    import tensorflow as tf

    if THREADS.value:
        tf.config.threading.set_intra_op_parallelism_threads(THREADS.value)
        tf.config.threading.set_inter_op_parallelism_threads(THREADS.value)
    if device.is_gpu():
        for name, value in ON_GPU.items():
            flags.FLAGS.set_default(name, value)


def main(_):
    """Prints the table."""
    prepare()
    compiled = [text == "true" for text in JIT_COMPILE.value]
    variants = [(name, xla) for xla in compiled for name in METHODS.value]
    if ONE_PROCESS.value:
        from fastbat_tf.distribution import peak_gigabytes

        call = get_call(variants[0])
        for _ in range(2):
            call()
        print(peak_gigabytes())
        return
    if TORCH_PYTHON.value:
        variants += [(f"torch-{name}", None) for name in TORCH_METHODS.value]
    print(
        f"{device.describe()}; {MODEL.value}, width {WIDTH.value}, batch "
        f"{BATCH_SIZE.value}, {PRECISION.value}, XLA "
        f"{'/'.join('on' if xla else 'off' for xla in compiled)}, "
        f"steps in a call: {STEPS_PER_EXECUTION.value or 1}, "
        f"threads: {THREADS.value or 'not limited'}, {ROUNDS.value} rounds",
        flush=True,
    )
    measured = measure(variants)
    print(
        "method                     XLA  first s  median s     CPU s  spread s"
        "         ratio  on paper  peak GB"
    )
    standard, rows = measured[variants[0]].median(), []
    for (name, xla), times in measured.items():
        passes = (TORCH_COSTS if xla is None else COSTS)[name]
        seconds = [step.wall for step in times.steps]
        row = {
            "method": name,
            "jit_compile": xla,
            "first_seconds": times.first,
            "median_seconds": times.median(),
            "median_cpu_seconds": times.median("cpu"),
            "seconds": seconds,
            "ratio": times.median() / standard,
            "forwards": passes.forwards,
            "backwards": (passes.to_images, passes.to_weights),
            "ratio_on_paper": passes.total() / COSTS["standard"].total(),
            "peak_gigabytes": times.memory,
        }
        rows.append(row)
        print(
            f"{name:<27}{'on' if xla else '':<4}{times.first:>8.1f}"
            f"{times.median():>10.4f}{times.median('cpu'):>10.4f}  "
            f"{min(seconds):.4f} - {max(seconds):.4f}{row['ratio']:>8.2f}"
            f"{row['ratio_on_paper']:>10.2f}"
            + (f"{times.memory:>9.2f}" if times.memory else "")
        )
    for xla in compiled:
        fastbat = measured.get(("fastbat", xla))
        published = measured.get((PUBLISHED, None))
        if fastbat and published:
            print(goals.compare(fastbat, published))
        if fastbat and device.is_gpu():
            print(goals.beside(fastbat, PRECISION.value))
    if JSON_FILE.value:
        with open(JSON_FILE.value, "w") as file:
            json.dump({"device": device.describe(), "steps": rows}, file)


if __name__ == "__main__":
    start(main)
