"""Tells Keras about the classes of this package, without importing them.

Keras finds the class of a saved object only if it is registered, which happens
when the module of the class is imported. `keras.saving.load_model` must work
after `import fastbat_tf` alone, which imports neither Keras nor TensorFlow. So
the import of this module lets an import hook wait for Keras and then register
proxies. A proxy imports the module of its class when Keras uses it, and the
class takes its place.
"""

import importlib.util
import sys

_PACKAGE = "fastbat_tf"

# The registered classes beside the methods, which have a table.
_CLASSES = {
    "AdversarialWeightPerturbation": "training.weight_perturbation",
    "BatchNormalization": "layers.batch_normalization",
    "Crossentropy": "training.losses",
    "DLR": "training.losses",
    "EpsilonSchedule": "training.epsilon_schedule",
    "FusedBatchNormalization": "layers.batch_normalization",
    "LikeliestAccuracy": "training.metrics",
    "OneCycle": "training.schedules",
    "PerEpoch": "training.schedules",
    "PiecewiseLinear": "training.schedules",
    "RobustClassifier": "training.classifier",
    "SmoothedCrossentropy": "training.losses",
    "WarmUp": "training.schedules",
}


def _register():
    """Registers the classes now, or as soon as Keras has been imported."""
    if sys.modules.get("keras") is not None:  # None forbids its import.
        _register_proxies()
    else:
        sys.meta_path.insert(0, _KerasFinder())


def modules():
    """Returns a dict of the modules of all registered classes by their name."""
    from fastbat_tf.methods.table import METHODS

    methods = {
        spec.class_name: f"methods.{spec.module}" for spec in METHODS.values()
    }
    return {**_CLASSES, **methods}


def _register_proxies():
    import keras
    import wrapt  # TensorFlow has imported it.

    registered = keras.saving.get_custom_objects()
    for name, module in modules().items():
        proxy = wrapt.lazy_import(f"{_PACKAGE}.{module}", name)
        registered.setdefault(f"{_PACKAGE}>{name}", proxy)
    # The activation of the zoo that Keras does not have.
    proxy = wrapt.lazy_import(f"{_PACKAGE}.models.blocks", "softplus10")
    registered.setdefault("fastbat_tf_models>softplus10", proxy)


class _KerasFinder:
    """Finds Keras where it is, and registers the proxies after its import.

    `wrapt.when_imported` does the same, but importing `wrapt` takes seven times
    as long as `import fastbat_tf`, and `importlib.abc` as a base class five.
    """

    _is_searching = False

    def find_spec(self, fullname, path=None, target=None):
        del path, target
        if fullname != "keras" or self._is_searching:
            return None
        self._is_searching = True
        try:
            spec = importlib.util.find_spec(fullname)
        finally:
            self._is_searching = False
        # TensorFlow looks for Keras without importing it, so the finder stays.
        if spec is not None and spec.loader is not None:
            self._call_after_import(spec.loader)
        return spec

    def _call_after_import(self, loader):
        # The loader itself stays, since `keras.__loader__` shows it.
        execute = loader.exec_module

        def exec_module(module):
            del loader.exec_module
            execute(module)
            if self in sys.meta_path:
                sys.meta_path.remove(self)
            _register_proxies()

        loader.exec_module = exec_module


_register()
