"""Options of the methods: how a class declares them, and how they are checked.

A method declares an option as an attribute of its class:

```python
class FastAT(Method):
    epsilon: float = option(8 / 255, kind="fraction", interval="[0, 1]")
    step_size: float | None = option(formula="1.25 * epsilon", kind="fraction")
```

An argument of None stands for the default. The annotation `float | None` tells
type checkers so; the attribute itself is never None.

This module imports no TensorFlow, so that the command line rejects a wrong
option at once.
"""

import re
from collections.abc import Sequence
from typing import Any, Literal, get_args

from fastbat_tf.attacks.registry import LARGEST_EPSILON
from fastbat_tf.errors import InputError
from fastbat_tf.methods import expressions
from fastbat_tf.methods.option_type import (
    KINDS,
    WORDS,
    Kind,
    Option,
    expect,
)

Mode = Literal["training", "inference"]
TRAINING, INFERENCE = get_args(Mode)
Form = Literal["paper", "benchmark"]
PAPER, BENCHMARK = get_args(Form)


class Shown(str):
    """Stands for a default in a signature, which shows it without quotes."""

    __slots__ = ()
    __repr__ = str.__str__


def option(
    default: Any = None,
    help: str = "",  # noqa: A002 The word of `argparse` and absl.
    *,
    kind: Kind | None = None,
    interval: str | None = None,
    choices: Sequence[str] = (),
    formula: str | None = None,
    shown: str | None = None,
    hint: str = "",
    word: str = "",
    applies: str | None = None,
) -> Any:
    """Declares an option of a method, as an attribute of its class.

    The class then takes the option as an argument of its constructor, in the
    order of the declarations, checks it, and saves it with the model. A method
    of the library also gets a flag of this name.

    Args:
        default: The default. Defaults to None, for an option with a `formula`.
        help: Short description of the option. Defaults to `""`.
        kind: `"float"`, `"integer"`, `"fraction"` (a float that the command
            line takes as `8/255`, too), `"choice"`, or `"norm"`, which is
            taken in any spelling, such as `"Linf"`. Defaults to `"choice"` if
            there are `choices`, to `"integer"` if the default is an integer,
            else to `"float"`.
        interval: String, the values that are allowed, such as `"[0, 1]"` or
            `"(0, inf)"`. A bound may name an option that is declared before.
            The interval may depend on a choice, such as `"[0, 1] if norm ==
            'linf' else [0, inf)"`. Defaults to all finite numbers.
        choices: Sequence of strings, the values that are allowed; with
            `Literal["a", "b"]` as the annotation, type checkers know them,
            too. Defaults to `()`, for numbers, or to `("linf", "l2")` for a
            `"norm"`.
        formula: String, the default as an expression of the choices and of the
            options that are declared before, such as `"1.25 * epsilon"`. It
            may call `interpolate`, `max` and `min`. Defaults to None.
        shown: String that replaces the default in documentation. Defaults to
            the formula or the default itself.
        hint: String that errors add. Defaults to `""`.
        word: String that is taken in place of a number, such as `"auto"`,
            perhaps only for a choice: `"auto if norm == 'linf'"`. Defaults to
            `""`, for none.
        applies: String, when the option applies, as an expression of options
            declared before, such as `"step_size == 'auto'"`. Elsewhere the
            attribute is None, and giving a value is an error. Defaults to None,
            for always.

    Returns:
        An `Option`. It is declared as `Any`, so that a type checker accepts
        `epsilon: float = option(8 / 255)`.

    Raises:
        InputError: If the kind is unknown, or the interval cannot be read.

    Example:

    ```python
    class Noise(fb.Method):
        epsilon: float = fb.option(8 / 255, "Radius.", interval="[0, 1]")
        scale: float = fb.option(2.0, "Scale of noise.", interval="(0, inf)")
        steps: int = fb.option(3, "Number of steps.", interval="[1, inf)")
        start: float = fb.option(formula="scale * epsilon")
    ```
    """
    if kind is None:
        if choices:
            kind = "choice"
        else:
            is_integer = isinstance(default, int) and formula is None
            kind = "integer" if is_integer else "float"
    interval = interval or "(-inf, inf)"
    if kind == "norm":
        choices = choices or tuple(LARGEST_EPSILON)
    if kind not in KINDS or (kind in WORDS) != bool(choices):
        raise InputError(
            f"`kind` is expected to be one of {', '.join(KINDS)}, and to be "
            "one of the last two with `choices`. "
            f"Received: kind={kind}, choices={choices}"
        )
    if not re.fullmatch(expressions.INTERVAL, interval):
        raise InputError(
            "`interval` is expected to be like [0, 1] or (0, inf). "
            f"Received: interval={interval}"
        )
    return Option(
        default,
        help,
        kind,
        interval,
        tuple(choices),
        formula,
        shown,
        hint,
        word,
        applies,
    )


