"""The attacks that measure robustness, by the name of their flag value."""

import importlib
import re
import sys
from typing import NamedTuple

from fastbat_tf.errors import InputError

_COUNT = r"[1-9]\d*"


class AttackSpec(NamedTuple):
    """Where an attack is, and how its name is written.

    Attributes:
        class_name: `<module>.<class>` in `fastbat_tf/attacks`.
        form: The name as a user reads it: capitals stand for numbers or
            names, brackets for what can be left out.
        pattern: Regular expression of the name; its groups are arguments of
            the constructor.
        arguments: Dict of further arguments of the constructor.
    """

    class_name: str
    form: str
    pattern: str
    arguments: dict


# Names instead of classes: the flags read this table, and importing the
# classes would import TensorFlow.
ATTACKS = {
    "fgsm": AttackSpec("fgsm.FGSMAttack", "fgsm", "fgsm", {}),
    "pgd": AttackSpec(
        "pgd.PGDAttack",
        "pgd-STEPS-RESTARTS[-margin|-dlr]",
        rf"pgd-(?P<steps>{_COUNT})-(?P<restarts>{_COUNT})"
        r"(-(?P<loss>ce|margin|dlr))?",
        {},
    ),
    "apgd-ce": AttackSpec(
        "apgd.APGDAttack",
        "apgd-ce[-STEPS]",
        rf"apgd-ce(-(?P<steps>{_COUNT}))?",
        {"loss": "ce"},
    ),
    "apgd-dlr": AttackSpec(
        "apgd.APGDAttack",
        "apgd-dlr[-STEPS]",
        rf"apgd-dlr(-(?P<steps>{_COUNT}))?",
        {"loss": "dlr"},
    ),
    "apgd-t": AttackSpec(
        "apgd.APGDTargetedAttack",
        "apgd-t[-STEPS]",
        rf"apgd-t(-(?P<steps>{_COUNT}))?",
        {},
    ),
    "fab-t": AttackSpec(
        "fab.FABAttack",
        "fab-t[-STEPS]",
        rf"fab-t(-(?P<steps>{_COUNT}))?",
        {},
    ),
    "square": AttackSpec(
        "square.SquareAttack",
        "square[-QUERIES]",
        rf"square(-(?P<queries>{_COUNT}))?",
        {},
    ),
    # Expectation over transformation, for models that draw at random.
    "apgd-ce-rand": AttackSpec(
        "apgd.APGDAttack",
        "apgd-ce-rand[-STEPS]",
        rf"apgd-ce-rand(-(?P<steps>{_COUNT}))?",
        {"loss": "ce", "samples": 20},
    ),
    "apgd-dlr-rand": AttackSpec(
        "apgd.APGDAttack",
        "apgd-dlr-rand[-STEPS]",
        rf"apgd-dlr-rand(-(?P<steps>{_COUNT}))?",
        {"loss": "dlr", "samples": 20},
    ),
    "autoattack": AttackSpec(
        "autoattack.AutoAttack", "autoattack", "autoattack", {}
    ),
    "autoattack-rand": AttackSpec(
        "autoattack.AutoAttack",
        "autoattack-rand",
        "autoattack-rand",
        {"version": "rand"},
    ),
    "custom": AttackSpec(
        "autoattack.AutoAttack",
        "ATTACK+ATTACK[+...]",
        r"(?P<attacks>[^+]+(\+[^+]+)+)",
        {"version": "custom"},
    ),
    "transfer": AttackSpec(
        "transfer.TransferAttack",
        "transfer[-ATTACK]",
        r"transfer(-(?P<attack>[^+]+))?",
        {},
    ),
}
# By norm: the whole range of the pixels, or any number.
LARGEST_EPSILON = {"linf": 1.0, "l2": sys.float_info.max}
PARTS = tuple(ATTACKS)[: tuple(ATTACKS).index("autoattack")]
TRANSFERABLE = ("fgsm", "pgd", "apgd-ce", "apgd-dlr", "apgd-t")


