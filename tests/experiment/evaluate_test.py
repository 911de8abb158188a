"""Where the results of an evaluation go, and their table."""

import contextlib
import io
import json
import pathlib
import re
import tempfile
import threading

from absl.testing import absltest, parameterized

from fastbat_tf.errors import InputError
from fastbat_tf.evaluation import corruption_table
from fastbat_tf.evaluation.table import show
from fastbat_tf.experiment import results_file
from fastbat_tf.experiment.config import (
    Config,
    DataConfig,
    EvaluationConfig,
    Target,
)
from fastbat_tf.experiment.evaluate import (
    flags_of_data,
    results_directory,
)
from fastbat_tf.experiment.run_directory import RunDirectory


class ResultsDirectoryTest(parameterized.TestCase):
    def directory(self, run_dir="runs/a", target=None, data=None, **settings):
        config = Config(
            data=data or DataConfig("cifar10_mini"),
            evaluation=EvaluationConfig(**settings),
        )
        return results_directory(config, target or Target(), run_dir)

    def test_of_a_run(self):
        directory = self.directory(attacks=("fgsm", "autoattack"))
        self.assertEqual(
            directory.parent, pathlib.Path("runs", "a", "evaluations")
        )
        self.assertRegex(directory.name, r"^fgsm_autoattack-[0-9a-f]{8}$")

    def test_of_a_model(self):
        directory = self.directory(None, Target(model_path="m.keras"))
        self.assertEqual(directory.parent, pathlib.Path("evaluations"))

    def test_given(self):
        target = Target(results_dir="there")
        self.assertEqual(self.directory(target=target), pathlib.Path("there"))

    def test_other_weights(self):
        """A run is measured, trained further, and measured again."""
        scratch = self.enterContext(tempfile.TemporaryDirectory())
        best = RunDirectory(scratch).best
        best.parent.mkdir()
        found = [self.directory(scratch)]
        for weights in ("old", "new", "old"):
            best.write_text(weights)
            found.append(self.directory(scratch))
        self.assertLen(set(found), 3)
        self.assertEqual(found[1], found[3])

    def test_long_names_are_cut(self):
        directory = self.directory(attacks=[f"pgd-{n}-1" for n in range(1, 99)])
        self.assertLess(len(directory.name), 80)

    def test_the_same(self):
        self.assertEqual(self.directory(), self.directory())
        self.assertEqual(self.directory(batch_size=3), self.directory())
        # They can be added to an evaluation that has ended.
        corrupted = Target(corruptions_dir="c")
        self.assertEqual(self.directory(target=corrupted), self.directory())

    @parameterized.parameters(
        {"attacks": ("fgsm",)},
        {"epsilons": (0.1,)},
        {"norm": "l2", "epsilons": (0.1,)},
        {"max_examples": 5},
        {"seed": 5},
        {"target": Target(surrogate="m")},
        {"target": Target(surrogate=("m", "n"))},
        {"target": Target(model_path="m")},
        {"target": Target(save_images=True)},
        {"data": DataConfig("cifar10")},
    )
    def test_another(self, **kwargs):
        self.assertNotEqual(self.directory(**kwargs), self.directory())


class DataTest(absltest.TestCase):
    def test_flags(self):
        """`results.json` says of a model alone what it was measured on."""
        given = DataConfig("cifar10", "there")
        self.assertEqual(
            flags_of_data(Config(data=given)),
            {"dataset": "cifar10", "data_dir": "there"},
        )
        self.assertEqual(flags_of_data(Config()), {"dataset": "cifar10"})

    def test_results_that_cannot_be_written(self):
        with self.assertRaisesRegex(InputError, "cannot be written.*no/such"):
            results_file.write("no/such", {})


def row(attack="fgsm", epsilon=0.1, accuracy=0.5, **others):
    return {
        "attack": attack,
        "norm": "linf",
        "epsilon": epsilon,
        "robust_accuracy": accuracy,
        "confidence_interval": [accuracy - 0.1, accuracy + 0.1],
        "examples": 10,
        "attacked": 8,
        "seconds": 1.25,
        "seed": 0,
        **others,
    }


