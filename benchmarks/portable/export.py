"""Exports the training of a run as StableHLO, for any PJRT device.

    python -m benchmarks.portable.export --method=fastbat --dataset=cifar10 \
        --run_dir=runs/portable

takes the flags of `main.py`, and creates a run directory with a folder
`portable/`: the step as `fastbat_tf.saving.stablehlo.export_step` writes it,
which also reads and augments its batch, and `data.npz`, with the training
images as uint8, their labels, and the order of the examples in each epoch.
`benchmarks.portable.run` trains with them; it needs only NumPy and JAX.
"""

import numpy as np

import flags
from benchmarks.shared import start
from fastbat_tf.errors import InputError


def export(config, run_dir, build_model):
    """Exports the training of a run.

    Args:
        config: A `Config`.
        run_dir: Path of a new run directory.
        build_model: Function that builds a model, such as `models.get`.

    Returns:
        The `pathlib.Path` of the folder with the files.

    Raises:
        InputError: If the directory, the data or the method cannot be used.
    """
    import keras

    from fastbat_tf.data import loading, pipeline
    from fastbat_tf.data.resident import ResidentBatches
    from fastbat_tf.experiment import building
    from fastbat_tf.experiment.run_directory import RunDirectory
    from fastbat_tf.saving import stablehlo

    directory = RunDirectory(run_dir)
    directory.check(config, "never")
    _check(config)
    training = config.training
    examples = loading.load_splits(config.data).train
    if not isinstance(examples, loading.Examples):
        raise InputError(
            "A streamed data set cannot be exported; expected one that fits "
            f"in memory. Received: dataset={config.data.dataset}"
        )
    keras.utils.set_random_seed(training.seed)
    robust = building.build_initial(config, build_model)
    steps = pipeline.batches_per_epoch(examples, training.batch_size)
    building.compile_robust(config, robust, steps, examples.size)
    batches = ResidentBatches(
        examples,
        training.batch_size,
        training.seed,
        augmentation=config.data.augmentation,
        with_index=robust.method.remembers_examples,
    )
    orders = [batches.order(epoch) for epoch in range(training.epochs)]

    def read(images, labels, order, *, epoch, batch):
        return batches.read((images, labels), order, epoch=epoch, batch=batch)

    folder = directory.path / "portable"
    first = {"order": orders[0], "epoch": np.int64(0), "batch": np.int64(0)}
    arguments = {**examples._asdict(), **first}
    stablehlo.export_step(robust, arguments, folder, read)
    data = {**examples._asdict(), "order": np.stack(orders)}
    np.savez(folder / "data.npz", **data)
    directory.create(config)
    return folder


def _check(config):
    """Rejects settings that an export does not support."""
    training, runtime = config.training, config.runtime
    for name, value, expected in (
        ("strategy", runtime.strategy, ("auto", "none")),
        ("jit_compile", runtime.jit_compile, ("auto", "true")),
        # Only the weights themselves are loaded back.
        ("weight_averaging", training.weight_averaging, (None, 0.0)),
        # The states of Keras' random generators are not exported.
        ("dropout", config.model.dropout, (None, 0.0)),
    ):
        if value not in expected:
            raise InputError(
                f"An export expects `{name}` to be one of {expected}. "
                f"Received: {name}={value}"
            )


def main(_):
    """Exports the run that the flags describe."""
    try:
        command = flags.get_command()
        from fastbat_tf import models

        print(export(command.config, command.run_dir, models.get))
    except InputError as error:
        flags.fail(error)


if __name__ == "__main__":
    start(main, flags_parser=flags.parse)
