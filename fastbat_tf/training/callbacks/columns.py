"""The columns that callbacks add to the logs of an epoch."""

from fastbat_tf.errors import InputError


def refuse_metrics(model, *columns):
    """Rejects names that metrics of the user have, before the training.

    Args:
        model: The `RobustClassifier`, or any Keras model, of whose metrics
            nothing is known.
        *columns: Strings, the names that a callback will add.

    Raises:
        InputError: If a metric has one of these names.
    """
    refuse_taken(getattr(model, "user_metrics", ()), *columns)


def refuse_taken(taken, *columns):
    """Rejects names that something else has in the logs already.

    Args:
        taken: The names that are taken, or a dict with these keys.
        *columns: Strings, the names that a callback is about to add.

    Raises:
        InputError: If a name is taken.
    """
    for name in columns:
        if name in taken:
            raise InputError(
                f"A callback logs `{name}`, but a metric or another callback "
                "has this name; expected it once. "
                f"Received: name={name}"
            )


def read(logs, name, source):
    """Reads a value that an earlier callback adds to the logs.

    Args:
        logs: Dict.
        name: String, the column.
        source: String, the callback that adds it.

    Raises:
        InputError: If the logs do not hold it.
    """
    if name not in logs:
        raise InputError(
            f"The logs do not hold `{name}`; expected a `{source}` before this "
            f"callback in the list. Received: logs={', '.join(logs)}"
        )
    return logs[name]
