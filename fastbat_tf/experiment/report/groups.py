"""Puts the seeds of one training together, and names their pictures."""

from collections.abc import Sequence
from typing import NamedTuple

from fastbat_tf.experiment.report.record import RunRecord


class Group(NamedTuple):
    """A run, or several seeds of one.

    Attributes:
        name: String, unique in the report.
        records: List of `RunRecord`s, at least one.
        number: Integer, its place in the report, from 1.
    """

    name: str
    records: list
    number: int

    def picture(self, section: str) -> str:
        """Returns a name for a picture, unique in the report.

        Args:
            section: String, what the picture shows.
        """
        return f"{section}-{self.number}"


def grouped(records: Sequence[RunRecord]) -> list[Group]:
    """Returns the `Group`s of records, in the order of their first records.

    Args:
        records: `RunRecord`s.
    """
    found = {}
    for record in records:
        # Two directories of seeds may have one name.
        key = record.path.absolute()
        if record.group is not None:
            key = key.parent, record.group
        found.setdefault(key, []).append(record)
    names = [_name(members) for members in found.values()]
    return [
        Group(name if names.count(name) == 1 else members[0].name, members, k)
        for k, (name, members) in enumerate(
            zip(names, found.values(), strict=True), 1
        )
    ]


def _name(members):
    return members[0].group if len(members) > 1 else members[0].name
