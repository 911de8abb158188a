"""Writes a training step and an attack as StableHLO for any PJRT device.

    python -m benchmarks.portable.export --method=fastbat --dataset=cifar10 \
        --run_dir=runs/portable

takes the flags of `main.py` and makes a run directory with, in `portable/`,

    description.json  the inputs and outputs of the computations, and how
                      often to call them
    train.mlir        the whole step: gathers and augments a batch, solves the
                      lower level, takes the gradients, and updates weights,
                      velocities, moving statistics and metrics
    classify.mlir     the logits of a batch
    pgd-50-10.mlir    ten steps of an attack on a batch; one file for each
    initial.npz       the initial value of every variable, by its path
    order.npy         which examples are in each batch of each epoch
    data.npz          the three splits, uint8 (or `--data_file`)

The computations are those that XLA compiles for `RobustClassifier.train_step`
and `Attack.advance`: no step is written twice. `benchmarks.portable.run` trains
and measures with them, and needs NumPy and JAX alone.
"""

import hashlib
import json
import os
import pathlib
import re

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
    "Where the images are written, if no such file is there yet (default: "
    "data.npz beside the computations).",
)


def export(config, run_dir, build_model, data_file=None):
    """Writes the computations of a run.

    Args:
        config: A `Config`.
        run_dir: Path of a new run directory.
        build_model: As for `fastbat_tf.experiment.train.train`.
        data_file: Path of the `.npz` of the images, written unless it exists;
            `data.npz` in the directory if None.

    Returns:
        The `pathlib.Path` of the folder with the computations.

    Raises:
        InputError: If the directory, the data or the method cannot be used.
    """
    import keras

    from fastbat_tf.data import loading, pipeline
    from fastbat_tf.experiment import building, callbacks
    from fastbat_tf.experiment.run_directory import RunDirectory
    from fastbat_tf.files import write_json
    from fastbat_tf.saving import model_files

    directory = RunDirectory(run_dir)
    directory.check(config, "never")
    training, settings = config.training, config.evaluation
    _check(config)
    splits = loading.load_splits(config.data)
    if not all(isinstance(split, loading.Examples) for split in splits):
        raise InputError(
            "A data set that is streamed is not exported; expected one that "
            f"fits into memory. Received: dataset={config.data.dataset}"
        )
    keras.utils.set_random_seed(training.seed)
    robust = building.build_initial(config, build_model)
    if robust.method.replays != 1:
        raise InputError(
            "A method that replays its batches is not exported; expected "
            f"replays=1. Received: replays={robust.method.replays}"
        )
    steps_per_epoch = pipeline.batches_per_epoch(
        splits.train, training.batch_size
    )
    building.compile_robust(config, robust, steps_per_epoch, splits.train.size)
    robust.optimizer.build(robust.trainable_variables)
    network = model_files.logits_of(robust.classifier)
    attacks = {
        name: get_stages(name, network, settings.batch_size)
        for name in (settings.validation_attack, *settings.attacks)
    }
    stages = {k: v for attack in attacks.values() for k, v in attack.items()}

    directory.create(config)
    folder = directory.path / "portable"
    folder.mkdir(exist_ok=True)
    computations = {
        name: _write(folder / f"{name}.mlir", function, arguments, robust)
        for name, function, arguments in (
            classify(config, robust, splits.test),
            *(
                advance(config, attack, name, splits.test)
                for name, attack in stages.items()
            ),
            train_step(config, robust, splits.train),
        )
    }
    initial = {path: v.numpy() for path, v in get_variables(robust)}
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
                "steps": attack.steps,
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
    """Refuses settings that an export cannot keep."""
    evaluation, runtime = config.evaluation, config.runtime
    for name, value, expected in (
        ("norm", evaluation.norm, ("linf",)),
        ("max_examples", evaluation.max_examples, (0,)),
        ("strategy", runtime.strategy, ("auto", "none")),
        ("jit_compile", runtime.jit_compile, ("auto", "true")),
        # The states of Keras' random numbers are not among its variables.
        ("dropout", config.model.dropout, (None, 0.0)),
    ):
        if value not in expected:
            raise InputError(
                f"An export expects `{name}` to be one of {expected}. "
                f"Received: {name}={value}"
            )


def train_step(config, robust, examples):
    """The training step as (name, function, its arguments)."""
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
    """Makes one training batch of tensors.

    Args:
        images: uint8 tensor `(examples, height, width, channels)`.
        labels: int32 tensor `(examples,)`.
        chosen: Integer tensor `(batch_size,)` of a static shape.
        draws: The `Draws` of the augmentation.
        augmentation: A `fastbat_tf.data.Augmentation`, None for none.

    Returns:
        Images, float32 in [0, 1], and labels.
    """
    import tensorflow as tf

    from fastbat_tf.data.augmentation import augment, to_pixels

    picked = augment(tf.gather(images, chosen), draws, augmentation)
    return to_pixels(picked), tf.gather(labels, chosen)


