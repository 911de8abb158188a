"""Writes and reads the configs of a classifier and its method."""

import re
from typing import Any

import keras

from fastbat_tf.errors import InputError
from fastbat_tf.methods.base import Method

# How Keras says that it does not know a class or function of the user, in
# files of its own format and in `.h5` files.
_UNDEFINED = (
    r"Could not locate (\w+) '([^']+)'",
    r"Unknown (\w+): '([^']+)'",
)


def deserialize(config, custom_objects=None):
    """Does what `keras.saving.deserialize_keras_object` does.

    Args:
        config: Dict, what `keras.saving.serialize_keras_object` returned.
        custom_objects: Dict of classes by name. Defaults to None.

    Raises:
        InputError: If Keras does not know a class or a function of the user,
            in one line instead of the whole config.
    """
    try:
        return keras.saving.deserialize_keras_object(
            config, custom_objects=custom_objects
        )
    except TypeError as error:
        undefined = find_undefined(error)
        if undefined is None:
            raise
        raise InputError(_undefined(*undefined)) from error


def find_undefined(error):
    """Finds what is undefined in Keras' error for an object in a file.

    Args:
        error: An exception.

    Returns:
        What it is, such as `"class"`, and its name; None for other errors.
    """
    # Keras names the innermost object, however deep it is.
    for pattern in _UNDEFINED:
        found = re.search(pattern, str(error))
        if found:
            return found.groups()
    return None


def serialize_method(method):
    """Returns what `keras.saving.serialize_keras_object` does, and the module.

    Keras leaves out the module of a registered class.
    """
    config: Any = keras.saving.serialize_keras_object(method)
    config["module"] = type(method).__module__
    return config


def deserialize_method(config, custom_objects=None):
    """Builds a method from its config, also one of a user's class.

    The class is the registered one, or the one of the same name in the module
    that the file names, or else the only one of that name: a class that was
    defined in a script may be imported from a module now. A method of this
    package and a user's method never stand in for each other.

    Args:
        config: Dict, what `serialize_method` returned.
        custom_objects: Dict of classes by name. Defaults to None.

    Raises:
        InputError: If the class is not defined, or if several have its name.
    """
    registered, name = config["registered_name"], config["class_name"]
    if not registered.startswith("fastbat_tf>"):
        cls = _find_class(config, custom_objects)
        if cls is None:
            raise InputError(
                "The method of a saved model is not defined; expected its "
                "class to be imported or defined before loading. "
                f"Received: class={name}"
            )
        with keras.saving.custom_object_scope({registered: cls}):
            return deserialize(config)
    return deserialize(config, custom_objects)


def _find_class(config, custom_objects):
    registered, name = config["registered_name"], config["class_name"]
    for key in registered, name:
        given = keras.saving.get_registered_object(key, custom_objects)
        if given is not keras.saving.get_custom_objects().get(key):
            return given  # From `custom_objects`, or the scope around this.
    # By module, the last class: the cell of a notebook may have run again.
    candidates = {
        cls.__module__: cls
        for cls in _subclasses(Method)
        if cls.__name__ == name and not _is_of_package(cls)
    }
    if config.get("module") in candidates:
        return candidates[config["module"]]
    registered_classes = {
        module: cls
        for module, cls in candidates.items()
        if keras.saving.get_registered_name(cls) == registered
    }
    candidates = registered_classes or candidates
    if len(candidates) > 1:
        raise InputError(
            f"Several methods are named {name}; expected one, or "
            f'custom_objects={{"{registered}": ...}}. '
            f"Received: modules={', '.join(sorted(candidates))}"
        )
    return next(iter(candidates.values()), None)


def _is_of_package(cls):
    return keras.saving.get_registered_name(cls).startswith("fastbat_tf>")


def _subclasses(cls):
    for subclass in cls.__subclasses__():
        yield subclass
        yield from _subclasses(subclass)


def _undefined(kind, name):
    known = "registered by keras.saving.register_keras_serializable"
    return (
        f"The {kind} of a saved object is not known; expected it to be {known} "
        f"or given in custom_objects, before loading. Received: {kind}={name}"
    )
