"""The attacks that measure robustness, by name.

To add an attack, write its class in a file of this folder, and add one entry to
`ATTACKS`.
"""

import importlib
import math
import numbers
import re
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Unpack

from fastbat_tf.attacks import surrogates
from fastbat_tf.errors import InputError
from fastbat_tf.runtime import formatting

if TYPE_CHECKING:  # They import TensorFlow.
    from fastbat_tf.attacks.base import Attack, Settings
    from fastbat_tf.attacks.bound import BoundAttack


class AttackSpec(NamedTuple):
    """The class of an attack, and how its name is written.

    Attributes:
        class_name: `<module>.<class>` in `fastbat_tf/attacks`.
        form: The name as a user reads it. Words in capitals stand for integers
            of at least 1, which are passed to the constructor as the argument
            of that name, in lower case; CLASS is an integer of at least 0, the
            argument `target`. Brackets enclose optional parts.
        arguments: Dict of further arguments of the constructor. Defaults to
            none.
        pattern: Regular expression of the name, whose groups are arguments of
            the constructor. Defaults to None, the pattern of `form`.
        transferable: Whether `transfer` can run the attack on a surrogate.
            Defaults to False.
    """

    class_name: str
    form: str
    arguments: dict = {}
    pattern: str | None = None
    transferable: bool = False

    def match(self, name):
        """Matches a name; returns a `re.Match` or None."""
        pattern = self.pattern
        if pattern is None:
            pattern = self.form.replace("[", "(").replace("]", ")?")
            pattern = re.sub("[A-Z]+", _as_group, pattern)
        return re.fullmatch(pattern, name)


def _as_group(word):
    if word[0] == "CLASS":
        return r"(?P<target>0|[1-9]\d*)"
    return rf"(?P<{word[0].lower()}>[1-9]\d*)"


# Names instead of classes: flags read this table, and importing the classes
# would import TensorFlow.
ATTACKS = {
    "fgsm": AttackSpec("fgsm.FGSM", "fgsm[-target-CLASS]", transferable=True),
    "mi-fgsm": AttackSpec(
        "mi_fgsm.MIFGSM", "mi-fgsm[-STEPS][-target-CLASS]", transferable=True
    ),
    "pgd": AttackSpec(
        "pgd.PGD",
        "pgd-STEPS-RESTARTS[-margin|-dlr][-target-CLASS]",
        pattern=r"pgd-(?P<steps>[1-9]\d*)-(?P<restarts>[1-9]\d*)"
        r"(-(?P<loss>ce|margin|dlr))?(-target-(?P<target>0|[1-9]\d*))?",
        transferable=True,
    ),
    "apgd-ce": AttackSpec(
        "apgd.APGD",
        "apgd-ce[-STEPS][-target-CLASS]",
        {"loss": "ce"},
        transferable=True,
    ),
    "apgd-dlr": AttackSpec(
        "apgd.APGD",
        "apgd-dlr[-STEPS]",
        {"loss": "dlr"},
        transferable=True,
    ),
    "apgd-t": AttackSpec(
        "apgd.APGDTargeted", "apgd-t[-STEPS][-target-CLASS]", transferable=True
    ),
    "fab-t": AttackSpec("fab.FAB", "fab-t[-STEPS]"),
    "square": AttackSpec("square.Square", "square[-QUERIES]"),
    # Expectation over transformation, for models with random outputs.
    "apgd-ce-rand": AttackSpec(
        "apgd.APGD",
        "apgd-ce-rand[-STEPS]",
        {"loss": "ce", "samples": 20},
    ),
    "apgd-dlr-rand": AttackSpec(
        "apgd.APGD",
        "apgd-dlr-rand[-STEPS]",
        {"loss": "dlr", "samples": 20},
    ),
    "autoattack": AttackSpec("autoattack.AutoAttack", "autoattack"),
    "autoattack-rand": AttackSpec(
        "autoattack.AutoAttack", "autoattack-rand", {"version": "rand"}
    ),
    "custom": AttackSpec(
        "autoattack.AutoAttack",
        "ATTACK+ATTACK[+...]",
        {"version": "custom"},
        pattern=r"(?P<attacks>[^+]+(\+[^+]+)+)",
    ),
    "transfer": AttackSpec(
        "transfer.Transfer",
        "transfer[-ATTACK]",
        pattern=r"transfer(-(?P<attack>[^+]+))?",
    ),
}
# These cannot be part of a custom ensemble.
_COMPOSITE = ("autoattack", "autoattack-rand", "custom", "transfer")

