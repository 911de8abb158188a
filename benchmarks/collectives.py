"""The bytes that the replicas of a training exchange in a step of each method.

    python -m benchmarks.collectives --write

A step is traced for two replicas, and the collective operations of its graph
are counted; nothing is trained. The table is that of docs/distributed.md, where
`--write` puts it between the lines `begin: bytes exchanged` and `end: bytes
exchanged`.
"""

import argparse
import functools
import math
import os
import re
from typing import Any, NamedTuple

from benchmarks.shared import TOP
from fastbat_tf.methods import METHODS
from fastbat_tf.methods.spec import costs

PAGE = TOP / "docs/distributed.md"
BLOCK = "bytes exchanged"
IMAGE_SHAPE = (32, 32, 3)
SYNCHRONIZED = " --sync_batch_norm"
ROWS = (
    *costs(METHODS),
    f"standard{SYNCHRONIZED}",
    f"fastbat{SYNCHRONIZED}",
)


class Traffic(NamedTuple):
    """What one replica gives to the others in a step.

    Attributes:
        reduced: Integer, bytes that are summed over the replicas.
        gathered: Integer, bytes that all replicas receive as they are.
        reductions: Integer, the number of sums.
        gathers: Integer, the number of gathers.
    """

    reduced: int = 0
    gathered: int = 0
    reductions: int = 0
    gathers: int = 0


