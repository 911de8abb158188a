"""The training loop of a run, which can stop and resume at any batch.

Keras' `fit` can only begin at the start of an epoch. This loop begins at any
batch, and otherwise does the same as `fit`, with the same `train_function` and
the same callbacks.
"""

import keras
import tensorflow as tf

from fastbat_tf.experiment import execution
from fastbat_tf.experiment.preemption import Preempted


def fit(
    robust,
    make_batches,
    *,
    epochs,
    steps_per_epoch,
    validations,
    callbacks,
    checkpointer,
    preemption,
    steps_per_execution=1,
    resident=None,
):
    """Trains from the last checkpoint to the end.

    Args:
        robust: A compiled `RobustClassifier`.
        make_batches: Function from the number of batches to skip, an integer,
            to an endless `tf.data.Dataset`.
        epochs: Integer.
        steps_per_epoch: Integer.
        validations: List of callbacks that add to the logs of an epoch. They
            may take long, and signals interrupt them.
        callbacks: List of the other callbacks.
        checkpointer: A `Checkpointer`.
        preemption: A `Preemption`.
        steps_per_execution: Integer, the most steps of a call of TensorFlow.
            Calls end at the end of an epoch, and where a checkpoint is due.
            Defaults to `1`.
        resident: A `ResidentBatches` of the same batches, if the data are in
            memory. Defaults to `None`.

    Returns:
        Whether there was anything left to do.

    Raises:
        Preempted: After a checkpoint, on SIGTERM or Ctrl-C.
    """
    make_variables(robust)
    resume_point = checkpointer.restore()
    if resume_point is None:
        resume_point = 0, 0
        # From now on, files that grow can be restored.
        checkpointer.save(checkpointer.snapshot(*resume_point))
    epoch, batch = resume_point
    if epoch == epochs:
        return False
    loop = _Loop(
        robust,
        execution.create(
            robust,
            steps=steps_per_execution,
            make_batches=make_batches,
            resident=resident,
            first=epoch * steps_per_epoch + batch,
        ),
        resume_point,
        epochs=epochs,
        steps_per_epoch=steps_per_epoch,
        validations=validations,
        callbacks=callbacks,
        checkpointer=checkpointer,
        preemption=preemption,
    )
    loop.run()
    return (loop.epoch, loop.batch) != resume_point


def make_variables(robust):
    """Creates the variables that Keras creates in the first step.

    They belong to the optimizer and to the metrics. A checkpoint can be
    restored only once they exist.
    """
    shape = (robust.distribute_strategy.num_replicas_in_sync,)
    images = tf.zeros(shape + robust.classifier.input_shape[1:])
    logits = tf.zeros(shape + robust.classifier.output_shape[1:])
    with robust.distribute_strategy.scope():
        robust.optimizer.build(robust.trainable_variables)
        robust.compute_metrics(images, tf.zeros(shape, tf.int32), logits)
    robust.reset_metrics()


class _Loop:
    """One call of `fit`.

    Attributes:
        epoch: Integer, the number of finished epochs.
        batch: Integer, the number of finished batches of the next epoch.
    """

    def __init__(
        self,
        robust,
        execution,
        resume_point,
        *,
        epochs,
        steps_per_epoch,
        validations,
        callbacks,
        checkpointer,
        preemption,
    ):
        self.epoch, self.batch = resume_point
        self._robust = robust
        self._execution = execution
        self._epochs, self._steps = epochs, steps_per_epoch
        self._validations = validations
        self._callbacks = keras.callbacks.CallbackList(
            callbacks, model=robust, epochs=epochs, steps=steps_per_epoch
        )
        self._checkpointer = checkpointer
        self._preemption = preemption
        self._snapshot = None  # While validations run.
        self._is_compiled = False

    def run(self):
        """Trains to the end, and saves if it is preempted."""
        for validation in self._validations:
            validation.set_model(self._robust)
        self._robust.stop_training = False
        self._callbacks.on_train_begin()
        try:
            while self.epoch < self._epochs and not self._robust.stop_training:
                self._callbacks.on_epoch_begin(self.epoch)
                while self.batch < self._steps:
                    self._run_steps()
                self._end_epoch()
        except Preempted:
            self._checkpointer.save(self._snapshot or self._take_snapshot())
            raise
        self._callbacks.on_train_end()

    def _run_steps(self):
        """Makes the steps of one call."""
        count = min(
            self._execution.steps,
            self._steps - self.batch,
            self._checkpointer.steps_until_due,
        )
        with self._preemption.deferred():
            self._callbacks.on_train_batch_begin(self.batch)
            # The first step compiles; until it ends, the last checkpoint is
            # up to date.
            with self._preemption.expendable(not self._is_compiled):
                logs, made = self._execution.run(self.epoch, self.batch, count)
            self._is_compiled = True
            self._callbacks.on_train_batch_end(self.batch + made - 1, logs)
            self.batch += made
            if self.batch < self._steps:
                self._checkpointer.save_if_due(self.epoch, self.batch, made)

    def _end_epoch(self):
        results = self._robust.get_metrics_result()
        logs = {name: float(value) for name, value in results.items()}
        # Taken now: the validation swaps in the averaged weights.
        self._snapshot = self._take_snapshot()
        with self._preemption.interruptible():
            for validation in self._validations:
                validation.on_epoch_end(self.epoch, logs)
        with self._preemption.deferred():
            self._snapshot = None
            self._callbacks.on_epoch_end(self.epoch, logs)
            self._robust.reset_metrics()
            self.epoch, self.batch = self.epoch + 1, 0
            self._checkpointer.save(self._take_snapshot())

    def _take_snapshot(self):
        return self._checkpointer.snapshot(self.epoch, self.batch)
