"""What an exported model says about itself."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class ModelInfo:
    """What is known about a model, for its file and its card.

    None stands for what is not known.

    Attributes:
        name: String, a short name of the model. Defaults to `"model"`.
        network: String, the name of the network. Defaults to `None`.
        class_names: Tuple of strings, one for each logit. Defaults to `None`.
        dataset: String, the training data. Defaults to `None`.
        method: String, the training method. Defaults to `None`.
        norm: `"linf"` or `"l2"`, the norm of the training attack. Defaults to
            `None`.
        epsilon: Float, the radius of the training attack, a fraction of the
            pixel range. Defaults to `None`.
        results: Dict as `evaluate_robustness` returns it. Defaults to `None`:
            nothing was measured.
        license: String, an identifier such as `"apache-2.0"`. Defaults to
            `None`.
        command: String, the command line of the training. Defaults to `None`.
        config: Dict of all settings of the training, as `Config.to_dict`
            returns it. Defaults to `None`.
    """

    name: str = "model"
    network: str | None = None
    class_names: tuple[str, ...] | None = None
    dataset: str | None = None
    method: str | None = None
    norm: str | None = None
    epsilon: float | None = None
    results: dict | None = None
    license: str | None = None
    command: str | None = None
    config: dict | None = None