class ParsedAttack(NamedTuple):
    """An attack as it is written.

    Attributes:
        key: Of `ATTACKS`.
        arguments: Dict, of the constructor.
    """

    key: str
    arguments: dict

    @property
    def needs_surrogate(self):
        """Whether the perturbations are made on another model."""
        return self.key == "transfer"


def parse(name):
    """Reads the name of an attack, such as `"pgd-50-10"`.

    Returns:
        A `ParsedAttack`.

    Raises:
        InputError: If there is no such attack; lists the known ones.

    Example:

    >>> parse("apgd-t-20").arguments
    {'steps': 20}
    """
    for key, spec in ATTACKS.items():
        match = re.fullmatch(spec.pattern, name)
        if not match:
            continue
        arguments = dict(spec.arguments)
        for argument, text in match.groupdict().items():
            if text is not None:
                arguments[argument] = int(text) if text.isdigit() else text
        if key == "custom":
            arguments["attacks"] = tuple(arguments["attacks"].split("+"))
            _check_parts(arguments["attacks"], name, PARTS)
        if key == "transfer" and "attack" in arguments:
            _check_parts((arguments["attack"],), name, TRANSFERABLE)
        return ParsedAttack(key, arguments)
    forms = ", ".join(spec.form for spec in ATTACKS.values())
    raise InputError(
        f"Unknown attack. Expected one of {forms}. Received: attack={name}"
    )


def _check_parts(parts, name, known):
    keys = [parse(part).key for part in parts]
    if not set(keys) <= set(known) or len(set(parts)) < len(parts):
        forms = ", ".join(ATTACKS[key].form for key in known)
        raise InputError(
            f"The attacks within an attack are expected to be of {forms}, none "
            f"of them twice. Received: attack={name}"
        )


def check_attacks(names):
    """Refuses names of which one is unknown or stands twice, or no name."""
    if not names or len(set(names)) < len(names):
        raise InputError(
            "`attacks` is expected to hold at least one, and none twice. "
            f"Received: attacks={names}"
        )
    for name in names:
        parse(name)


def check_epsilons(epsilons, norm):
    """Refuses radii to be measured: not above 0, too large, or twice."""
    largest = LARGEST_EPSILON[norm]
    for epsilon in epsilons:
        if not 0 < epsilon <= largest:
            raise InputError(
                "`epsilons` are expected above 0 and finite, at most 1 for "
                f"linf, such as 8/255. Received: epsilon={epsilon}"
            )
    if len(set(epsilons)) < len(epsilons):
        raise InputError(
            "`epsilons` is expected to hold none twice. "
            f"Received: epsilons={epsilons}"
        )


def check_surrogate(names, surrogate):
    """Refuses `transfer` without a surrogate, and the reverse."""
    transfers = [name for name in names if parse(name).needs_surrogate]
    if bool(transfers) != (surrogate is not None):
        raise InputError(
            "A surrogate and the attack transfer are expected together. "
            f"Received: attacks={','.join(names)}, surrogate={surrogate}"
        )


def get(name, network, surrogate=None, **kwargs):
    """Builds an attack.

    Args:
        name: As `parse` takes it.
        network: Callable from images to logits, the attacked one.
        surrogate: Callable from images to logits, for `transfer`.
        **kwargs: `norm`, `batch_size` and `jit_compile`, as for `Attack`.

    Returns:
        An `Attack`.

    Raises:
        InputError: If the name or an argument is wrong, or `transfer` has no
            surrogate.

    Example:

    ```python
    attack = get("autoattack", functools.partial(model, training=False))
    robust = attack(images, labels, epsilon=8 / 255).robust
    ```
    """
    key, arguments = parse(name)
    module, class_name = ATTACKS[key].class_name.split(".")
    module = importlib.import_module(f"fastbat_tf.attacks.{module}")
    if key == "transfer":
        if surrogate is None:
            raise InputError(
                "A transfer attack is expected to come with a surrogate. "
                f"Received: attack={name}, surrogate=None"
            )
        arguments = {**arguments, "surrogate": surrogate}
    attack = getattr(module, class_name)(network, **arguments, **kwargs)
    attack.title = name
    return attack