# By norm: the whole pixel range, or any finite number.
LARGEST_EPSILON = {"linf": 1.0, "l2": sys.float_info.max}
# The radii of most published tables of CIFAR-10.
DEFAULT_EPSILON = {"linf": 8 / 255, "l2": 128 / 255}
_SPELLINGS = {"linf": "linf", "inf": "linf", "l2": "l2", "2": "l2"}


def parse_norm(value: str | float) -> str:
    """Returns the name of a norm for any of its usual spellings.

    Args:
        value: `"linf"` or `"l2"`, in any case, also as `"L_inf"`, `"L-inf"`,
            `"inf"` or `"l_2"`; or the order of the norm, `math.inf` or 2.

    Returns:
        `"linf"` or `"l2"`.

    Raises:
        InputError: If it is no such norm; lists the known ones.

    Example:

    >>> parse_norm("Linf"), parse_norm(2)
    ('linf', 'l2')
    """
    spelled = value
    if isinstance(value, numbers.Real) and value in (2, math.inf):
        spelled = "l2" if value == 2 else "linf"
    spelled = re.sub("[-_ ]", "", str(spelled)).lower()
    if spelled not in _SPELLINGS:
        raise InputError(
            f"Unknown norm. Expected one of {', '.join(LARGEST_EPSILON)}. "
            f"Received: norm={value}"
        )
    return _SPELLINGS[spelled]


class ParsedAttack(NamedTuple):
    """The content of an attack's name.

    Attributes:
        key: A key of `ATTACKS`.
        arguments: Dict, the arguments of the constructor.
    """

    key: str
    arguments: dict

    @property
    def needs_surrogate(self):
        """Whether the perturbations are made on another model."""
        return self.key == "transfer"

    @property
    def target(self):
        """The class that the model shall predict, or None."""
        if self.key == "transfer" and "attack" in self.arguments:
            return parse(self.arguments["attack"]).target
        return self.arguments.get("target")


def parse(name: str) -> ParsedAttack:
    """Parses the name of an attack.

    Args:
        name: String, such as `"pgd-50-10"`.

    Returns:
        A `ParsedAttack`.

    Raises:
        InputError: If there is no such attack; lists the known ones.

    Example:

    >>> parse("apgd-t-20").arguments
    {'steps': 20}
    """
    for key, spec in ATTACKS.items():
        match = spec.match(name)
        if not match:
            continue
        arguments = dict(spec.arguments)
        for argument, text in match.groupdict().items():
            if text is not None:
                arguments[argument] = int(text) if text.isdigit() else text
        if key == "custom":
            arguments["attacks"] = tuple(arguments["attacks"].split("+"))
            allowed = [part for part in ATTACKS if part not in _COMPOSITE]
            _check_parts(arguments["attacks"], name, allowed)
        if key == "transfer" and "attack" in arguments:
            allowed = [part for part in ATTACKS if ATTACKS[part].transferable]
            _check_parts((arguments["attack"],), name, allowed)
        return ParsedAttack(key, arguments)
    forms = ", ".join(spec.form for spec in ATTACKS.values())
    raise InputError(
        f"Unknown attack. Expected one of {forms}. Received: attack={name}"
    )


def _check_parts(parts, name, allowed):
    parsed = [parse(part) for part in parts]
    keys = [part.key for part in parsed]
    if len(parts) > 1 and any(part.target is not None for part in parsed):
        raise InputError(
            "An ensemble is expected to consist of attacks without a target. "
            f"Received: attack={name}"
        )
    if not set(keys) <= set(allowed) or len(set(parts)) < len(parts):
        forms = ", ".join(ATTACKS[key].form for key in allowed)
        raise InputError(
            "An attack inside another one is expected to be one of "
            f"{forms}, none of them twice. Received: attack={name}"
        )


def check_attacks(names: Sequence[str]) -> None:
    """Rejects a list of attacks that is empty, or has unknown or equal names.

    Args:
        names: Sequence of strings.

    Raises:
        InputError: If the list is rejected.

    Example:

    >>> check_attacks(["pgd-50-10", "autoattack"])
    """
    if not names or len(set(names)) < len(names):
        raise InputError(
            "`attacks` is expected to hold at least one, and none twice. "
            f"Received: attacks={names}"
        )
    for name in names:
        parse(name)


