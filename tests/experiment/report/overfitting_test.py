"""Tests of what the report says about overfitting, on written histories."""

import csv
import json
import math
import pathlib
import tempfile

from absl.testing import absltest, parameterized

from fastbat_tf.experiment.report import charts, overfitting, record
from fastbat_tf.experiment.report.blocks import Picture, Table, Text
from tests.support import written_runs

CLEAN, FGSM, ROBUST = (
    f"val_{name}_accuracy" for name in ("clean", "fgsm", "robust")
)
GUARD = (
    FGSM,
    "val_overfitting_gap",
    "val_gradient_alignment",
    "overfitting_alarm",
)


def epoch(number, clean=0.7, robust=0.4, fgsm=0.42, training=0.5, **others):
    return {
        "epoch": number,
        "loss": 1.5,
        "perturbed_accuracy": training,
        CLEAN: clean,
        ROBUST: robust,
        FGSM: fgsm,
        "val_overfitting_gap": fgsm - robust,
        "val_gradient_alignment": 0.9,
        "overfitting_alarm": 0.0,
        "learning_rate": 0.1,
        **others,
    }


def collapsed(number, **others):
    alarm = {"overfitting_alarm": 1.0, **others}
    return epoch(number, robust=0.02, fgsm=0.82, training=0.9, **alarm)


class OverfittingTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.enterContext(charts.style())
        directory = self.enterContext(tempfile.TemporaryDirectory())
        self.run_dir = pathlib.Path(directory) / "run"

    def blocks(self, rows, method="fastat", on_overfitting=None, **options):
        """The blocks of a run with these epochs, and their first texts."""
        options = {"epochs": len(rows), **options}
        written_runs.write_run(self.run_dir, method, **options)
        with (self.run_dir / "history.csv").open("w", newline="") as file:
            names = dict.fromkeys(name for row in rows for name in row)
            writer = csv.DictWriter(file, list(names))
            writer.writeheader()
            writer.writerows(rows)
        for name in ("config.json", "results.json"):
            path = self.run_dir / name
            if path.exists():
                content = json.loads(path.read_text())
                content.pop("best_epoch", None)
                if on_overfitting and name == "config.json":
                    content["overfitting"]["on_overfitting"] = on_overfitting
                path.write_text(json.dumps(content))
        return overfitting.blocks(record.read([self.run_dir]))

    def table(self, blocks):
        (table,) = [block for block in blocks if isinstance(block, Table)]
        return table.rows

    def picture(self, blocks):
        (picture,) = [block for block in blocks if isinstance(block, Picture)]
        return picture.content.decode()

    def notes(self, blocks):
        return [b.text for b in blocks if isinstance(b, Text)][1:]

    def test_it_did_not(self):
        blocks = self.blocks([epoch(1, robust=0.3), epoch(2)])
        self.assertEqual(
            blocks[0].text,
            "No: FGSM accuracy stays within 12.00 points of PGD accuracy; no "
            "alarm. PGD accuracy ends at 40.00%, its best.",
        )
        self.assertEqual(self.notes(blocks), [])
        drawn = self.picture(blocks)
        for name in ("clean", "FGSM", "PGD", "training", "no alarms"):
            self.assertIn(f">{name}</text>", drawn)

    def test_table_equals_the_history(self):
        rows = [
            epoch(1, robust=0.31412, fgsm=0.35, learning_rate=0.123456),
            epoch(2, clean=0.71828, robust_epsilon_share=0.5),
        ]
        self.assertEqual(
            self.table(self.blocks(rows)),
            [
                (
                    *("epoch", "clean", "FGSM", "PGD", "training", "gap"),
                    *("alignment", "learning rate", "epsilon in use", ""),
                ),
                (
                    *("1", "70.00%", "35.00%", "31.41%", "50.00%", "3.59"),
                    *("0.900", "0.123", "–", ""),
                ),
                (
                    *("2", "71.83%", "42.00%", "40.00%", "50.00%", "2.00"),
                    *("0.900", "0.1", "50%", "best"),
                ),
            ],
        )

    def test_catastrophically(self):
        blocks = self.blocks([epoch(1), epoch(2), collapsed(3), collapsed(4)])
        self.assertEqual(
            blocks[0].text,
            "Yes, catastrophically: in epoch 3, 82.00% of the validation "
            "images withstand FGSM, but 2.00% PGD (a gap of 80.00 points); 2 "
            "alarms. The chosen weights, of epoch 1, raise no alarm.",
        )
        marks = [row[-1] for row in self.table(blocks)[1:]]
        self.assertEqual(marks, ["best", "", "alarm", "alarm"])

    def test_rolled_back(self):
        share = "robust_epsilon_share"
        rows = [
            epoch(1, overfitting_rollback=0.0, **{share: 1.0}),
            collapsed(2, overfitting_rollback=1.0, **{share: 0.5}),
            epoch(3, robust=0.41, overfitting_rollback=0.0, **{share: 0.5}),
        ]
        expected = (
            "; 1 alarm. The training was rolled back once, and ended with 50% "
            "of epsilon. The chosen weights, of epoch 3, raise no alarm."
        )
        blocks = self.blocks(rows, rollback=True)
        self.assertEndsWith(blocks[0].text, expected)
        self.assertEqual(self.table(blocks)[2][-1], "alarm, rollback")
        # A version before did not record it; this one continued its run.
        del rows[1]["overfitting_rollback"]
        blocks = self.blocks(rows, rollback=True)
        self.assertEndsWith(blocks[0].text, expected)
        self.assertIn(">rollbacks</text>", self.picture(blocks))

    def test_stopped(self):
        rows = [epoch(1), collapsed(2)]
        blocks = self.blocks(rows, on_overfitting="stop", epochs=30)
        self.assertIn("1 alarm. The alarm ended the training.", blocks[0].text)
        self.assertEqual(self.notes(blocks), [])

    def test_robustly(self):
        rows = [
            epoch(1, robust=0.3),
            epoch(2, robust=0.5, fgsm=0.51, training=0.55),
            epoch(3, robust=0.42, fgsm=0.45, training=0.85),
        ]
        blocks = self.blocks(rows)
        self.assertEqual(
            blocks[0].text,
            "Yes, robustly: PGD accuracy ends at 42.00%, 8.00 points below its "
            "best, in epoch 2, while training accuracy rose by 30.00 points to "
            "85.00%. Not catastrophically: FGSM accuracy stays within 12.00 "
            "points of PGD accuracy; no alarm.",
        )
        rows[2][ROBUST] = 0.49
        text = self.blocks(rows)[0].text
        self.assertEndsWith(
            text, "in epoch 2: not more than chance (2.00 points)."
        )

    @parameterized.parameters(
        (0.1, "Perhaps, catastrophically: "), (0.39, "No")
    )
    def test_guard_was_off(self, last, begins):
        rows = [epoch(1), epoch(2, robust=last)]
        for row in rows:
            for name in GUARD:
                del row[name]
        blocks = self.blocks(rows, on_overfitting="off")
        self.assertStartsWith(blocks[0].text, begins)
        self.assertIn("--on_overfitting=warn", blocks[0].text)
        (note,) = self.notes(blocks)
        self.assertIn(
            "the guard against catastrophic overfitting was off", note
        )

    def test_fgsm_is_the_validation_attack(self):
        self.blocks([epoch(1)], on_overfitting="off")
        path = self.run_dir / "config.json"
        config = json.loads(path.read_text())
        config["evaluation"]["validation_attack"] = "fgsm"
        path.write_text(json.dumps(config))
        path = self.run_dir / "history.csv"
        path.write_text("epoch,val_robust_accuracy\n1,0.4\n")
        blocks = overfitting.blocks(record.read([self.run_dir]))
        self.assertIn("so FGSM alone cannot tell", blocks[0].text)
        self.assertEqual(
            self.notes(blocks)[0],
            "There is no gap: FGSM is the validation attack itself.",
        )

    def test_each_pass_replays_its_batches(self):
        options = {"replays": 4}
        rows = [epoch(1), epoch(2)]
        for count, notes in ((8, 0), (12, 3)):
            blocks = self.blocks(
                rows, "free", epochs=count, options=options, unfinished=True
            )
            self.assertLen(self.notes(blocks), notes)
        self.assertEqual(self.notes(blocks)[0], "2 of 3 epochs yet.")

    def test_training_without_an_attack(self):
        rows = [
            {"epoch": k, "loss": 1.0, "accuracy": training, CLEAN: clean}
            for k, training, clean in ((1, 0.5, 0.6), (2, 0.9, 0.45))
        ]
        blocks = self.blocks(rows, "standard")
        self.assertEqual(
            blocks[0].text,
            "Yes, to the training images: clean accuracy ends at 45.00% (this "
            "training has no attack to overfit to), 15.00 points below its "
            "best, in epoch 1, while training accuracy rose by 40.00 points to "
            "90.00%.",
        )
        self.assertNotIn("PGD", self.picture(blocks))

    def test_values_that_are_not_finite(self):
        rows = [epoch(k) for k in range(1, 6)]
        rows[1][ROBUST] = rows[1]["val_overfitting_gap"] = math.nan
        rows[3]["loss"] = math.inf
        blocks = self.blocks(rows)
        self.assertEqual(
            self.notes(blocks),
            ["Some values of 2 epochs are not finite and are left out: 2, 4."],
        )
        self.assertEqual(self.table(blocks)[2][3], "–")
        self.assertNotIn("nan", self.picture(blocks))

    def test_averaged_weights(self):
        """The best epoch may be that of averaged weights."""
        names = {"val_averaged_clean_accuracy": 0.7}
        rows = [
            epoch(1, **names, val_averaged_robust_accuracy=0.5),
            epoch(2, robust=0.45, **names, val_averaged_robust_accuracy=0.4),
        ]
        blocks = self.blocks(rows, unfinished=True)
        self.assertEqual(self.table(blocks)[1][-1], "best")
        self.assertIn(">PGD, averaged</text>", self.picture(blocks))

    def test_unfinished(self):
        blocks = self.blocks([epoch(1)], epochs=30, unfinished=True)
        self.assertEqual(
            self.notes(blocks),
            [
                "1 of 30 epochs yet.",
                "The command that started it continues it:",
                "python main.py --method=fastat --seed=37",
            ],
        )

    def test_without_history(self):
        blocks = self.blocks([epoch(1)], unfinished=True)
        (self.run_dir / "history.csv").unlink()
        blocks = overfitting.blocks(record.read([self.run_dir]))
        self.assertStartsWith(blocks[0].text, "Not known yet: no epoch")
        alone = self.run_dir.parent / "alone"
        written_runs.write_evaluation(alone)
        blocks = overfitting.blocks(record.read([alone]))
        self.assertStartsWith(
            blocks[0].text, "Not known: alone is an evaluation"
        )
        self.assertEqual(blocks[-1].kind, "code")

    def test_some_epochs_of_many(self):
        rows = [epoch(k, robust=0.4 - 1e-4 * k) for k in range(1, 199)]
        blocks = self.blocks([*rows, collapsed(199), collapsed(200)])
        table = self.table(blocks)
        shown = [int(row[0]) for row in table[1:]]
        self.assertLen(shown, overfitting.MOST_ROWS)
        self.assertContainsSubset([1, 199, 200], shown)
        self.assertEqual(shown, sorted(shown))
        self.assertLess(len(blocks[1].content), 100_000)

    def test_several_runs(self):
        self.blocks([epoch(1), collapsed(2)])
        seeds = self.run_dir.parent / "seeds"
        written_runs.write_seeds(seeds, epochs=2)
        blocks = overfitting.blocks(record.read([self.run_dir, seeds]))
        self.assertEqual(
            blocks[0].text, "run: yes, catastrophically; seeds: no."
        )
        self.assertEqual(
            [row[:3] for row in blocks[1].rows],
            [
                ("run", "overfitted?", "best epoch"),
                ("run", "yes, catastrophically", "1"),
                *((f"seeds/seed-{k}", "no", "2") for k in range(3)),
            ],
        )
        pictures = [b for b in blocks if isinstance(b, Picture)]
        names = [picture.name for picture in pictures]
        self.assertEqual(names, ["overfitting-1", "overfitting-2"])
        self.assertIn("One line for each of 3 seeds.", pictures[1].caption)


if __name__ == "__main__":
    absltest.main()
