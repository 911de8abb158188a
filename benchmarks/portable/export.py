"""Exports a training step and attacks as StableHLO for any PJRT device.

    python -m benchmarks.portable.export --method=fastbat --dataset=cifar10 \
        --run_dir=runs/portable

takes the flags of `main.py`, and creates a run directory with a folder
`portable/`, which holds

    description.json  the inputs and outputs of the computations, and how
                      often to call them
    train.mlir        the whole step: gathers and augments a batch, solves the
                      lower-level problem, computes the gradients, and updates
                      weights, velocities, moving statistics and metrics
    classify.mlir     the logits of a batch
    pgd-50-10.mlir    ten steps of an attack on a batch; one file per attack
    initial.npz       the initial values of all variables, by path
    order.npy         the examples in each batch of each epoch
    data.npz          the three splits, uint8 (or `--data_file`)

The computations are those that XLA compiles for `RobustClassifier.train_step`
and `SteppedAttack.advance`, so no step is written twice. To train and measure
with them, `benchmarks.portable.run` needs only NumPy and JAX.
"""

import hashlib
import json
import os
import pathlib

import numpy as np
from absl import app, logging
from absl import flags as absl_flags

import flags
from fastbat_tf.errors import InputError
from fastbat_tf.runtime import environment

# The attacks whose random starts `benchmarks.portable.measure` draws.
PORTABLE = ("pgd", "apgd-ce", "apgd-dlr", "apgd-t")

DATA_FILE = absl_flags.DEFINE_string(
    "data_file",
    None,
    "File for the images, written unless it exists (default: data.npz in the "
    "folder of the computations).",
)


def export(config, run_dir, build_model, data_file=None):
    """Exports the computations of a run.

    Args:
        config: A `Config`.
        run_dir: Path of a new run directory.
        build_model: Function that builds a model, such as `models.get`.
        data_file: Path of the `.npz` file of the images, which is written
            unless it exists. Defaults to None, which writes `data.npz` to the
            folder of the computations.

    Returns:
        The `pathlib.Path` of the folder with the computations.

    Raises:
        InputError: If the directory, the data or the method cannot be used.
    """
    import keras

    from fastbat_tf.attacks.models import logits_of
    from fastbat_tf.data import loading, pipeline
    from fastbat_tf.experiment import building, callbacks
    from fastbat_tf.experiment.run_directory import RunDirectory
    from fastbat_tf.files import write_json
    from fastbat_tf.saving import stablehlo

    directory = RunDirectory(run_dir)
    directory.check(config, "never")
    training, settings = config.training, config.evaluation
    _check(config)
    splits = loading.load_splits(config.data)
    if not all(isinstance(split, loading.Examples) for split in splits):
        raise InputError(
            "A streamed data set cannot be exported; expected one that fits "
            f"in memory. Received: dataset={config.data.dataset}"
        )
    keras.utils.set_random_seed(training.seed)
    robust = building.build_initial(config, build_model)
    if robust.method.replays != 1:
        raise InputError(
            "A method that replays its batches cannot be exported; expected "
            f"replays=1. Received: replays={robust.method.replays}"
        )
    steps_per_epoch = pipeline.batches_per_epoch(
        splits.train, training.batch_size
    )
    building.compile_robust(config, robust, steps_per_epoch, splits.train.size)
    robust.optimizer.build(robust.trainable_variables)
    network = logits_of(robust.classifier)
    attacks = {
        name: get_stages(name, network, settings.batch_size)
        for name in (settings.validation_attack, *settings.attacks)
    }
    stages = {k: v for attack in attacks.values() for k, v in attack.items()}

    directory.create(config)
    folder = directory.path / "portable"
    folder.mkdir(exist_ok=True)
    computations = {
        name: stablehlo.write(
            folder / f"{name}.mlir", function, arguments, robust
        )
        for name, function, arguments in (
            classify(config, robust, splits.test),
            *(
                advance(config, attack, name, splits.test)
                for name, attack in stages.items()
            ),
            train_step(config, robust, splits.train),
        )
    }
    initial = {path: v.numpy() for path, v in stablehlo.get_variables(robust)}
    for computation in computations.values():
        initial |= computation.pop("constants")
    np.savez_compressed(folder / "initial.npz", **initial)
    np.save(folder / "order.npy", _orders(training, len(splits.train.labels)))
    arrays = _arrays(splits)
    data_file = pathlib.Path(data_file or folder / "data.npz")
    if not data_file.exists():
        np.savez(data_file, **arrays)
    description = {
        "computations": computations,
        "classifier": [v.path for v in robust.classifier.variables],
        "reset_every_epoch": [
            v.path for metric in robust.metrics for v in metric.variables
        ],
        "epochs": training.epochs,
        "steps_per_epoch": steps_per_epoch,
        "monitor": callbacks.monitored_column(config),
        "attacks": {name: list(attack) for name, attack in attacks.items()},
        "stages": {
            name: {
                "seeded_by": attack.name,
                "steps": attack.attack.steps,
                "rounds": attack.rounds(robust.classifier.output_shape[-1]),
            }
            for name, attack in stages.items()
        },
        "evaluation": config.to_dict()["evaluation"],
        "seed": training.seed,
        "data": {name: _digest(array) for name, array in arrays.items()},
    }
    write_json(folder / "description.json", description)
    return folder


