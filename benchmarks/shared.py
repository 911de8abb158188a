"""Builds the network that the benchmarks measure."""


def build_classifier(width, model="preact_resnet18"):
    """A network of the zoo with random weights.

    Args:
        width: Integer, the width of the model, if it has that option.
        model: Name of the model. Defaults to `"preact_resnet18"`.
    """
    import models
    from fastbat_tf import BatchNormalization

    has_width = "width" in models.parse(model).options
    options = {"width": width} if has_width else {}
    return models.get(
        model,
        **options,
        mean=[0.5] * 3,
        std=[0.25] * 3,
        batch_normalization=BatchNormalization,
    )
