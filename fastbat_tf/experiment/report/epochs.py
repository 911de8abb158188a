"""What the history of a training tells about overfitting."""

import math

from fastbat_tf.experiment import history
from fastbat_tf.experiment.report import numbers
from fastbat_tf.experiment.report.record import RunRecord
from fastbat_tf.methods import METHODS
from fastbat_tf.training import records

CLEAN, ROBUST = "val_clean_accuracy", "val_robust_accuracy"
FGSM, GAP = "val_fgsm_accuracy", "val_overfitting_gap"
ALIGNMENT = "val_gradient_alignment"
ALARM, ROLLBACK = "overfitting_alarm", "overfitting_rollback"
LEARNING_RATE, SHARE = "learning_rate", "robust_epsilon_share"
AVERAGED = "val_averaged_"
CHOSEN = "chosen"


class Epochs:
    """The epochs of a run, as the charts and tables of the report need them.

    Args:
        record: A `RunRecord` of a training.
        is_single: Whether it is shown alone, and not among other seeds.
            Defaults to True.

    Attributes:
        record: The `RunRecord`.
        is_single: As the argument.
        rows: List of dicts, a row per epoch.
    """

    def __init__(self, record: RunRecord, is_single: bool = True):
        self.record = record
        self.is_single = is_single
        self.rows = record.history
        self._settings = record.config or {}

    def values(self, column: str) -> dict[int, float]:
        """Returns the finite values of a column, by epoch.

        Args:
            column: String.
        """
        found = {int(row["epoch"]): row.get(column) for row in self.rows}
        return {
            epoch: float(value)
            for epoch, value in found.items()
            if value is not None and math.isfinite(value)
        }

    def has(self, column: str) -> bool:
        """Whether a column has a value.

        Args:
            column: String.
        """
        if column == ROLLBACK and self._action == "rollback":
            return self.has(ALARM)
        return bool(self.values(column))

    def epochs_of(self, event: str) -> list[int]:
        """Returns the epochs of alarms, of rollbacks, or the chosen epoch.

        Args:
            event: `"overfitting_alarm"`, `"overfitting_rollback"` or
                `"chosen"`.
        """
        if event == CHOSEN:
            return [self.best_epoch] if self.best_epoch else []
        if event == ROLLBACK and self._action == "rollback":
            # Earlier versions logged the alarm alone, at which it happens.
            marked = self.values(ALARM) | self.values(ROLLBACK)
            return [epoch for epoch, value in sorted(marked.items()) if value]
        return [epoch for epoch, value in self.values(event).items() if value]

    @property
    def has_attack(self) -> bool:
        """Whether the training perturbs the images."""
        spec = METHODS.get(self.record.method)
        return spec is None or spec.has_attack

    @property
    def is_unfinished(self) -> bool:
        """Whether epochs are left."""
        return not self.record.has_ended and len(self.rows) < self.planned

    @property
    def was_stopped(self) -> bool:
        """Whether an alarm has ended the training."""
        alarms = self.epochs_of(ALARM)
        return self._action == "stop" and self.rows[-1]["epoch"] in alarms

    @property
    def planned(self) -> int:
        """How many epochs the training has when it is complete."""
        epochs = (self._settings.get("training") or {}).get("epochs", 0)
        options = (self._settings.get("method") or {}).get("options") or {}
        # Each pass over the data replays its batches.
        return epochs // (options.get("replays") or 1)

    @property
    def training_column(self) -> str:
        """The column of the accuracy on what the training saw."""
        return records.training_accuracy(self.has_attack)

    @property
    def monitored(self) -> str:
        """The column that decides which weights are the best."""
        return ROBUST if self.has_attack else CLEAN

    @property
    def best_epoch(self) -> int | None:
        """The epoch whose weights were kept; None if there is none."""
        known = history.best_epoch(self.rows, self.record.results)
        if known is not None:
            return known
        # Not measured yet: what the training itself compares.
        averaged = self.monitored.replace("val_", AVERAGED)
        scores = [
            (value, -epoch)
            for column in (self.monitored, averaged)
            for epoch, value in self.values(column).items()
        ]
        return -max(scores)[1] if scores else None

    @property
    def attack(self) -> str:
        """The short name of the validation attack, such as `PGD`."""
        name = self._evaluation.get("validation_attack", "pgd")
        return name.partition("-")[0].upper()

    @property
    def validation(self) -> str:
        """The validation attack and its radius, such as `PGD is pgd-10-1`."""
        settings = self._evaluation
        text = f"{self.attack} is {settings.get('validation_attack', 'pgd')}"
        epsilon = settings.get("validation_epsilon")
        if epsilon is not None:
            norm = settings.get("validation_norm", "linf")
            text += f" at {numbers.radius_with_norm(epsilon, norm)}"
        count = settings.get("validation_examples")
        return f"{text}, on {count} images" if count else text

    def noise(self, share: float) -> float:
        """Returns by how much a share of the validation images may err.

        Args:
            share: Float in [0, 1].

        Returns:
            Half the width of its 95 % interval, and at least a point; 0.02 if
            the number of images is unknown.
        """
        count = self._evaluation.get("validation_examples")
        if not count:
            return 0.02
        low, high = numbers.confidence_interval(round(share * count), count)
        return max((high - low) / 2, 0.01)

    @property
    def threshold(self) -> float | None:
        """The gap above which there is an alarm; None without a guard."""
        return self._overfitting.get("overfitting_threshold")

    @property
    def _action(self):
        return self._overfitting.get("on_overfitting", "off")

    @property
    def _overfitting(self):
        return self._settings.get("overfitting") or {}

    @property
    def _evaluation(self):
        return self._settings.get("evaluation") or {}
