"""Makes the steps of a run, several in one call of TensorFlow."""

import tensorflow as tf

from fastbat_tf.layers.assertions import raises_input_error
from fastbat_tf.training.step_metrics import GRADIENT_NORM

# The means over an epoch that end a call once they are not finite.
WATCHED = ("loss", GRADIENT_NORM)


def create(robust, *, steps, make_iterator, resident=None, first=0):
    """Creates what makes the steps of a run.

    Args:
        robust: A compiled `RobustClassifier`, whose variables exist.
        steps: Integer, the most steps of a call.
        make_iterator: Function from the number of batches to skip, an integer,
            to an endless iterator of distributed batches.
        resident: A `fastbat_tf.data.resident.ResidentBatches` of the same
            batches, or None if the data do not fit in the memory of a device.
            Defaults to None.
        first: Integer, the number of batches that earlier processes have taken.
            Defaults to 0.

    Returns:
        An object with an attribute `steps` and a function `run(epoch, batch,
        count)`, which makes at most `count` steps from a batch of an epoch,
        and returns the logs of the last one and the number of steps it has
        made. It stops after the first step whose loss or gradient is not
        finite.
    """
    # What XLA compiles as one program has the same bits for any number of
    # steps, because it is the same program. A loop in a graph has the bits of
    # single steps anyway, and those leave the augmentation to other threads.
    if resident is not None and (steps > 1 or robust.compiles_whole_step):
        return ResidentSteps(robust, resident, steps)
    iterator = make_iterator(first)
    if steps > 1:
        return IteratorSteps(robust, iterator, steps)
    return SingleSteps(robust, iterator)


class SingleSteps:
    """A call of Keras' training function for each step.

    Args:
        robust: A compiled `RobustClassifier`.
        iterator: An endless iterator of batches.
    """

    steps = 1

    def __init__(self, robust, iterator):
        robust.make_train_function()
        self._robust, self._iterator = robust, iterator

    def run(self, epoch, batch, count):
        del epoch, batch, count
        return self._robust.train_function(self._iterator), 1


class IteratorSteps:
    """Several steps in a graph that reads their batches from an iterator.

    Args:
        robust: A compiled `RobustClassifier`.
        iterator: An endless iterator of batches.
        steps: Integer, the most steps of a call.
    """

    def __init__(self, robust, iterator, steps):
        self.steps = steps
        self._iterator = iterator
        self._repeat = _Repeat(robust)
        self._call = _in_a_graph(robust, self._steps, jit_compile=False)

    def run(self, epoch, batch, count):
        del epoch, batch
        logs, made = self._call(self._iterator, tf.constant(count))
        return logs, int(made)

    def _steps(self, iterator, count):
        return self._repeat(lambda _: (next(iterator),), _given, count)


class ResidentSteps:
    """Several steps in a graph, on data that lie on the devices.

    On one device, XLA compiles all of it as one program.

    Args:
        robust: A compiled `RobustClassifier`.
        batches: The `ResidentBatches`.
        steps: Integer, the most steps of a call.

    Attributes:
        traces: Integer, how often the steps have been traced: once, for any
            number of steps.
    """

    def __init__(self, robust, batches, steps):
        self.steps = steps
        self._batches = batches
        self._placed = batches.place(robust.distribute_strategy)
        self._repeat = _Repeat(robust)
        self._epoch = self._order = None
        self.traces = 0
        self._call = _in_a_graph(
            robust, self._steps, jit_compile=robust.compiles_whole_step
        )

    def run(self, epoch, batch, count):
        if epoch != self._epoch:
            self._epoch, self._order = epoch, self._batches.order(epoch)
        logs, made = self._call(
            self._placed,
            self._order,
            epoch=tf.constant(epoch, tf.int64),
            first=tf.constant(batch, tf.int64),
            count=tf.constant(count),
        )
        return logs, int(made)

    def _steps(self, placed, order, *, epoch, first, count):
        self.traces += 1

        def arguments(number):
            return placed, first + tf.cast(number, tf.int64)

        def read(placed, batch):
            return self._batches.read(placed, order, epoch=epoch, batch=batch)

        return self._repeat(arguments, read, count)


def _given(batch):
    return batch


class _Repeat:
    """Makes steps in a loop, which the first that is not finite ends.

    Args:
        robust: A compiled `RobustClassifier`.
    """

    def __init__(self, robust):
        robust.make_train_function()  # Builds the functions of the step.
        self._robust = robust
        self._watched = [
            metric for metric in robust.metrics if metric.name in WATCHED
        ]

    def __call__(self, arguments, read, count):
        """Makes the steps.

        Args:
            arguments: Function from the number of a step, an integer tensor, to
                the arguments of `read`, which a strategy hands to the replicas.
            read: Function of a replica that returns its batch.
            count: Integer tensor, the number of steps.

        Returns:
            The logs of the last step, and the number of steps made.
        """
        strategy = self._robust.distribute_strategy

        def step(*given):
            self._robust.train_step(read(*given))
            sums = [metric.total.value for metric in self._watched]
            finite = [tf.reduce_all(tf.math.is_finite(x)) for x in sums]
            return tf.cast(~tf.reduce_all(finite), tf.float32)

        def body(number, _):
            failed = strategy.run(step, args=arguments(number))
            # Over all replicas, so that all of them end.
            failures = strategy.reduce("SUM", failed, axis=None)
            return number + 1, failures > 0

        made, _ = tf.while_loop(
            lambda number, failed: (number < count) & ~failed,
            body,
            (tf.constant(0), tf.constant(False)),
            parallel_iterations=1,
        )
        return self._robust.get_metrics_result(), made


def _in_a_graph(robust, function, jit_compile):
    if robust.run_eagerly:
        return function
    compiled = tf.function(
        function,
        jit_compile=jit_compile,
        autograph=False,
        reduce_retracing=True,
    )
    return raises_input_error(compiled)
