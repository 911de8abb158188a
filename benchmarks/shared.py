"""What the benchmarks share: a network."""


def build_classifier(width, model="preact_resnet18"):
    """A network of the zoo with its initial weights; some have no width."""
    import models
    from fastbat_tf import BatchNormalization

    module, _ = models.parse(model)
    options = {"width": width} if "width" in models.OPTIONS[module] else {}
    return models.get(
        model,
        **options,
        mean=[0.5] * 3,
        std=[0.25] * 3,
        batch_normalization=BatchNormalization,
    )
