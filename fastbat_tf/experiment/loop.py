"""The training loop of a run, which can stop and resume at any batch.

Keras' `fit` can only begin at the start of an epoch. This loop begins at any
batch, and otherwise does the same as `fit`, with the same `train_function` and
the same callbacks.
"""

import keras
import tensorflow as tf

from fastbat_tf import workers
from fastbat_tf.data import pipeline
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
            to an endless `tf.data.Dataset` of the rows of this worker.
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

    def make_iterator(skipped):
        return iter(
            _distribute(make_batches(skipped), robust.distribute_strategy)
        )

    loop = _Loop(
        robust,
        execution.create(
            robust,
            steps=steps_per_execution,
            make_iterator=make_iterator,
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


def _distribute(batches, strategy):
    """Gives each replica of this worker its part of the batches."""
    everyone = workers.of(strategy)
    if everyone.count == 1:
        return strategy.experimental_distribute_dataset(batches)
    # TensorFlow would divide the files or the batches among the workers; these
    # are their own rows already.
    local = strategy.num_replicas_in_sync // everyone.count
    rows = tf.nest.flatten(batches.element_spec)[0].shape[0]
    batches = batches.rebatch(rows // local, drop_remainder=True)
    return strategy.distribute_datasets_from_function(
        lambda _: pipeline.endless(batches)
    )


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
        self._workers = workers.of(robust.distribute_strategy)
        self._snapshot = None  # While validations run.
        self._is_compiled = False
        self._has_ended = False

    def run(self):
        """Trains to the end, and saves if it is preempted."""
        for validation in self._validations:
            validation.set_model(self._robust)
        self._robust.stop_training = False
        self._callbacks.on_train_begin()
        try:
            # Workers can only stop together.
            with self._preemption.held(self._workers.count > 1):
                self._run_epochs()
        except Preempted:
            # The last epoch of several workers is saved, and they have left the
            # loop: nothing can be copied from them.
            if self._workers.count == 1 or not self._has_ended:
                self._checkpointer.save(self._snapshot or self._take_snapshot())
            raise
        except tf.errors.OpError:
            # Another worker has ended. What was copied before can be saved.
            if self._workers.count > 1 and self._snapshot:
                self._checkpointer.save(self._snapshot)
            raise
        self._callbacks.on_train_end()

    def _run_epochs(self):
        while self.epoch < self._epochs and not self._robust.stop_training:
            self._callbacks.on_epoch_begin(self.epoch)
            while self.batch < self._steps:
                self._run_steps()
            self._end_epoch()
        self._has_ended = True

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
            number, is_due = self._agree(self._checkpointer.is_due(made))
            if is_due and self.batch < self._steps:
                self._checkpointer.save(self._take_snapshot())
        if number:
            raise Preempted(number)

    def _agree(self, is_due):
        """Returns which signal any worker got, and whether any wants to save.

        A single process hears signals by itself.
        """
        if self._workers.count == 1:
            return 0, is_due
        both = 2 * self._preemption.requested + bool(is_due)
        return divmod(self._workers.highest(both), 2)

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
