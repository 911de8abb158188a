"""The attacks, by name."""

from fastbat_tf.attacks.registry import (
    ATTACKS,
    LARGEST_EPSILON,
    PARTS,
    TRANSFERABLE,
    AttackSpec,
    ParsedAttack,
    check_attacks,
    check_epsilons,
    check_surrogate,
    get,
    parse,
)

__all__ = [
    "ATTACKS",
    "AttackSpec",
    "LARGEST_EPSILON",
    "PARTS",
    "ParsedAttack",
    "TRANSFERABLE",
    "check_attacks",
    "check_epsilons",
    "check_surrogate",
    "get",
    "parse",
]