def classify(config, robust, examples):
    """The logits of a batch as (name, function, its arguments)."""
    import tensorflow as tf

    from fastbat_tf.saving import model_files

    network = model_files.logits_of(robust.classifier)
    size = min(config.evaluation.batch_size, len(examples.labels))
    spec = tf.TensorSpec((size, *examples.images.shape[1:]), tf.float32)
    return "classify", lambda x: {"logits": network(x)}, {"images": spec}


def advance(config, attack, name, examples):
    """A stride of an attack on a batch as (name, function, its arguments).

    The arguments are the problem and the state as `SteppedAttack` describes
    them, by the names `problem/...` and `state/...`, and epsilon.
    """
    import tensorflow as tf

    size = min(config.evaluation.batch_size, len(examples.labels))
    images = examples.images[:size].astype("float32")
    labels = examples.labels[:size]
    generators = [np.random.default_rng(0)] * size
    problem, state = attack.begin(images, labels, labels, 0.0, generators)
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
        return attack.advance(problem, state, values[-1])

    return name, stride, {**arguments, "epsilon": tf.TensorSpec([], tf.float32)}


def get_stages(name, network, batch_size):
    """An attack as a dict of its parts by their names.

    Args:
        name: As `fastbat_tf.attacks.parse` takes it.
        network: Callable from images to logits.
        batch_size: Integer.

    Returns:
        Dict of `Attack`s by name; one, or several for an ensemble.

    Raises:
        InputError: If its starts are more than `benchmarks.portable.measure`
            can draw.
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


def get_variables(robust):
    """All variables of a training as (path, `keras.Variable`) pairs.

    Raises:
        InputError: If two of them have one path.
    """
    variables = {id(v): v for v in robust.variables}
    variables |= {id(v): v for v in robust.optimizer.variables}
    for metric in robust.metrics:
        variables |= {id(v): v for v in metric.variables}
    pairs = [(v.path, v) for v in variables.values()]
    paths = [path for path, _ in pairs]
    twice = sorted({path for path in paths if paths.count(path) > 1})
    if twice:
        raise InputError(
            "Every variable is expected to have a path of its own. "
            f"Received: path={twice[0]}"
        )
    return pairs


def _write(file, function, arguments, robust):
    """Writes StableHLO; returns the description of inputs and outputs."""
    import tensorflow as tf

    compiled = tf.function(function, jit_compile=True, autograph=False)
    concrete = compiled.get_concrete_function(*arguments.values())
    results = sorted(concrete.structured_outputs)
    inputs = [
        {"argument": name, "shape": list(spec.shape), "dtype": spec.dtype.name}
        for name, spec in arguments.items()
    ]
    paths = {id(v.value.handle): path for path, v in get_variables(robust)}
    constants = {}
    for tensor in concrete.captured_inputs:
        path = paths.get(id(tensor))
        if path is None:  # Such as the mean of a normalization.
            path = f"{file.stem}_constant{len(constants)}"
            constants[path] = tensor.numpy()
        inputs.append({"state": path})

    get_ir = compiled.experimental_get_compiler_ir(*arguments.values())
    text = get_ir(stage="hlo")
    # The header says which output is the new value of which input.
    aliases = {
        int(output): int(given)
        for output, given in re.findall(
            r"\{(\d+)\}: \((\d+), \{\}", text.partition("\n")[0]
        )
    }
    parameters = text.partition("\nENTRY")[2].count(" parameter(")
    expected = range(len(results), len(results) + len(aliases))
    # XLA leaves results out that are the same in every step.
    if parameters != len(inputs) or sorted(aliases) != list(expected):
        raise InputError(
            f"The computation is expected to have {len(inputs)} parameters "
            f"and {len(results)} results before its new state. "
            f"Received: parameters={parameters}, aliases={aliases}"
        )
    outputs = [{"result": name} for name in results]
    outputs += [inputs[aliases[output]] for output in expected]
    file.write_text(_plain(get_ir(stage="stablehlo")))
    return {
        "file": file.name,
        "inputs": inputs,
        "outputs": outputs,
        "constants": constants,
    }


def _plain(text):
    """StableHLO without the one operation of another dialect, copies.

    Only some devices know that one; a reshape to the same shape is the same.
    """
    text = re.sub(
        r" = mhlo\.copy (%[\w#]+) : (tensor<[^>]*>)",
        r" = stablehlo.reshape \1 : (\2) -> \2",
        text,
    )
    foreign = re.search(r"= \"?((?:mhlo|chlo)\.\w+)", text)
    if foreign:
        raise InputError(
            "The computation is expected to be StableHLO only. "
            f"Received: operation={foreign[1]}"
        )
    return text


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
    """Exports what the flags say."""
    try:
        command = flags.get_command()
        import models

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
