"""What a method sees of a training step."""

import functools

import keras
import tensorflow as tf

from fastbat_tf.draws import Draws
from fastbat_tf.layers import randomness
from fastbat_tf.methods.step import StepContext
from fastbat_tf.training import loss_scaling, losses, reductions
from fastbat_tf.training.reporting import ReportingModel


class ContextualModel(ReportingModel):
    """A model that makes the `StepContext` of a training step.

    Args:
        pixel_range: Pair of floats, the lowest and highest pixel value. See
            `RobustClassifier`.
        **kwargs: Arguments of `keras.Model`.
    """

    def draws(self, step):
        """Returns the random draws of a step. Tests override this."""
        return Draws(self.seed, step)

    def _method_at(self, step, dtype):
        """Returns the method, with the share of its radius at a step."""
        if self.epsilon_schedule is None:
            return self.method
        share = self.epsilon_schedule.jittered(step, self.draws(step))
        return self.method.scaled(tf.cast(share, dtype))

    def _make_context(
        self, images, labels, *, step, others=None, sample_weight=None, **given
    ):
        form = self.network.outputs
        network = self.network.beside(others)
        features = self.features
        weights = reductions.weigh_ignored(self.loss, labels, sample_weight)
        return StepContext(
            network=network,
            loss=losses.by_example(
                self.loss, form, self.loss.reduction, weights is not None
            ),
            attack_loss=losses.by_example(self.attack_loss or self.loss, form),
            reduction=self.loss.reduction,
            images=images,
            labels=labels,
            sample_weight=weights,
            progress=self.progress(step),
            features=features and functools.partial(network.apply, features),
            scaled_pass=loss_scaling.scaled_pass(self),
            **given,
        )

    def _new_state(self, given, notes):
        context = self._context_of(given, notes=notes)
        method = self._method_at(given["step"], context.images.dtype)
        with randomness.same_draw(self, notes, given["shard"]):
            return method.update(context)

    def _context_of(self, given, **others):
        given = {**given, **others}
        images, labels = given.pop("images"), given.pop("labels")
        draws = self.draws(given["step"])
        return self._make_context(images, labels, draws=draws, **given)

    def unpack(self, data, needs_index=False):
        batch = super().unpack(data, needs_index)
        # There may be labels for each of several outputs.
        return batch._replace(
            labels=self.network.pick(batch.labels),
            sample_weight=self.network.pick(batch.sample_weight),
        )

    def images_of(self, inputs):
        return self.network.split(inputs)[0]

    @property
    def _image_dtype(self):
        # float64 if the classifier computes in it, but never half precision.
        return keras.backend.result_type(
            "float32", self.classifier.compute_dtype
        )
