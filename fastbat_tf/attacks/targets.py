"""Which class an attack shall reach, and whether it does.

An attack with targets leads the model to predict one class of the user's
choice. It succeeds on an example if the model predicts the target. Examples
whose label is the target are not attacked, and neither are those that the model
misclassifies.
"""

import numpy as np

from fastbat_tf.attacks import registry
from fastbat_tf.data.examples import describe
from fastbat_tf.errors import InputError


def check_targets(names, classes):
    """Checks the targets of attacks.

    Args:
        names: Sequence of attack names.
        classes: Integer, the number of classes.

    Raises:
        InputError: If one of them is not one of the classes.
    """
    for name in names:
        target = registry.parse(name).target
        if target is not None and target >= classes:
            raise InputError(
                f"The target is expected in [0, {classes}), the classes of the "
                f"model. Received: attack={name}"
            )


def as_targets(targets, clean):
    """Converts the targets of a call, and checks them.

    Args:
        targets: Integers `(examples,)`.
        clean: The `Clean` examples.

    Returns:
        int32 array `(examples,)`.

    Raises:
        InputError: If they are not a class for each example.
    """
    count, classes = len(clean.labels), clean.logits.shape[-1]
    values = np.asarray(targets)
    if values.shape != (count,) or values.dtype.kind not in "iu":
        raise InputError(
            f"`targets` is expected to hold {count} integers, a class for each "
            f"image. Received: targets={describe(targets)}"
        )
    if not 0 <= values.min() <= values.max() < classes:
        raise InputError(
            f"`targets` are expected in [0, {classes}), the classes of the "
            f"model. Received: range=({values.min()}, {values.max()})"
        )
    return values.astype(np.int32)


def toward_each(attack):
    """Returns an attack for calls that give the targets, made once.

    Raises:
        InputError: If it cannot lead toward a class.
    """
    make = getattr(attack, "toward_each", None)
    if make is None:
        raise InputError(
            "`targets` are expected for FGSM, MIFGSM, PGD, APGD, APGDTargeted, "
            f"or Transfer. Received: attack={type(attack).__name__}"
        )
    made = vars(attack).get("_toward_each")
    if made is None:
        made = attack._toward_each = make()
    return made


def of(attack, clean):
    """Returns the target of each example.

    Args:
        attack: A `SteppedAttack`.
        clean: The `Clean` examples, with the targets of the call, if any.

    Returns:
        int32 array `(examples,)`; None if any wrong class will do.

    Raises:
        InputError: If the target is not one of the model's classes.
    """
    if not attack.is_targeted:
        return None
    if attack.target is None:
        return clean.targets
    classes = clean.logits.shape[-1]
    if attack.target >= classes:
        raise InputError(
            f"The target is expected in [0, {classes}), the classes of the "
            f"model. Received: target={attack.target}"
        )
    return np.full(len(clean.labels), attack.target, np.int32)


def by_round(attack, clean):
    """Returns the target classes of each example, for one round after another.

    Args:
        attack: A `SteppedAttack`.
        clean: The `Clean` examples.

    Returns:
        int32 array `(examples, targets)`: the target; or the wrong classes from
        the likeliest down.
    """
    targets = of(attack, clean)
    if targets is not None:
        return targets[:, np.newaxis]
    order = np.argsort(-np.nan_to_num(clean.logits), axis=-1, kind="stable")
    rest = order != clean.labels[:, np.newaxis]
    return order[rest].reshape(len(order), -1).astype(np.int32)


def attacked(attack, clean, robust):
    """Returns which examples an attack has to work on.

    Args:
        attack: A `SteppedAttack`.
        clean: The `Clean` examples.
        robust: bool array `(examples,)`, those that are classified correctly.

    Returns:
        bool array `(examples,)`: of these, the ones of other classes than the
        target.
    """
    targets = of(attack, clean)
    return robust if targets is None else robust & (clean.labels != targets)


def left(attack, clean, robust, record):
    """Returns which examples are robust after an attack.

    Args:
        attack: A `SteppedAttack`.
        clean: The `Clean` examples.
        robust: bool array `(examples,)`, those that were robust before.
        record: The `Record` of the attack.

    Returns:
        bool array `(examples,)`. With targets, an image that ends in a third
        class is not robust, although the attack has not succeeded.
    """
    if not attack.is_targeted:
        return record.robust
    return robust & (record.predicted == clean.labels)


def is_worse(attack, record, examples, labels, *, fooled, loss, predicted):
    """Returns which rounds found something worse than the rounds before.

    An image of the target is worse than one of a third class, which is worse
    than one that is classified correctly; among equals the loss decides. So
    more rounds never leave more examples robust.

    Args:
        attack: A `SteppedAttack`.
        record: The `Record`.
        examples: Integer array `(rounds,)`, the examples of the rounds.
        labels: int32 array `(rounds,)`, their labels.
        fooled: bool array `(rounds,)`, whether the round succeeded.
        loss: float32 array `(rounds,)`.
        predicted: int32 array `(rounds,)`.

    Returns:
        bool array `(rounds,)`.
    """
    higher = loss > record.loss[examples]
    if attack.is_targeted:
        wrong = predicted != labels
        known = record.predicted[examples] != labels
        higher = (wrong & ~known) | (higher & (wrong == known))
    return fooled | higher
