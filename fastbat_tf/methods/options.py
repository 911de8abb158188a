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
NOISE_SCALE = 2.0
QUANTILE = 0.35
REPLAYS = 4
FREE_START = "carried"
TRADES_COEFFICIENT = 6.0
GAT_COEFFICIENT = 10.0
GAT_GROWTH = 4.0
NUAT_COEFFICIENT = 4.5
AAER_COEFFICIENT = 1.0
CHECKPOINTS = 3
LOGIT_COEFFICIENT = 10.0
MOMENTUM_DECAY = 0.3
RESET_EPOCHS = 40
LABEL_FACTOR = 0.6
CONVERGENCE_COEFFICIENT = 1.0
TOLERANCE = 0.03
STRIDE = 1
REACH = 1.5
UAPS = 50
LIET_COEFFICIENT = 100.0
RANDOM_SMOOTHING = 0.6
MIN_MASK_RATIO = 0.1
MAX_MASK_RATIO = 0.5
REFRESH_BATCHES = 20

REMEMBERED = "remembered"
LINEARIZATIONS = (
    "ns-pgd",
    "random",
    "fgsm",
    "pgd",
    "ns-gd",
    "ns-pgd-zero",
    REMEMBERED,
)

IMPLICIT_GRADIENTS = ("exact", "finite_difference")
MODES = TRAINING, INFERENCE = "training", "inference"
FORMS = PAPER, BENCHMARK = "paper", "benchmark"
FREE_STARTS = (FREE_START, "zero")
SCHEDULES = CONSTANT, ADAPTIVE = "constant", "adaptive"
BASE_ATTACKS = NFGSM, FASTAT = "nfgsm", "fastat"

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


def trades_step_size(epsilon, steps):
    """epsilon for one step, and as PGD for more."""
    return epsilon if steps == 1 else pgd_step_size(epsilon, steps)


def elle_coefficient(schedule):
    """1, and 10 for the highest value of the adaptive one."""
    return 10.0 if schedule == ADAPTIVE else 1.0


def by_base_attack(for_nfgsm, for_fastat):
    """A default of AAER, a function of the options before it."""
    return lambda o: for_nfgsm if o["base_attack"] == NFGSM else for_fastat


def check_epsilon(epsilon, name="epsilon"):
    """Returns `epsilon` if it is a number in [0, 1]."""
    if not 0 <= epsilon <= 1:
        raise InputError(
            f"`{name}` is a fraction of the pixel range, expected in [0, 1], "
            f"such as 8/255. Received: {name}={epsilon}"
        )
    return float(epsilon)


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


def _check(name, passes, expected, convert=float):
    def check(value):
        if not passes(value):
            raise InputError(
                f"`{name}` is expected to be {expected}. "
                f"Received: {name}={value}"
            )
        return convert(value)

    return check


def _integer(name, low=1):
    return _check(
        name,
        lambda value: low <= value < math.inf and not value % 1,
        f"an integer of at least {low}",
        int,
    )


def _not_negative(name):
    return _check(name, lambda value: 0 <= value < math.inf, "zero or above")


def _share(name):
    return _check(name, lambda value: 0 <= value <= 1, "in [0, 1]")


def _share_below_one(name):
    return _check(name, lambda value: 0 <= value < 1, "in [0, 1)")


def _one_of(name, known):
    expected = f"one of {', '.join(known)}"
    return _check(name, lambda value: value in known, expected, str)


def check_together(options):
    """Refuses options that are right on their own, but not together."""
    low, high = options.get("min_mask_ratio"), options.get("max_mask_ratio")
    if low is not None and low > high:
        raise InputError(
            "`min_mask_ratio` is expected to be at most `max_mask_ratio`. "
            f"Received: min_mask_ratio={low}, max_mask_ratio={high}"
        )


CHECKS = {
    "epsilon": check_epsilon,
    "step_size": check_step_size,
    "implicit_lambda": check_lambda,
    "uap_epsilon": lambda value: check_epsilon(value, "uap_epsilon"),
    "label_factor": _check(
        "label_factor", lambda value: 0 < value <= 1, "in (0, 1]"
    ),
    **{
        name: _integer(name)
        for name in (
            "steps",
            "replays",
            "checkpoints",
            "reset_epochs",
            "uaps",
            "refresh_batches",
        )
    },
    "stride": _integer("stride", 0),
    **{
        name: _not_negative(name)
        for name in (
            "coefficient",
            "loss_coefficient",
            "logit_coefficient",
            "noise_scale",
            "growth",
            "tolerance",
            "reach",
        )
    },
    **{
        name: _share(name)
        for name in ("quantile", "min_mask_ratio", "max_mask_ratio")
    },
    **{
        name: _share_below_one(name)
        for name in ("momentum_decay", "random_smoothing")
    },
    **{
        name: _one_of(name, known)
        for name, known in {
            "linearization": LINEARIZATIONS,
            "implicit_gradient": IMPLICIT_GRADIENTS,
            "attack_mode": MODES,
            "form": FORMS,
            "start": FREE_STARTS,
            "coefficient_schedule": SCHEDULES,
            "base_attack": BASE_ATTACKS,
        }.items()
    },
}