def resolve(declared, given):
    """Checks the given options, and fills in the defaults of the others.

    Args:
        declared: Dict of `Option`s by name, in the order of declaration.
        given: Dict of values by name; None stands for the default.

    Returns:
        Dict of all options.

    Raises:
        InputError: If a value is not allowed.
    """
    resolved = {}
    # Choices first: they depend on nothing, and others depend on them.
    for name in sorted(declared, key=lambda name: not _is_free(declared[name])):
        declaration, value = declared[name], given.get(name)
        before = {key: resolved[key] for key in declared if key in resolved}
        is_given = value is not None and not isinstance(value, Shown)
        if declaration.applies is not None:
            if is_given:
                expect(declaration.applies, name, value, before)
            elif not expressions.evaluate(declaration.applies, before):
                resolved[name] = None
                continue
        if not is_given:
            value = _default(name, declaration, before)
        resolved[name] = declaration.check(name, value, before)
    return {name: resolved[name] for name in declared}


def _is_free(declaration):
    return declaration.kind in WORDS and declaration.formula is None


def _default(name, declaration, before):
    if declaration.formula is None:
        return declaration.default
    try:
        return expressions.evaluate(declaration.formula, before)
    except ArithmeticError as error:
        received = ", ".join(f"{key}={value}" for key, value in before.items())
        raise InputError(
            f"The default of `{name}`, {declaration.formula}, does not exist "
            f"here ({error}); expected a value. Received: {received}"
        ) from error


# Options that several methods have.

EPSILON: Any = option(
    8 / 255,
    "Radius of the L-infinity ball.",
    kind="fraction",
    interval="[0, 1]",
)
# For methods that have the option `NORM`.
EPSILON_OF_NORM: Any = option(
    formula="8 / 255 if norm == 'linf' else 128 / 255",
    shown="8/255, in L2 128/255",
    help="Radius of the ball.",
    kind="fraction",
    interval="[0, 1] if norm == 'linf' else [0, inf)",
)
NORM: Any = option(
    "linf", "Norm of the perturbations and of epsilon.", kind="norm"
)
FORM: Any = option(
    PAPER,
    "Form of the method: the paper's, or the FastAT Benchmark's.",
    choices=get_args(Form),
)
LABEL_FACTOR: Any = option(
    0.6,
    "Share of a label that its class keeps; 1 leaves the labels unchanged.",
    interval="(0, 1]",
)
MOMENTUM_DECAY: Any = option(
    0.3, "Decay of the momentum of the start.", interval="[0, 1)"
)
RESET_EPOCHS: Any = option(
    40, "Epochs after which the start is forgotten.", interval="[1, inf)"
)
TOLERANCE: Any = option(
    0.03,
    "Change of the clean loss between epochs that is not penalized.",
    interval="[0, inf)",
)
STRIDE: Any = option(
    1,
    "Number of epochs without a penalty, at either end of the training.",
    interval="[0, inf)",
)
UAP_EPSILON: Any = option(
    formula="min(1.25 * epsilon, 1.0)",
    help="Radius of the universal perturbations.",
    kind="fraction",
    interval="[0, 1]",
)


def step_size(formula="epsilon", shown=None, **kwargs) -> Any:
    """Declares the step size of the attack.

    Args:
        formula: String, the default. Defaults to `"epsilon"`.
        shown: String, see `option`. Defaults to the formula.
        **kwargs: Other arguments of `option`.
    """
    return option(
        formula=formula,
        shown=shown,
        **{"help": "Step size of the attack.", **kwargs},
        kind="fraction",
        interval="[0, inf)",
    )


def coefficient(default=None, help="", **kwargs) -> Any:  # noqa: A002
    """Declares the weight of a term of the loss, zero or above.

    Args:
        default: Float. Defaults to None, for an option with a `formula`.
        help: String, see `option`. Defaults to `""`.
        **kwargs: Other arguments of `option`.
    """
    return option(default, help, interval="[0, inf)", **kwargs)


def steps(default) -> Any:
    """Declares the number of steps of the attack."""
    return option(
        default, "Number of steps of the attack.", interval="[1, inf)"
    )


def attack_mode(default) -> Any:
    """Declares the mode of BatchNormalization and Dropout in the attack."""
    return option(
        default,
        "Mode of BatchNormalization and Dropout in the attack.",
        choices=get_args(Mode),
    )
