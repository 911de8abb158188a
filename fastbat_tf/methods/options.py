"""The options of the methods: their defaults and checks, without TensorFlow.

Flags and methods share this module, so that a wrong option is refused before
TensorFlow is imported, and a default is written once.
"""

import math

from fastbat_tf.errors import InputError

EPSILON = 8 / 255
STEPS = 2
IMPLICIT_LAMBDA = 10.0
LINEARIZATION = "ns-pgd"
IMPLICIT_GRADIENT = "exact"

LINEARIZATIONS = (
    "ns-pgd",
    "random",
    "fgsm",
    "pgd",
    "ns-gd",
    "ns-pgd-zero",
)

IMPLICIT_GRADIENTS = ("exact", "finite_difference")

# GradAlign's coefficient by 255 epsilon, as published for CIFAR-10 by its
# authors (Andriushchenko & Flammarion, NeurIPS 2020).
GRADALIGN_COEFFICIENTS = (
    (2, 0.036),
    (4, 0.063),
    (6, 0.112),
    (8, 0.200),
    (10, 0.356),
    (12, 0.632),
    (14, 1.124),
    (16, 2.000),
)


def fast_at_step_size(epsilon):
    """1.25 epsilon (Wong et al., ICLR 2020)."""
    return 1.25 * epsilon


def pgd_step_size(epsilon, steps):
    """epsilon / 2 for two steps, as the Fast-BAT paper; 2 / 255 otherwise."""
    return epsilon / 2 if steps == 2 else 2 / 255


def fast_bat_step_size(epsilon):
    """5000 / 255 up to epsilon = 8 / 255, 2000 / 255 above, as published."""
    # With some slack: 0.0314 is a common way to write 8 / 255.
    return 5000 / 255 if epsilon <= 8 / 255 + 1e-4 else 2000 / 255


def gradalign_coefficient(epsilon):
    """The published coefficient, linear in between, constant outside."""
    table = GRADALIGN_COEFFICIENTS
    gray_levels = 255 * epsilon
    if gray_levels <= table[0][0]:
        return table[0][1]
    for (low, at_low), (high, at_high) in zip(table, table[1:], strict=False):
        if gray_levels <= high:
            share = (gray_levels - low) / (high - low)
            return at_low + share * (at_high - at_low)
    return table[-1][1]


def check_epsilon(epsilon):
    """Returns `epsilon` if it is a number in [0, 1]."""
    if not 0 <= epsilon <= 1:
        raise InputError(
            "`epsilon` is a fraction of the pixel range, expected in [0, 1], "
            f"such as 8/255. Received: epsilon={epsilon}"
        )
    return float(epsilon)


def check_steps(steps):
    """Returns `steps` if it is an integer of at least 1."""
    if not steps >= 1 or steps % 1:
        raise InputError(
            "`steps` is expected to be an integer of at least 1. "
            f"Received: steps={steps}"
        )
    return int(steps)


def check_step_size(value):
    """Returns `value` if it is zero or above, and finite."""
    if not 0 <= value < math.inf:
        raise InputError(
            "`step_size` is expected to be zero or above, and finite. "
            f"Received: step_size={value}"
        )
    return float(value)


def check_lambda(value):
    """Returns `value` if it is above zero; infinity is allowed."""
    if not value > 0:
        raise InputError(
            "`implicit_lambda` is expected to be positive; inf switches the "
            f"implicit term off. Received: implicit_lambda={value}"
        )
    return float(value)


def check_coefficient(value):
    """Returns `value` if it is zero or above, and finite."""
    if not 0 <= value < math.inf:
        raise InputError(
            "`coefficient` is expected to be zero or above. "
            f"Received: coefficient={value}"
        )
    return float(value)


def check_linearization(name):
    """Returns `name` if it is one of the linearization points."""
    if name not in LINEARIZATIONS:
        raise InputError(
            f"`linearization` is expected to be one of "
            f"{', '.join(LINEARIZATIONS)}. Received: linearization={name}"
        )
    return name


def check_implicit_gradient(name):
    """Returns `name` if it is one of the ways to the implicit term."""
    if name not in IMPLICIT_GRADIENTS:
        raise InputError(
            "`implicit_gradient` is expected to be one of "
            f"{', '.join(IMPLICIT_GRADIENTS)}. "
            f"Received: implicit_gradient={name}"
        )
    return name


CHECKS = {
    "epsilon": check_epsilon,
    "steps": check_steps,
    "step_size": check_step_size,
    "implicit_lambda": check_lambda,
    "linearization": check_linearization,
    "implicit_gradient": check_implicit_gradient,
    "coefficient": check_coefficient,
}