def check_epsilons(epsilons: Sequence[float], norm: str | float) -> None:
    """Rejects radii that are not above 0, too large, or equal.

    Args:
        epsilons: Sequence of floats.
        norm: `"linf"` or `"l2"`, in any spelling that `parse_norm` takes.

    Raises:
        InputError: If a radius is rejected.

    Example:

    >>> check_epsilons([8 / 255, 16 / 255], "linf")
    """
    largest = LARGEST_EPSILON[parse_norm(norm)]
    for epsilon in epsilons:
        if not 0 < epsilon <= largest:
            raise InputError(
                "`epsilons` are expected above 0 and finite, at most 1 for "
                "linf, such as 8/255. "
                f"Received: epsilon={formatting.as_given(epsilon)}"
            )
    if len(set(epsilons)) < len(epsilons):
        raise InputError(
            "`epsilons` is expected to hold none twice. "
            f"Received: epsilons={formatting.as_given(epsilons)}"
        )


def check_surrogate(names: Sequence[str], surrogate: Any) -> None:
    """Rejects `transfer` without a surrogate, and a surrogate without it.

    Args:
        names: Sequence of attack names.
        surrogate: A model, a list of models, or None.

    Raises:
        InputError: If only one of the two is given, or if the list is empty or
            has a model twice.

    Example:

    >>> check_surrogate(["pgd-50-10"], None)
    """
    transfers = [name for name in names if parse(name).needs_surrogate]
    if isinstance(surrogate, list | tuple):
        models = surrogates.as_surrogates(surrogate)
        surrogate = ",".join(map(surrogates.describe, models))
    if bool(transfers) != (surrogate is not None):
        raise InputError(
            "A surrogate and the attack transfer are expected together. "
            f"Received: attacks={','.join(names)}, surrogate={surrogate}"
        )


def build(
    name: str,
    surrogate: Any = None,
    epsilon: float | None = None,
    **settings: "Unpack[Settings]",
) -> "Attack":
    """Builds an attack by name.

    Args:
        name: String that `parse` accepts, such as `"autoattack"`.
        surrogate: The model on which `transfer` makes its perturbations, or a
            list of models. Defaults to None.
        epsilon: Float, the radius. Defaults to None, that of the norm.
        **settings: `norm`, `batch_size`, `seed` and `jit_compile` of `Attack`.

    Returns:
        An `Attack`.

    Raises:
        InputError: If the name or an argument is invalid, or if `transfer` has
            no surrogate.

    Example:

    ```python
    adversarial = build("pgd-50-10")(model, images, labels)
    ```
    """
    key, arguments = parse(name)
    module, class_name = ATTACKS[key].class_name.split(".")
    module = importlib.import_module(f"fastbat_tf.attacks.{module}")
    if key == "transfer":
        if surrogate is None:
            raise InputError(
                "A transfer attack needs a surrogate. "
                f"Received: attack={name}, surrogate=None"
            )
        arguments = {**arguments, "surrogate": surrogate}
    attack_class = getattr(module, class_name)
    attack = attack_class(epsilon=epsilon, **arguments, **settings)
    attack.title = name
    return attack


def get(
    name: str,
    network: Callable[..., Any],
    surrogate: Any = None,
    **settings: "Unpack[Settings]",
) -> "BoundAttack":
    """Builds an attack on a network by name.

    Args:
        name: String that `parse` accepts, such as `"autoattack"`.
        network: Callable from images in [0, 1] to logits, the attacked network.
        surrogate: Callable from images in [0, 1] to logits, on which `transfer`
            makes its perturbations, or a list of these. Defaults to None.
        **settings: `norm`, `batch_size` and `jit_compile` of `Attack`.

    Returns:
        A `BoundAttack`.

    Raises:
        InputError: If the name or an argument is invalid, or if `transfer` has
            no surrogate.

    Example:

    ```python
    attack = get("autoattack", functools.partial(model, training=False))
    robust = attack(images, labels, epsilon=8 / 255).robust
    ```
    """
    return build(name, surrogate, **settings).on(network)
