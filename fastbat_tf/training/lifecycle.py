"""What Keras does with a model beside training: files, exports, strategies."""

import dataclasses
import functools
import os
import pathlib
from typing import Any

import keras

from fastbat_tf.errors import InputError
from fastbat_tf.layers import structure
from fastbat_tf.training import checks, loading


def in_own_scope(method):
    """Decorates a method of a Keras model to run in the scope of its strategy.

    Variables of the optimizer, for example, must be created there.
    """

    @functools.wraps(method)
    def scoped(self, *args, **kwargs):
        with self.distribute_strategy.scope():
            return method(self, *args, **kwargs)

    return scoped


class _Inference(keras.Model):
    """A classifier in inference mode, with only its classified output.

    The export of Keras calls a model without `training`. Augmentation layers
    then act as in training, and the exported model draws random numbers.
    """

    def __init__(self, classifier, pick):
        super().__init__(name=classifier.name)
        self.classifier = classifier
        self._pick = pick
        self.built = True

    def call(self, inputs):
        return self._pick(self.classifier(inputs, training=False))


class Lifecycle(keras.Model):
    """A model that trains the model in its attribute `classifier`."""

    @property
    def distribute_strategy(self):
        """The strategy in whose scope the model was created.

        Keras would take that of the current scope if there was none.
        """
        strategy = super().distribute_strategy
        if hasattr(self, "step"):  # The constructor has made the variables.
            checks.check_scope([self.step], strategy)
        return strategy

    def save_own_variables(self, store):
        super().save_own_variables(store)
        # Keras saves no generators, so that a training could not be continued.
        for key, state in self._seed_states.items():
            store[key] = keras.ops.convert_to_numpy(state)

    def load_own_variables(self, store):
        states = self._seed_states
        super().load_own_variables(
            {key: store[key] for key in store.keys() if key not in states}
        )
        for key in states.keys() & store.keys():
            states[key].assign(store[key])

    @property
    def _seed_states(self):
        layers = self.classifier._flatten_layers()
        found = [g.state for layer in layers for g in layer._seed_generators]
        return {f"seed_{k}": state for k, state in enumerate(found)}

    def export(
        self,
        filepath: str | os.PathLike[str],
        format: str = "tf_saved_model",
        **kwargs: Any,
    ) -> None:
        """Exports the classifier, as `keras.Model.export` does.

        The exported function maps float32 images `(batch, height, width,
        channels)` in `pixel_range` to what `predict` returns. It does not check
        their range. Neither the optimizer nor the state of the method is
        written.

        Args:
            filepath: Path of the directory or file to write.
            format: String, a format of `keras.Model.export`. Defaults to
                `"tf_saved_model"`.
            **kwargs: Other arguments of `keras.Model.export`.

        Example:

        ```python
        robust.export("exported")
        exported = tf.saved_model.load("exported")
        logits = exported.serve(images)
        ```
        """
        if kwargs.get("input_signature") is None:
            # Keras would ask that this model has been called.
            specs = structure.input_specs(self.classifier, batch=None)
            flat = keras.tree.flatten(specs)
            kwargs["input_signature"] = flat if len(flat) == 1 else [specs]
        exported = _Inference(self.classifier, self.network.pick)
        exported.export(filepath, format, **kwargs)

    def save(
        self, filepath: str | os.PathLike[str], *args: Any, **kwargs: Any
    ) -> None:
        """Saves the model, its method and its optimizer in a `.keras` file.

        Args:
            filepath: Path of the file, whose name ends in `.keras`.
            *args: Other arguments of `keras.Model.save`.
            **kwargs: Other arguments of `keras.Model.save`.

        Raises:
            InputError: If the name ends in `.h5`: in this old format, Keras
                saves no model that is neither functional nor sequential.
        """
        if pathlib.Path(filepath).suffix in (".h5", ".hdf5"):
            raise InputError(
                "A RobustClassifier is saved in a .keras file; its attribute "
                "`classifier` may be saved in an .h5 file. "
                f"Received: filepath={filepath}"
            )
        super().save(filepath, *args, **kwargs)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "classifier": keras.saving.serialize_keras_object(self.classifier),
            "method": loading.serialize_method(self.method),
            "seed": self.seed,
            "pixel_range": list(self.pixel_range),
            **self._network_options,
        }

    def get_compile_config(self):
        config = super().get_compile_config()
        if not self.compiled:
            return config
        average = self.weight_average
        return {
            **config,
            **dataclasses.asdict(self.update_rule),
            "weight_averaging": average.decay if average else 0.0,
            "attack_loss": keras.saving.serialize_keras_object(
                self.attack_loss
            ),
            "plan": self.plan and list(self.plan),
            "epsilon_schedule": keras.saving.serialize_keras_object(
                self.epsilon_schedule
            ),
            "weight_perturbation": keras.saving.serialize_keras_object(
                self.weight_perturbation
            ),
            "jit_compile": self.given_jit_compile,
        }

    def compile_from_config(self, config):
        self.compile(**loading.deserialize(config))
        if not self.optimizer.built:
            self.optimizer.build(self.trainable_variables)

    @classmethod
    def from_config(cls, config, custom_objects=None):
        config = dict(config)
        config["classifier"] = loading.deserialize(
            config["classifier"], custom_objects
        )
        config["method"] = loading.deserialize_method(
            config["method"], custom_objects
        )
        return cls(**config)