def count(function: Any, replicas: int) -> Traffic:
    """Counts the collective operations in the graph of a step.

    Args:
        function: A concrete `tf.function` that runs a step on all replicas.
        replicas: Integer, the number of replicas. They do the same.

    Returns:
        The `Traffic` of one replica.

    Raises:
        ValueError: If a shape is unknown, or if an operation is in a loop, so
            that the graph does not tell how often it runs.
    """
    graph = function.graph.as_graph_def(add_shapes=True)
    library = {f.signature.name: f.node_def for f in graph.library.function}
    found = list(_collectives(graph.node, library))
    reduced = [size for kind, size in found if kind == "reduce"]
    gathered = [size for kind, size in found if kind == "gather"]
    numbers = sum(reduced), sum(gathered), len(reduced), len(gathered)
    return Traffic(*(number // replicas for number in numbers))


def _collectives(nodes, library):
    """Yields the kind of each collective, and the bytes that enter it."""
    by_name = {node.name: node for node in nodes}
    for node in nodes:
        called = [
            function.name
            for attribute in node.attr.values()
            for function in (attribute.func, *attribute.list.func)
            if function.name in library
        ]
        for name in called:
            inner = list(_collectives(library[name], library))
            if inner and "While" in node.op:
                raise ValueError(
                    "Collective operations are expected outside of loops. "
                    f"Received: node={node.name}"
                )
            yield from inner
        if node.op.startswith("Collective"):
            kind = "gather" if "Gather" in node.op else "reduce"
            yield kind, _bytes(node, by_name)


def _bytes(node, by_name):
    import tensorflow as tf

    source = node if "Reduce" in node.op else _input(node, by_name)
    # A gather pads to the longest batch; here all of them are equally long.
    while source.op in ("Pad", "Identity"):
        source = _input(source, by_name)
    shape = tf.TensorShape(source.attr["_output_shapes"].list.shape[0])
    if not shape.is_fully_defined():
        raise ValueError(
            "Expected an operation with a known shape. "
            f"Received: node={node.name}, shape={shape}"
        )
    return math.prod(shape) * tf.as_dtype(node.attr["T"].type).size


def _input(node, by_name):
    return by_name[node.input[0].split(":")[0]]


def build(name: str, *, width: int, batch: int, strategy: Any) -> Any:
    """Builds a PreActResNet-18 that is trained by a method.

    Args:
        name: String, `METHOD` or `METHOD-VARIANT`, with the suffix
            ` --sync_batch_norm` if the replicas share the statistics of
            BatchNormalization.
        width: Integer, channels of the first group.
        batch: Integer, the number of images of one replica.
        strategy: A `tf.distribute.Strategy`.

    Returns:
        A compiled `RobustClassifier`.
    """
    import keras

    from fastbat_tf import Plan, RobustClassifier, methods, models

    method, _, flag = name.partition(" ")
    method, _, variant = method.partition("-")
    options = METHODS[method].variants[variant].options if variant else {}
    normalization = keras.layers.BatchNormalization
    if flag:
        normalization = functools.partial(normalization, synchronized=True)
    whole = batch * strategy.num_replicas_in_sync
    with strategy.scope():
        network = models.preact_resnet18(
            width=width, batch_normalization=normalization
        )
        robust = RobustClassifier(network, methods.get(method, **options))
        return robust.compile("sgd", plan=Plan(2, 1, whole, examples=whole))


def step_on_replicas(
    robust: Any, image_shape: tuple, batch: int
) -> tuple[Any, Any]:
    """Makes a function that runs a step on all replicas, and a batch for it.

    Args:
        robust: A compiled `RobustClassifier`.
        image_shape: Tuple `(height, width, channels)`.
        batch: Integer, the number of images of one replica.

    Returns:
        A `tf.function`, and its argument.
    """
    import tensorflow as tf

    strategy = robust.distribute_strategy
    classes = robust.network.outputs.classes

    def replica_batch(context):
        first = batch * context.replica_id_in_sync_group
        index = tf.range(first, first + batch)
        images = tf.random.stateless_uniform((batch, *image_shape), (0, first))
        labels = tf.random.stateless_uniform(
            (batch,), (1, first), 0, classes, tf.int32
        )
        return {"images": images, "index": index}, labels

    data = strategy.experimental_distribute_values_from_function(replica_batch)
    robust.make_train_function()
    step = tf.function(
        lambda data: strategy.run(robust.train_step, (data,)), autograph=False
    )
    return step, data


def traffic(robust: Any, image_shape: tuple, batch: int) -> Traffic:
    """Counts the bytes that a training step exchanges.

    Args:
        robust: A compiled `RobustClassifier`, made in the scope of a strategy
            of several replicas.
        image_shape: Tuple `(height, width, channels)`.
        batch: Integer, the number of images of one replica.

    Returns:
        The `Traffic` of one replica.
    """
    step, data = step_on_replicas(robust, image_shape, batch)
    return count(
        step.get_concrete_function(data),
        robust.distribute_strategy.num_replicas_in_sync,
    )


def write_table(found: dict[str, Traffic], batch: int) -> str:
    """Writes the table of the page, with a row for methods that are alike.

    Args:
        found: Dict of the `Traffic`s of a replica by the names of the methods.
        batch: Integer, the number of images of one replica.
    """
    rows = {}
    for name, traffic in found.items():
        cells = (
            f"{traffic.reduced / 1e6:.1f} | {traffic.reductions} | "
            f"{traffic.gathered / batch / 1e3:.1f} | {traffic.gathers}"
        )
        rows.setdefault(cells, []).append(f"`{name}`")
    return "\n".join(
        [
            "| method | all-reduced (MB) | in how many sums | gathered (kB an "
            "image) | in how many gathers |",
            "|---|---|---|---|---|",
            *(f"| {', '.join(names)} | {row} |" for row, names in rows.items()),
        ]
    )


def read_table(page: str, batch: int) -> dict[str, Traffic]:
    """Reads the table of the page, as exactly as it was rounded.

    Args:
        page: String.
        batch: Integer, the number of images of one replica.

    Returns:
        Dict of `Traffic`s by the names of the methods.
    """
    _, _, rest = page.partition(f"<!-- begin: {BLOCK} -->")
    table, _, _ = rest.partition(f"<!-- end: {BLOCK} -->")
    read = {}
    for row in re.findall(r"(?m)^\| (`.*) \|$", table):
        names, reduced, reductions, gathered, gathers = row.split(" | ")
        traffic = Traffic(
            round(float(reduced) * 1e6),
            round(float(gathered) * 1e3 * batch),
            int(reductions),
            int(gathers),
        )
        read |= dict.fromkeys(re.findall("`(.*?)`", names), traffic)
    return read


def write_block(name: str, text: str) -> None:
    """Writes a generated block of the page.

    Args:
        name: String, the name between the lines that begin and end it.
        text: String.
    """
    from fastbat_tf.methods.generate import fill

    begin, end = f"<!-- begin: {name} -->", f"<!-- end: {name} -->"
    PAGE.write_text(fill(PAGE.read_text(), begin, end, f"\n{text}\n"))


def main() -> None:
    """Prints the table, or writes it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--methods", default=",".join(ROWS))
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument(
        "--batch_size", type=int, default=128, help="Images of one replica."
    )
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow as tf

    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0],
        [tf.config.LogicalDeviceConfiguration()] * 2,
    )
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    rows, batch = {}, arguments.batch_size
    for name in arguments.methods.split(","):
        robust = build(
            name, width=arguments.width, batch=batch, strategy=strategy
        )
        rows[name] = traffic(robust, IMAGE_SHAPE, batch)
        print(name, *rows[name], flush=True)
    table = write_table(rows, batch)
    print(table)
    if arguments.write:
        write_block(BLOCK, table)


if __name__ == "__main__":
    main()
