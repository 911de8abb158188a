"""Tells which attacks are together as strong as AutoAttack, by their names."""

import re
from collections.abc import Sequence

ENSEMBLES = ("autoattack", "autoattack-rand")
# With fewer, an ensemble says less than one attack on all examples.
LEAST_EXAMPLES = 100


def is_ensemble(attacks: Sequence[str]) -> bool:
    """Whether attacks are AutoAttack, or together as diverse as that.

    That is APGD, which chooses its step size itself, and Square, which needs no
    gradient, each with about its usual number of steps.

    Args:
        attacks: Names of attacks.

    Example:

    >>> is_ensemble(["apgd-ce", "square"]), is_ensemble(["pgd-50-10"])
    (True, False)
    """
    parts = [part for name in attacks for part in name.split("+")]
    # Of one class, not of the nearest.
    parts = [part for part in parts if "-target-" not in part]
    adapts = any(_is_thorough(part, "apgd", 50) for part in parts)
    needs_none = any(_is_thorough(part, "square", 1000) for part in parts)
    return any(part in ENSEMBLES for part in parts) or (adapts and needs_none)


def _is_thorough(attack, kind, least):
    """Whether an attack is of a kind, and has about its usual steps."""
    steps = re.search(r"-(\d+)$", attack)
    return attack.startswith(kind) and (not steps or int(steps[1]) >= least)
