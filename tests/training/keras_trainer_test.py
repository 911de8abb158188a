"""Keras' own tests of `fit`, `evaluate` and `predict` pass with ours.

`tests/support/keras_trainer.py` wraps the models of Keras' file. Every test of
the file runs here, or is listed here with the reason why it does not.
"""

import pytest
import tensorflow as tf
from absl.testing import absltest

from tests.support import keras_trainer

TESTS = keras_trainer.load()

RUN = (
    "test_callback_methods_keys",
    "test_evaluate_flow",
    "test_evaluate_return_list_respect_metrics_order",
    "test_evaluate_with_custom_test_step",
    "test_evaluate_with_different_batch_size_same_loss",
    "test_fit_flow",
    "test_fit_with_custom_train_step",
    "test_fit_with_data_adapter",
    "test_fit_with_val_split",
    "test_for_eval_epoch_iterator",
    "test_max_epochs_and_steps",
    "test_on_batch_methods",
    "test_on_batch_methods_without_training",
    "test_predict_dropout",
    "test_predict_flow",
    "test_predict_generator",
    "test_predict_preserve_order",
    "test_recompile",
    "test_retracing",
    "test_rng_updated_during_predict",
    "test_steps_per_epoch",
    "test_steps_per_execution_steps_count",
    "test_steps_per_execution_steps_count_unknown_dataset_size",
    "test_steps_per_execution_steps_count_without_training",
    "test_steps_per_execution_steps_per_epoch",
    "test_steps_per_execution_steps_per_epoch_unknown_data_size",
    "test_steps_per_execution_unrolled_steps_steps_count",
    "test_stop_loop",
    "test_validation_data_infinite_generator",
)

_NO_FIT = "neither fits, nor evaluates, nor predicts"
_OTHER_BACKEND = "is for another backend; Keras skips it, too"
_OWN_CLASS = "defines the class of the model that it fits, without an input"
_OWN_LOSS = "replaces `compute_loss` of the model; a wrapped model has none"
_NO_WEIGHTS = "fits a model without trainable weights, which is refused"
_NOT_IMAGES = "passes sparse or ragged tensors, which are not images"
_STRUCTURES = "trains on several outputs at once; ours classifies with one"

LEFT_OUT = {
    "test_adds_loss_scaling_optimizer": _NO_WEIGHTS,
    "test_callbacks_can_update_state_at_batch_boundary": _OWN_CLASS,
    "test_compile_eager_vs_jit_torch": _OTHER_BACKEND,
    "test_compute_loss_no_training_backwards_compatibility": _OWN_LOSS,
    "test_constraints_are_applied": "has no input; see parity_test.py",
    "test_evaluate_sparse": _NOT_IMAGES,
    "test_evaluate_with_custom_compute_loss": _OWN_LOSS,
    "test_fit_eval_flow_for_jax_model_weights": _OTHER_BACKEND,
    "test_fit_sparse": _NOT_IMAGES,
    "test_fit_with_different_batch_size_same_loss": _NO_WEIGHTS,
    "test_fwd_pass_loss_presence_in_compute_loss": _OWN_LOSS,
    "test_internal_only_loss": "needs no loss; our default is cross-entropy",
    "test_jit_compile_with_tf_determinism": _NO_FIT,
    "test_jit_fit_with_out_shardings_logic": _OTHER_BACKEND,
    "test_loss_scaling_prevents_underflow": _OWN_CLASS,
    "test_loss_weights": _STRUCTURES + "; see parity_test.py",
    "test_metric_tracking": _OWN_CLASS,
    "test_metric_update_in_compute_loss": _OWN_LOSS,
    "test_multiple_compiles": _NO_FIT,
    "test_nested_input_predict": _OWN_CLASS,
    "test_nested_inputs": "has two inputs of one kind, and no image",
    "test_nested_trainer_metrics": _NO_FIT,
    "test_nested_trainer_metrics_without_compile": _NO_FIT,
    "test_partial_loss_partial_label": _STRUCTURES,
    "test_predict_flow_struct": _STRUCTURES,
    "test_predict_sparse": _NOT_IMAGES,
    "test_retracing_predict": "is skipped on TensorFlow by Keras, too",
    "test_symbolic_build": _NO_FIT,
    "test_trainer_with_raggeds": _NOT_IMAGES,
    "test_training_arg": _NO_WEIGHTS,
}

# The packages are not needed by Keras on TensorFlow.
NOT_INSTALLED = ("_grain_", "_torch_", "_multiprocessing")


class KerasTrainerTest(TESTS.TestTrainer):
    def setUp(self):
        super().setUp()
        keras_trainer.prepare(self)


def _runs(name):
    """Whether a test runs, which may have parameters behind its name."""
    names = [n for n in (*RUN, *LEFT_OUT) if name.startswith(n)]
    return max(names, key=len, default=None) in RUN and not any(
        package in name for package in NOT_INSTALLED
    )


# They count steps, which the way of running changes once: Keras' own loop runs
# steps eagerly, another one in graphs. Quick are all counts in graphs, and one
# of each test eagerly and compiled.
_COUNT_STEPS = "test_steps_per_"
_QUICK = (
    "test_steps_per_execution_steps_count_3",
    "test_steps_per_execution_steps_per_epoch_match_multi_epoch",
    "test_steps_per_execution_steps_per_epoch_unknown_data_size_match",
    "test_steps_per_epoch_match_multi_epoch",
)


def _is_slow(name):
    stem, _, mode = name.replace("_non_jit", "_graph").rpartition("_")
    return (
        name.startswith(_COUNT_STEPS)
        and mode in ("eager", "jit")
        and stem not in _QUICK
    )


# A test that is None in a subclass is not run.
for _name in dir(TESTS.TestTrainer):
    if _name.startswith("test_") and not _runs(_name):
        setattr(KerasTrainerTest, _name, None)
    elif _name.startswith("test_") and _is_slow(_name):
        pytest.mark.slow(getattr(TESTS.TestTrainer, _name))


class AllTestsTest(absltest.TestCase):
    def test_each_is_run_or_listed(self):
        """A new test of Keras is in neither list."""
        names = keras_trainer.names_of_tests(TESTS)
        self.assertCountEqual(names, [*RUN, *LEFT_OUT])

    def test_what_runs(self):
        found = [n for n in dir(KerasTrainerTest) if n.startswith("test_")]
        found = [n for n in found if getattr(KerasTrainerTest, n)]
        for name in RUN:
            self.assertTrue(any(n.startswith(name) for n in found), name)


if __name__ == "__main__":
    tf.test.main()
