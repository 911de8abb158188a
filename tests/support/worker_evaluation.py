"""What each of several workers measures, in one process after the other."""

import json
import pathlib

import keras
import numpy as np
import tensorflow as tf

import fastbat_tf as fb
import flags
from fastbat_tf import distribution
from fastbat_tf.errors import InputError, WorkerLostError
from fastbat_tf.evaluation.robustness import evaluate_robustness
from fastbat_tf.experiment import evaluate
from fastbat_tf.experiment.building import build_robust
from fastbat_tf.experiment.config import Target
from fastbat_tf.experiment.run_directory import RunDirectory
from fastbat_tf.training.callbacks import save_weights
from tests.support.testing import images_and_labels, small_network
from tests.support.worker_training import CONFIG, build_model, change

EXAMPLES = 7


def make_run(run_dir):
    """Makes a run directory with weights, and nothing else."""
    keras.utils.set_random_seed(0)
    run = RunDirectory(run_dir)
    run.create(CONFIG)
    save_weights(build_robust(CONFIG, build_model), run.best)


def measure(report, directory, run_dir=None):
    """Measures a network in every way, and writes what it has found.

    Args:
        report: Path of a JSON file.
        directory: Path of the directory of the evaluations.
        run_dir: Path of a run to measure, or None.
    """
    strategy = distribution.get_strategy("auto", 60)
    with strategy.scope():
        robust = fb.RobustClassifier(
            small_network(normalization=keras.layers.BatchNormalization),
            fb.Standard(),
        )
    # As after some steps of training.
    for variable in robust.classifier.non_trainable_variables:
        if "moving" in variable.name:
            random = np.random.default_rng(len(variable.path))
            variable.assign(random.uniform(0.5, 1.5, variable.shape))
    images, _ = images_and_labels(EXAMPLES)
    logits = robust.classifier(tf.constant(images), training=False)
    data = images, np.asarray(logits).argmax(-1)
    found = {
        "evaluation": evaluate_robustness(
            robust.classifier,
            data,
            ["pgd-3-2", "square-20"],
            0.03,
            batch_size=2,
            jit_compile=False,
            directory=directory,
        )
    }
    logs = {}
    for callback in (
        fb.RobustAccuracy(data, fb.attacks.PGD(0.03, steps=3)),
        fb.OverfittingScores(
            data,
            fb.attacks.FGSM(0.03),
            fb.GradientAlignment(robust.network, batch_size=4),
        ),
    ):
        callback.set_model(robust)
        callback.on_train_begin()
        callback.on_epoch_end(0, logs)
    found["logs"] = logs
    if run_dir is not None:
        found["run"] = measure_run(run_dir)
    pathlib.Path(report).write_text(json.dumps(found))


def measure_run(run_dir, attack="pgd-1-1"):
    config = change(
        CONFIG,
        evaluation={"attacks": (attack,)},
        runtime={"deterministic": False},
    )
    try:
        return evaluate.evaluate(config, Target(), str(run_dir), build_model)
    except (InputError, WorkerLostError) as error:
        flags.fail(error)
