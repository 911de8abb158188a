"""Flags of the method. One that does not apply to it is refused."""

from absl import flags as absl_flags

from fastbat_tf.config import MethodConfig
from fastbat_tf.methods import METHODS, options
from flags import fractions

METHOD = absl_flags.DEFINE_string(
    "method", MethodConfig().method, f"Training method: {', '.join(METHODS)}."
)
OPTIONS = {
    "epsilon": fractions.define(
        "epsilon", None, "Radius of the L-infinity ball (default 8/255)."
    ),
    "step_size": fractions.define(
        "step_size", None, "Step of the lower level (default: by the method)."
    ),
    "steps": absl_flags.DEFINE_integer(
        "steps", None, "pgd: number of steps (default 2)."
    ),
    "implicit_lambda": absl_flags.DEFINE_float(
        "implicit_lambda",
        None,
        "fastbat: lambda of the implicit term (default 10); inf leaves it out.",
    ),
    "linearization": absl_flags.DEFINE_string(
        "linearization",
        None,
        "fastbat: how the linearization point is found (default ns-pgd): "
        f"{', '.join(options.LINEARIZATIONS)}.",
    ),
    "implicit_gradient": absl_flags.DEFINE_string(
        "implicit_gradient",
        None,
        "fastbat: how the implicit term is computed (default exact): "
        f"{', '.join(options.IMPLICIT_GRADIENTS)}.",
    ),
    "coefficient": absl_flags.DEFINE_float(
        "coefficient",
        None,
        "gradalign: weight of the penalty (default: published, by epsilon).",
    ),
}


def get_config():
    """The `MethodConfig` of the flags."""
    given = {name: flag.value for name, flag in OPTIONS.items()}
    return MethodConfig(METHOD.value, given)
