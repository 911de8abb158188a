"""The training methods, by the name of their flag value, file and row."""

import importlib
from typing import NamedTuple

from fastbat_tf.errors import look_up, refuse_inapplicable
from fastbat_tf.methods import options


class MethodSpec(NamedTuple):
    """Where a method is, and what can be set.

    Attributes:
        class_name: The class in `fastbat_tf/methods/<name>.py`.
        defaults: Dict of the arguments of its constructor: the default, or a
            function of the options before it.
    """

    class_name: str
    defaults: dict


def _one_step(factor=1.0, **others):
    """Options of a method with one signed step of `factor * epsilon`."""
    return {
        "epsilon": options.EPSILON,
        "step_size": lambda o: factor * o["epsilon"],
        **others,
    }


_COEFFICIENT = {"coefficient": options.LOGIT_COEFFICIENT}
_MOMENTUM = {"momentum_decay": options.MOMENTUM_DECAY}
_LABELS = {"label_factor": options.LABEL_FACTOR}
_FORM = {"form": options.PAPER}
_CONVERGENCE = {
    "coefficient": options.CONVERGENCE_COEFFICIENT,
    "tolerance": options.TOLERANCE,
    "stride": options.STRIDE,
}
_UAP = {"uap_epsilon": lambda o: min(1.25 * o["epsilon"], 1.0)}
_UAP_REST = {**_COEFFICIENT, **_MOMENTUM, **_FORM}