def _check(config):
    """Rejects settings that an export does not support."""
    evaluation, runtime = config.evaluation, config.runtime
    for name, value, expected in (
        ("norm", evaluation.norm, ("linf",)),
        ("max_examples", evaluation.max_examples, (0,)),
        ("strategy", runtime.strategy, ("auto", "none")),
        ("jit_compile", runtime.jit_compile, ("auto", "true")),
        # The states of Keras' random generators are not exported.
        ("dropout", config.model.dropout, (None, 0.0)),
    ):
        if value not in expected:
            raise InputError(
                f"An export expects `{name}` to be one of {expected}. "
                f"Received: {name}={value}"
            )


def train_step(config, robust, examples):
    """The training step: its name, function and arguments."""
    import tensorflow as tf

    from fastbat_tf.draws import Draws

    def train(images, labels, chosen, epoch, batch):
        draws = Draws(config.training.seed, epoch, batch)
        augmentation = config.data.augmentation
        images, labels = _pick(images, labels, chosen, draws, augmentation)
        return robust.train_step(({"images": images, "index": chosen}, labels))

    arguments = {
        "images": tf.TensorSpec(examples.images.shape, tf.uint8),
        "labels": tf.TensorSpec(examples.labels.shape, tf.int32),
        "chosen": tf.TensorSpec([config.training.batch_size], tf.int32),
        "epoch": tf.TensorSpec([], tf.int32),
        "batch": tf.TensorSpec([], tf.int32),
    }
    return "train", train, arguments


def _pick(images, labels, chosen, draws, augmentation):
    """Makes one training batch from tensors.

    Args:
        images: uint8 tensor `(examples, height, width, channels)`.
        labels: int32 tensor `(examples,)`.
        chosen: Integer tensor `(batch_size,)` of static shape.
        draws: The `Draws` of the augmentation.
        augmentation: A `fastbat_tf.data.Augmentation`, or None.

    Returns:
        Images, float32 in [0, 1], and labels.
    """
    import tensorflow as tf

    from fastbat_tf.data.augmentation import augment, to_pixels

    picked = augment(tf.gather(images, chosen), draws, augmentation)
    return to_pixels(picked), tf.gather(labels, chosen)


def classify(config, robust, examples):
    """The logits of a batch: name, function and arguments."""
    import tensorflow as tf

    from fastbat_tf.attacks.models import logits_of

    network = logits_of(robust.classifier)
    size = min(config.evaluation.batch_size, len(examples.labels))
    spec = tf.TensorSpec((size, *examples.images.shape[1:]), tf.float32)
    return "classify", lambda x: {"logits": network(x)}, {"images": spec}


def advance(config, attack, name, examples):
    """A stride of a bound attack on a batch: name, function and arguments.

    The arguments are the problem and the state of a `SteppedAttack`, named
    `problem/...` and `state/...`, and epsilon.
    """
    import tensorflow as tf

    size = min(config.evaluation.batch_size, len(examples.labels))
    images = examples.images[:size].astype("float32")
    labels = examples.labels[:size]
    generators = [np.random.default_rng(0)] * size
    stepped = attack.attack
    problem, state = stepped.begin(images, labels, labels, 0.0, generators)
    given = {f"problem/{key}": value for key, value in problem.items()}
    given |= {f"state/{key}": value for key, value in state.items()}
    arguments = {
        key: tf.TensorSpec.from_tensor(value) for key, value in given.items()
    }

    def stride(*values):
        named = dict(zip(given, values, strict=False))
        problem, state = (
            {
                key.removeprefix(f"{kind}/"): value
                for key, value in named.items()
                if key.startswith(f"{kind}/")
            }
            for kind in ("problem", "state")
        )
        return stepped.advance(attack.network, problem, state, values[-1])

    return name, stride, {**arguments, "epsilon": tf.TensorSpec([], tf.float32)}


def get_stages(name, network, batch_size):
    """Builds the stages of an attack.

    Args:
        name: A name that `fastbat_tf.attacks.parse` takes.
        network: Callable from images to logits.
        batch_size: Integer.

    Returns:
        Dict from names to `SteppedAttack`s; several for an ensemble.

    Raises:
        InputError: If `benchmarks.portable.measure` cannot draw the random
            starts of the attack.
    """
    from fastbat_tf import attacks

    for part in name.split("+"):
        if attacks.parse(part).key not in PORTABLE:
            raise InputError(
                f"Expected one of {', '.join(PORTABLE)}, or several of them "
                f"joined by +. Received: attack={name}"
            )
    attack = attacks.get(name, network, batch_size=batch_size)
    return dict(zip(name.split("+"), attack.stages(), strict=True))


def _orders(training, count):
    from fastbat_tf.data import pipeline

    given = (count, training.batch_size, training.seed)
    return np.stack(
        [pipeline.epoch_order(*given, e) for e in range(training.epochs)]
    )


def _arrays(splits):
    return {
        f"{split}_{field}": array
        for split, examples in splits._asdict().items()
        for field, array in examples._asdict().items()
    }


def _digest(array):
    return hashlib.sha256(np.ascontiguousarray(array)).hexdigest()


def main(_):
    """Exports the run that the flags describe."""
    try:
        command = flags.get_command()
        from fastbat_tf import models

        folder = export(
            command.config, command.run_dir, models.get, DATA_FILE.value
        )
    except InputError as error:
        flags.fail(error)
    size = sum(file.stat().st_size for file in folder.iterdir())
    print(json.dumps({"portable": str(folder), "bytes": size}))


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    environment.enable_onednn()
    logging.set_verbosity(logging.ERROR)
    app.run(main, flags_parser=flags.parse)
