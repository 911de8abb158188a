"""A small run on cifar10_mini, on several workers or in one process."""

import dataclasses
import json
import os
import pathlib
import signal
from unittest import mock

import keras

import flags
from fastbat_tf import cluster, distribution
from fastbat_tf.errors import InputError, WorkerLostError
from fastbat_tf.experiment import train
from fastbat_tf.experiment.checkpointer import Checkpointer
from fastbat_tf.experiment.config import (
    Config,
    DataConfig,
    EvaluationConfig,
    MethodConfig,
    RuntimeConfig,
    TrainingConfig,
)
from fastbat_tf.training.options import OverfittingConfig

# 2 epochs of 3 steps, each saved.
CONFIG = Config(
    data=DataConfig("cifar10_mini", training_examples=24),
    method=MethodConfig("standard"),
    training=TrainingConfig(epochs=2, batch_size=8, loss="crossentropy"),
    overfitting=OverfittingConfig(on_overfitting="off"),
    evaluation=EvaluationConfig(
        attacks=("pgd-1-1",),
        max_examples=10,
        validation_attack="pgd-1-1",
        validation_examples=10,
    ),
    runtime=RuntimeConfig(
        strategy="auto",
        jit_compile="false",
        deterministic=True,
        save_every="1",
        collective_timeout="60",
    ),
)


def build_model(name, num_classes, input_shape, **options):
    """A linear network."""
    del name, options
    inputs = keras.Input(input_shape)
    x = keras.layers.AveragePooling2D(8)(inputs)
    x = keras.layers.Flatten()(x)
    return keras.Model(inputs, keras.layers.Dense(num_classes)(x))


def change(config, **groups):
    """Returns a `Config` with other settings in some of its groups."""
    changed = {
        name: dataclasses.replace(getattr(config, name), **settings)
        for name, settings in groups.items()
    }
    return dataclasses.replace(config, **changed)


def train_run(config, run_dir, die_at=None):
    """Trains; SIGKILL ends the process before its save number `die_at`."""
    saves = iter(range(1000))
    save = Checkpointer.save

    def save_or_die(self, snapshot):
        if next(saves) == die_at:
            os.kill(os.getpid(), signal.SIGKILL)
        save(self, snapshot)

    with mock.patch.object(Checkpointer, "save", save_or_die):
        try:
            return train.train(config, run_dir, build_model)
        except (InputError, WorkerLostError) as error:
            flags.fail(error)


def start_or_die(dies, seconds):
    """Starts TensorFlow, or ends when all workers have just come up."""
    wait = cluster.wait_for_all

    def wait_and_die(address, found, _):
        wait(address, found, 60)
        if dies:
            os.kill(os.getpid(), signal.SIGKILL)

    with mock.patch.object(cluster, "wait_for_all", wait_and_die):
        distribution.get_strategy("multiworker", seconds)


def train_runs(report, *runs):
    """Trains one run after another, and writes what each has returned."""
    found = []
    for config, run_dir in runs:
        try:
            found.append(train.train(config, run_dir, build_model))
        except InputError as error:
            found.append(str(error))
    pathlib.Path(report).write_text(json.dumps(found))
