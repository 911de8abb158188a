"""The metrics that a training step adds to those of the user.

Their names begin with `robust_`, so that they never collide with the name of a
metric that a user chose.
"""

import keras

from fastbat_tf.errors import InputError

PREFIX = "robust_"
GRADIENT_NORM = f"{PREFIX}gradient_norm"
EPSILON_SHARE = f"{PREFIX}epsilon_share"


def create(method):
    """Creates a mean for each scalar that a step with this method reports.

    Args:
        method: A `Method`.

    Raises:
        InputError: If two of them have the same name.
    """
    for name in ("gradient_norm", "epsilon_share"):
        if name in method.reports:
            raise InputError(
                f"The training itself reports `{name}`; expected another name. "
                f"Received: {type(method).__name__}.reports={method.reports}"
            )
    return [
        keras.metrics.Mean(name=f"{PREFIX}{name}")
        for name in ("gradient_norm", *method.reports)
        if name not in method.unused_reports
    ]


def update(means, reports, batch):
    """Adds the reports of a step to their means.

    Args:
        means: The list that `create` returned.
        reports: Dict of scalars, without the prefix.
        batch: Integer or scalar tensor, the number of examples.

    Raises:
        InputError: If a report has no mean.
    """
    by_name = {mean.name.removeprefix(PREFIX): mean for mean in means}
    for name, value in reports.items():
        if name not in by_name:
            raise InputError(
                f"The method reports `{name}`; expected its name in the "
                f"`reports` of its class. Received: reports={tuple(by_name)}"
            )
        by_name[name].update_state(value, sample_weight=batch)


def user_names(means, *given):
    """Lists the names of the user's metrics, of which none may be ours.

    Args:
        means: The list that `create` returned.
        *given: The arguments `metrics` and `weighted_metrics` of `compile`.

    Returns:
        Tuple of strings.

    Raises:
        InputError: If two metrics would have the same name in the logs.
    """
    ours = ("loss", EPSILON_SHARE, *(mean.name for mean in means))
    found = tuple(
        metric
        if isinstance(metric, str)
        else getattr(metric, "name", getattr(metric, "__name__", ""))
        for metric in keras.tree.flatten(given)
    )
    for name in found:
        if name in ours:
            raise InputError(
                f"The training itself logs `{name}`; expected a metric with "
                f"another name. Received: name={name}"
            )
    return found