class AddRowsTest(absltest.TestCase):
    def setUp(self):
        super().setUp()
        directory = self.enterContext(tempfile.TemporaryDirectory())
        self.path = pathlib.Path(directory, "results.json")

    def add(self, rows, warnings=(), clean=0.8, worst_case=()):
        results_file.add(
            self.path,
            {
                "clean_accuracy": clean,
                "attacks": rows,
                "worst_case": list(worst_case),
                "warnings": list(warnings),
                "notes": ["n"],
            },
        )
        return json.loads(self.path.read_text())

    def test_a_run_that_was_not_measured(self):
        self.assertEqual(
            self.add([row()], ["w"]),
            {
                "clean_accuracy": 0.8,
                "attacks": [row()],
                "worst_case": [],
                "warnings": ["w"],
                "notes": ["n"],
            },
        )

    def test_worst_cases(self):
        both = {**row("worst case"), "attacks": ["fgsm", "square"]}
        others = {**row("worst case"), "attacks": ["fgsm", "pgd-1-1"]}
        self.add([row()], worst_case=[both])
        story = self.add([row()], worst_case=[others])
        self.assertEqual(story["worst_case"], [both, others])
        again = self.add([row()], worst_case=[{**both, "seconds": 7.0}])
        self.assertEqual(
            again["worst_case"], [others, {**both, "seconds": 7.0}]
        )

    def test_results_that_cannot_be_read(self):
        for text in ('{"attacks": [', "[]"):
            self.path.write_text(text)
            with self.assertRaisesRegex(InputError, "Received: path="):
                results_file.read(self.path)
            self.assertEqual(self.path.read_text(), text)

    def test_new_rows(self):
        self.path.write_text(
            json.dumps(
                {
                    "clean_accuracy": 0.7,
                    "weights": "best",
                    "attacks": [row()],
                    "warnings": ["v"],
                }
            )
        )
        others = [
            row("pgd-1-1"),
            row(epsilon=0.2),
            row(norm="l2"),
            row(examples=5),
            row(seed=1),
        ]
        story = self.add(others, ["v", "w"])
        self.assertEqual(
            story,
            {
                # The rows from the end of the training stay.
                "clean_accuracy": 0.7,
                "weights": "best",
                "attacks": [row(), *others],
                "worst_case": [],
                "warnings": ["v", "w"],
                "notes": ["n"],
            },
        )
        # They replace older rows of the same kind.
        again = self.add([row(accuracy=0.25)])
        self.assertEqual(again["attacks"], [*others, row(accuracy=0.25)])

    def results(self, rows, weights="a", **others):
        return {
            "attacks": rows,
            "worst_case": [],
            "warnings": [],
            "notes": [],
            "weights_sha256": weights,
            **others,
        }

    def test_other_weights(self):
        """Rows that were measured on earlier weights are removed."""
        results_file.add(self.path, self.results([row()], clean_accuracy=0.1))
        fresh = self.results([row("square")], "b", clean_accuracy=0.2)
        results_file.add(self.path, fresh)
        self.assertEqual(json.loads(self.path.read_text()), fresh)

    def test_distances(self):
        """They need not be there; new ones replace those of their kind."""

        def found(attack="fab-t", **others):
            return {"attack": attack, "norm": "linf", "examples": 9, **others}

        self.assertNotIn("distances", self.add_results([row()]))
        first = [found(median=0.1), found("fab-t-20")]
        story = self.add_results([row()], distances=first)
        self.assertEqual(story["distances"], first)
        self.assertEqual(self.add_results([row()]), story)
        story = self.add_results([row()], distances=[found(median=0.2)])
        self.assertEqual(
            story["distances"], [found("fab-t-20"), found(median=0.2)]
        )

    def add_results(self, rows, **others):
        return results_file.add(self.path, {**self.results(rows), **others})

    def test_the_newest_corruptions(self):
        """They stay with the weights that they were measured on."""
        for given, expected in ((1, 1), (None, 1), (2, 2)):
            others = {} if given is None else {"corruptions": given}
            results_file.add(self.path, self.results([row()], **others))
            story = json.loads(self.path.read_text())
            self.assertEqual(story["corruptions"], expected)
        results_file.add(self.path, self.results([row()]), of_training=True)
        story = json.loads(self.path.read_text())
        self.assertEqual(story["corruptions"], 2)
        results_file.add(self.path, self.results([row()], "b"))
        self.assertNotIn("corruptions", json.loads(self.path.read_text()))

    def test_the_end_of_the_training(self):
        """It comes before earlier rows of the same weights."""
        before = [row("square"), row(accuracy=0.25), row(seed=1)]
        results_file.add(
            self.path, self.results(before, clean_accuracy=0.1, seed=1)
        )
        story = results_file.add(
            self.path,
            self.results([row()], clean_accuracy=0.2, seed=0, weights_of="x"),
            of_training=True,
        )
        self.assertEqual(story["attacks"], [row(), before[0], before[2]])
        self.assertEqual((story["clean_accuracy"], story["seed"]), (0.2, 0))
        self.assertEqual(story, json.loads(self.path.read_text()))
        # Results without a checksum may be of older weights.
        del story["weights_sha256"]
        self.path.write_text(json.dumps(story))
        end = self.results([row("pgd-1-1")])
        self.assertEqual(
            results_file.add(self.path, end, of_training=True), end
        )

    def test_no_row_is_lost_where_many_add_at_once(self):
        def add(number):
            for part in range(5):
                rows = [row(seed=10 * number + part)]
                results_file.add(self.path, self.results(rows))

        threads = [
            threading.Thread(target=add, args=(number,)) for number in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        rows = json.loads(self.path.read_text())["attacks"]
        self.assertCountEqual(
            [found["seed"] for found in rows],
            [10 * number + part for number in range(4) for part in range(5)],
        )
        self.assertEqual(list(self.path.parent.iterdir()), [self.path])


class TableTest(absltest.TestCase):
    def show(self, results):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            show(results)
        return printed.getvalue().splitlines()

    def results(self, **others):
        stages = [
            {**row(accuracy=0.5), "attack": "apgd-ce"},
            {**row(accuracy=0.25), "attack": "square", "seconds": 12},
        ]
        return {
            "clean_accuracy": 0.8,
            "clean_confidence_interval": [0.71, 0.912],
            "examples": 10,
            "norm": "linf",
            "seed": 3,
            "attacks": [
                row("pgd-50-10", 8 / 255, 0.5),
                row("apgd-ce+square", 8 / 255, 0.25, stages=stages),
            ],
            "worst_case": [row("worst case", 8 / 255, 0.25, seconds=130.0)],
            "notes": ["A note."],
            "warnings": ["A sign."],
            **others,
        }

    def test_table(self):
        self.assertEqual(
            self.show(self.results()),
            [
                "attack           epsilon  accuracy  95 % interval  seconds",
                "none (clean)                80.00%   71.0 to 91.2",
                "pgd-50-10          8/255    50.00%   40.0 to 60.0      1.2",
                "apgd-ce+square     8/255    25.00%   15.0 to 35.0      1.2",
                "  after apgd-ce             50.00%   40.0 to 60.0      1.2",
                "  after square              25.00%   15.0 to 35.0     12.0",
                "worst case         8/255    25.00%   15.0 to 35.0    130.0",
                "10 examples, norm linf, seed 3.",
                "A note.",
                "WARNING: A sign.",
            ],
        )

    def test_worst_class(self):
        worst = {"label": 3, "robust_accuracy": 0.04}
        attacks = [
            row(worst_class=worst),
            row(worst_class={**worst, "name": "cat"}),
            row(worst_class={**worst, "name": "great white shark"}),
        ]
        table = self.show(self.results(attacks=attacks))
        self.assertTrue(table[0].endswith("  worst class  seconds"))
        ends = ["4.0% class 3", "4.0% cat", "4.0% great whi..."]
        for line, end in zip(table[2:5], ends, strict=True):
            self.assertRegex(line, f"  {re.escape(end)} +1.2$")

    def test_corruptions(self):
        found = corruption_table.summarize(
            {"fog": [0.9, 0.8, 0.7, 0.6, 0.5], "spatter": [1, 1, 1, 1, 0.5]},
            examples=10,
        )
        found |= {"subset": None, "seed": 0}
        table = self.show(self.results(corruptions=found))
        self.assertEqual(
            table[8:11],
            [
                "corruption             1        2        3        4       5"
                "    mean",
                "fog               90.00%   80.00%   70.00%   60.00%  50.00%  "
                "70.00%",
                "spatter (extra)  100.00%  100.00%  100.00%  100.00%  50.00%  "
                "90.00%",
            ],
        )
        self.assertRegex(
            table[11],
            "^Corruptions: 10 images, at each severity. There is no mean of "
            "the 15 standard ones without gaussian_noise, .*compression.$",
        )

    def test_radii(self):
        attacks = [row(epsilon=0.5 / 255), row("pgd-1-1", 0.3, norm="l2")]
        table = self.show(
            self.results(attacks=attacks, worst_case=[], warnings=[], notes=[])
        )
        self.assertEqual(table[2].split()[1], "0.5/255")
        self.assertEqual(table[3].split()[1], "0.3")
        self.assertLen(table, 5)


if __name__ == "__main__":
    absltest.main()
