"""Runs the steps of `fit` and `evaluate` on replicas, several in one call.

Keras' own functions convert the values of all replicas to one tensor, which
fails under a `MultiWorkerMirroredStrategy`, and cannot run several steps in
one call on several replicas.
"""

import contextlib

import keras
import tensorflow as tf


class ReplicatedModel(keras.Model):
    """A model that Keras trains and evaluates under any strategy.

    On a single replica, it does what Keras does.

    With `steps_per_execution=N`, one call makes up to N steps, fewer at the end
    of the data. They are one graph if all batches have one shape, as those of
    `dataset.batch(size, drop_remainder=True)`; on several workers the data set
    must also be endless, `dataset.repeat()`. The logs of a call are those of
    its last step. What the metrics of the model measure is reduced over all
    replicas of all workers, once in a call; what else a step returns is the
    mean over the replicas of this worker.
    """

    def _make_function(self, step_function):
        strategy = self.distribute_strategy
        if strategy.num_replicas_in_sync == 1:
            return super()._make_function(step_function)

        count = int(self.steps_per_execution)

        @self._autoconvert_optionals
        def one_step(data):
            outputs = strategy.run(step_function, args=(data,))
            return tf.nest.map_structure(
                lambda value: _local_mean(value, strategy), outputs
            )

        def step_on_data(data):
            return self._reduced(one_step(data))

        def step_on_iterator(iterator):
            return step_on_data(iterator.get_next())

        def steps_on_iterator(iterator):
            # The first one is outside of the loop: it creates variables, and
            # says what the loop returns.
            outputs = one_step(iterator.get_next())
            outputs = _further_steps(one_step, iterator, count - 1, outputs)
            return self._reduced(outputs)

        if not self.run_eagerly:
            step_on_data, step_on_iterator, steps_on_iterator = (
                tf.function(function, reduce_retracing=True, autograph=False)
                for function in (
                    step_on_data,
                    step_on_iterator,
                    steps_on_iterator,
                )
            )

        def function(iterator):
            if not isinstance(iterator, tf.distribute.DistributedIterator):
                for _, data in zip(range(count), iterator, strict=False):
                    outputs = step_on_data(data)
                return outputs
            if count > 1 and not self.run_eagerly and _is_static(iterator):
                return steps_on_iterator(iterator)
            outputs = step_on_iterator(iterator)
            with contextlib.suppress(StopIteration, tf.errors.OutOfRangeError):
                for _ in range(count - 1):
                    outputs = step_on_iterator(iterator)
            return outputs

        return function

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        strategy = self.distribute_strategy
        if strategy.num_replicas_in_sync == 1 or iterator is None:
            super()._maybe_symbolic_build(iterator, data_batch)
            return
        # Keras would read a batch, and reduce its images over all workers.
        for *_, batches in iterator:
            data_batch = tf.nest.map_structure(
                _first_component, batches.element_spec
            )
            break
        with strategy.scope():
            self._symbolic_build(data_batch=data_batch)

    def predict_on_batch(self, x):
        outputs = super().predict_on_batch(x)
        # On several replicas, Keras joins the equal results of all of them.
        count = len(keras.tree.flatten(x)[0])
        return keras.tree.map_structure(lambda part: part[:count], outputs)

    def _reduced(self, outputs):
        """Puts in what the metrics have measured on all replicas."""
        if not isinstance(outputs, dict):
            return outputs
        results = self.get_metrics_result()
        return {name: results.get(name, outputs[name]) for name in outputs}


def _first_component(spec):
    """The `tf.TensorSpec` of the first replica, or None for no value."""
    if isinstance(spec, tf.OptionalSpec):
        return None
    return tf.nest.flatten(spec, expand_composites=True)[0]


def _local_mean(value, strategy):
    values = strategy.experimental_local_results(value)
    return values[0] if len(values) == 1 else tf.reduce_mean(values, axis=0)


def _is_static(iterator):
    """Whether all batches have one shape.

    A loop in a graph gathers from all replicas arrays of one shape alone.
    """
    specs = tf.nest.flatten(iterator.element_spec, expand_composites=True)
    return all(
        isinstance(spec, tf.TensorSpec) and spec.shape.is_fully_defined()
        for spec in specs
    )


def _further_steps(one_step, iterator, count, outputs):
    """Makes up to `count` steps in a graph, until the data end."""

    def body(number, _, outputs):
        following = iterator.get_next_as_optional()
        has_value = following.has_value()
        outputs = tf.cond(
            has_value,
            lambda: one_step(following.get_value()),
            lambda: outputs,
        )
        return number + 1, has_value, outputs

    *_, outputs = tf.while_loop(
        lambda number, has_value, _: has_value & (number < count),
        body,
        (0, True, outputs),
        parallel_iterations=1,
    )
    return outputs