# Names instead of classes: the flags read this table, and importing the
# classes would import TensorFlow. `tests/methods/registry_test.py` holds the
# table to them.
METHODS = {
    "standard": MethodSpec("Standard", {}),
    "fastat": MethodSpec("FastAT", _one_step(1.25)),
    "pgd": MethodSpec(
        "PGD",
        {
            "epsilon": options.EPSILON,
            "steps": options.STEPS,
            "step_size": lambda o: options.pgd_step_size(
                o["epsilon"], o["steps"]
            ),
            "attack_mode": options.TRAINING,
        },
    ),
    "gradalign": MethodSpec(
        "GradAlign",
        _one_step(
            1.25,
            coefficient=lambda o: options.gradalign_coefficient(o["epsilon"]),
            **_FORM,
        ),
    ),
    "fastbat": MethodSpec(
        "FastBAT",
        {
            "epsilon": options.EPSILON,
            "step_size": lambda o: options.fast_bat_step_size(o["epsilon"]),
            "implicit_lambda": options.IMPLICIT_LAMBDA,
            "linearization": options.LINEARIZATION,
            "implicit_gradient": options.IMPLICIT_GRADIENT,
        },
    ),
    "fgsm": MethodSpec("FGSM", _one_step()),
    "nfgsm": MethodSpec("NFGSM", _one_step(noise_scale=options.NOISE_SCALE)),
    "zerograd": MethodSpec(
        "ZeroGrad",
        {
            "epsilon": options.EPSILON,
            "steps": 1,
            "step_size": lambda o: 2 * o["epsilon"],
            "quantile": options.QUANTILE,
        },
    ),
    "free": MethodSpec(
        "Free", _one_step(replays=options.REPLAYS, start=options.FREE_START)
    ),
    "trades": MethodSpec(
        "TRADES",
        {
            "epsilon": options.EPSILON,
            "steps": 10,
            "step_size": lambda o: options.trades_step_size(
                o["epsilon"], o["steps"]
            ),
            "coefficient": options.TRADES_COEFFICIENT,
            "attack_mode": options.INFERENCE,
        },
    ),
    "gat": MethodSpec(
        "GAT",
        _one_step(
            coefficient=options.GAT_COEFFICIENT,
            growth=options.GAT_GROWTH,
            **_FORM,
        ),
    ),
    "nuat": MethodSpec(
        "NuAT",
        _one_step(
            coefficient=options.NUAT_COEFFICIENT,
            attack_mode=options.INFERENCE,
        ),
    ),
    "elle": MethodSpec(
        "ELLE",
        _one_step(
            1.25,
            coefficient_schedule=options.CONSTANT,
            coefficient=lambda o: options.elle_coefficient(
                o["coefficient_schedule"]
            ),
        ),
    ),
    "aaer": MethodSpec(
        "AAER",
        {
            "epsilon": options.EPSILON,
            "base_attack": options.NFGSM,
            "step_size": lambda o: (
                o["epsilon"] * options.by_base_attack(1.0, 1.25)(o)
            ),
            "coefficient": options.AAER_COEFFICIENT,
            "loss_coefficient": options.by_base_attack(1.5, 2.5),
            "logit_coefficient": options.by_base_attack(0.15, 1.5),
            **_FORM,
        },
    ),
    "fgsm_pgi": MethodSpec(
        "FGSMPGI",
        _one_step(
            **_COEFFICIENT,
            **_MOMENTUM,
            reset_epochs=options.RESET_EPOCHS,
            **_LABELS,
        ),
    ),
    "liet": MethodSpec(
        "LIET",
        _one_step(
            coefficient=options.LIET_COEFFICIENT,
            random_smoothing=options.RANDOM_SMOOTHING,
            min_mask_ratio=options.MIN_MASK_RATIO,
            max_mask_ratio=options.MAX_MASK_RATIO,
            refresh_batches=options.REFRESH_BATCHES,
        ),
    ),
    "ssat": MethodSpec(
        "SSAT", _one_step(1.25, checkpoints=options.CHECKPOINTS)
    ),
    "fgsm_rs_cs": MethodSpec("FGSMRSCS", _one_step(**_CONVERGENCE, **_LABELS)),
    "fgsm_mep_cs": MethodSpec(
        "FGSMMEPCS",
        _one_step(
            **_CONVERGENCE,
            **_MOMENTUM,
            reset_epochs=options.RESET_EPOCHS,
            **_LABELS,
        ),
    ),
    "fgsm_uap": MethodSpec("FGSMUAP", _one_step(**_UAP, **_UAP_REST)),
    "fgsm_cuap": MethodSpec("FGSMCUAP", _one_step(**_UAP, **_UAP_REST)),
    "fgsm_fuap": MethodSpec(
        "FGSMFUAP", _one_step(**_UAP, uaps=options.UAPS, **_UAP_REST)
    ),
    "fgsm_pco": MethodSpec(
        "FGSMPCO",
        _one_step(reach=options.REACH, **_COEFFICIENT, **_LABELS),
    ),
}


def resolve_options(name, given):
    """Checks the given options of a method and fills in the others.

    Args:
        name: A key of `METHODS`.
        given: Dict of options; None stands for the default.

    Returns:
        Dict of all options of the method.

    Raises:
        InputError: If an option does not apply to the method or is out of its
            range.
    """
    defaults = get_spec(name).defaults
    refuse_inapplicable("method", name, defaults, given)
    resolved = {}
    for option, default in defaults.items():
        value = given.get(option)
        if value is None:
            value = default(resolved) if callable(default) else default
        resolved[option] = options.CHECKS[option](value)
    options.check_together(resolved)
    return resolved


def get_spec(name):
    """Returns the `MethodSpec` of `name`, or lists the known names."""
    return look_up(METHODS, "method", method=name)


def get_class(name):
    """Returns the class of a method."""
    spec = get_spec(name)
    module = importlib.import_module(f"fastbat_tf.methods.{name}")
    return getattr(module, spec.class_name)


def get(name, **kwargs):
    """Builds a method.

    Args:
        name: A key of `METHODS`.
        **kwargs: Arguments of its constructor.

    Returns:
        The `Method`.

    Example:

    >>> get("fastbat", epsilon=8 / 255).linearization
    'ns-pgd'
    """
    return get_class(name)(**kwargs)
