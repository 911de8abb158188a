"""The model zoo: functional Keras classifiers from pixels to logits."""

import importlib

# Module, builder and depth by name: names instead of functions, so that the
# flags can list them without importing Keras.
MODELS = {
    "preact_resnet18": ("preact_resnet", "preact_resnet", 18),
    "preact_resnet34": ("preact_resnet", "preact_resnet", 34),
    "preact_resnet50": ("preact_resnet", "preact_resnet", 50),
}

ACTIVATIONS = ("relu", "softplus", "swish")


def check_name(name):
    """Returns `name` if it is a model, or lists the known ones."""
    if name not in MODELS:
        raise ValueError(
            f"Unknown model. Expected one of {', '.join(MODELS)}. "
            f"Received: model={name}"
        )
    return name


def check_activation(name):
    """Returns `name` if it is an activation, or lists the known ones."""
    if name not in ACTIVATIONS:
        raise ValueError(
            f"Unknown activation. Expected one of {', '.join(ACTIVATIONS)}. "
            f"Received: activation={name}"
        )
    return name


def get(name, **kwargs):
    """Builds a model.

    Args:
        name: A key of `MODELS`.
        **kwargs: Arguments of its builder, such as `width`, `num_classes`,
            `activation`, `mean` and `std`.

    Returns:
        A functional `keras.Model`.
    """
    module, builder, depth = MODELS[check_name(name)]
    module = importlib.import_module(f"models.{module}")
    return getattr(module, builder)(depth, **kwargs)
