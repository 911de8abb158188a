"""What to say where a run lacks something: why, and which command adds it."""

from fastbat_tf.experiment.report import suggestions
from fastbat_tf.experiment.report.blocks import Text
from fastbat_tf.experiment.report.record import RunRecord

TRAIN = "python main.py --method=fastbat --dataset=cifar10"


def history(record: RunRecord) -> list[Text]:
    """Returns the blocks that stand for the history of a training.

    Args:
        record: A `RunRecord` without one.
    """
    if record.config is None:
        return [
            Text(
                f"Not known: {record.name} is an evaluation alone, without the "
                "history of a training. A training has one:"
            ),
            Text(TRAIN, "code"),
        ]
    return [
        Text("Not known yet: no epoch of this training has ended."),
        *continuing(record),
    ]


def results(record: RunRecord) -> list[Text]:
    """Returns the blocks that stand for the results of evaluations.

    Args:
        record: A `RunRecord` without any.
    """
    text = Text("Not known yet: nothing was measured.")
    if record.has_ended:
        command = suggestions.evaluate(record, ["pgd-10-1"])
        return [text, Text(command, "code")]
    return [text, *continuing(record)]


def continuing(record: RunRecord) -> list[Text]:
    """Returns the blocks that say how an unfinished training continues.

    Args:
        record: A `RunRecord` of a training.
    """
    command = record.config and record.config.get("command")
    if not command:
        return [Text("The command that started it continues it.", "note")]
    return [
        Text("The command that started it continues it:", "note"),
        Text(command, "code"),
    ]
