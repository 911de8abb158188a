"""Finds code in the config of a Keras model."""

import re
import sys
from typing import Any

import keras

from fastbat_tf.errors import InputError

ADVICE = "if you trust the file, pass --allow_code (in Python allow_code=True)"

# Layers that are a program, which Keras keeps as the bytes of a Python
# function, as a pickle of PyTorch, or as the path of a SavedModel.
PROGRAMS = ("FlaxLayer", "JaxLayer", "TFSMLayer", "TorchModuleWrapper")

# Keras' modules whose functions compute. Those of the others read and write
# files (`keras.utils`, `keras.saving`, `keras.visualization`), or change
# settings (`keras.config`).
_COMPUTES = re.compile(
    r"keras(\.(activations|constraints|distillation|dtype_policies|initializers"
    r"|layers|losses|metrics|models|ops|optimizers|quantizers|random"
    r"|regularizers|src)(\.\w+)*)?"
)

# Keras imports these if a file names them, from the working directory too.
_EXTENSIONS = ("keras_cv", "keras_hub", "keras_nlp")


def check_code(config: Any, received: str) -> None:
    """Refuses the config of a model that brings code or names files.

    What the config names is a class or a function of Keras that computes, or
    one that the program has registered before.

    Args:
        config: Dict, the parsed JSON of a model.
        received: String, `name=value`, which setting names the file.

    Raises:
        InputError: If it is anything else; it names the layer.
    """
    # The layer in which something is, and what it is.
    pending = [("model", config)]
    while pending:
        layer, value = pending.pop()
        if isinstance(value, list):
            pending += [(layer, each) for each in value]
        elif isinstance(value, dict):
            layer = _name_of(value) or layer
            fault = _find_fault(value)
            if fault:
                raise InputError(
                    f"The layer {layer} of the model {fault}; expected a model "
                    f"of Keras' own layers: {ADVICE}. Received: {received}"
                )
            pending += [(layer, each) for each in value.values()]


def _name_of(config):
    """The name of a layer, from its config or from a list of layers."""
    inner = config.get("config")
    name = inner.get("name") if isinstance(inner, dict) else None
    kind = config.get("class_name")
    if not isinstance(name, str) or not isinstance(kind, str):
        return None
    return f"{name} ({kind})"


def _find_fault(config):
    kind = config.get("class_name", config.get("spec_name"))
    if not isinstance(kind, str):
        return None
    inner = config.get("config")
    inner = inner if isinstance(inner, dict) else {}
    # Earlier versions of Keras kept the code of a function in a list.
    if kind == "__lambda__" or (
        kind == "Lambda" and isinstance(inner.get("function"), list)
    ):
        return "is Python code, which could do anything"
    if kind in PROGRAMS:
        return "is a program, which could do anything"
    if isinstance(inner.get("vocabulary"), str):
        return f"reads the file {inner['vocabulary']!r}"
    module, name = config.get("module"), kind
    registered = config.get("registered_name", kind)
    if kind == "function":  # Keras looks for it by its name.
        registered = name = config.get("config")
    if not isinstance(module, str) or _is_registered(registered):
        return None
    package = module.partition(".")[0]
    if package in _EXTENSIONS and package not in sys.modules:
        return f"is of {package}, which would be imported"
    # Keras itself refuses what is of no module of its own.
    if package == "keras" and not _COMPUTES.fullmatch(module):
        return f"calls {module}.{name}, which does not compute"
    return None


def _is_registered(name):
    if not isinstance(name, str):
        return False
    return keras.saving.get_registered_object(name) is not None
