"""What a training step logs, beside the metrics of the user."""

import tensorflow as tf

from fastbat_tf.training import step_metrics
from fastbat_tf.training.fitting import FittedModel


class ReportingModel(FittedModel):
    """A model that logs what its training steps report, and only theirs.

    Args:
        pixel_range: Pair of floats, the lowest and highest pixel value. See
            `RobustClassifier`.
        **kwargs: Arguments of `keras.Model`.
    """

    def test_step(self, data):
        return self._without_reports(super().test_step(data))

    def get_metrics_result(self):
        results = super().get_metrics_result()
        if self._is_evaluating:
            # With the names of `test_step`, or Keras takes the values of its
            # last step, which are means of the values of the replicas.
            return self._without_reports(results)
        if self.epsilon_schedule is not None:
            last_step = self.step.value - 1
            share = self.epsilon_schedule.share(last_step)
            results[step_metrics.EPSILON_SHARE] = share
        return results

    def _without_reports(self, results):
        trained = {metric.name for metric in self._report_metrics}
        trained.add(step_metrics.EPSILON_SHARE)
        return {k: v for k, v in results.items() if k not in trained}

    def _update_reports(self, loss, reports, images, shard):
        batch = tf.shape(images)[0]
        if self.loss.reduction in ("none", None):
            # Keras minimizes the sum, and reports the mean.
            loss /= tf.cast(shard.total if shard else batch, loss.dtype)
        self._loss_tracker.update_state(loss, sample_weight=batch)
        step_metrics.update(self._report_metrics, reports, batch)
