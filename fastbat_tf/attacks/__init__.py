"""Attacks that measure robustness, by name."""

from fastbat_tf.attacks.registry import (
    ATTACKS,
    LARGEST_EPSILON,
    check_attacks,
    check_epsilons,
    check_surrogate,
    get,
    parse,
)

__all__ = [
    "ATTACKS",
    "LARGEST_EPSILON",
    "check_attacks",
    "check_epsilons",
    "check_surrogate",
    "get",
    "parse",
]
