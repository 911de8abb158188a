"""Tests of what is compared with what."""

import numpy as np
from absl.testing import absltest

from fastbat_tf.experiment.report import comparable, record
from tests.support import written_evaluations, written_runs
from tests.support.runs_test_case import RunsTestCase

SMALL, USUAL, LARGE = 4 / 255, 8 / 255, 16 / 255


class ComparableTest(RunsTestCase):
    def find(self, *names, **arguments):
        records = self.records(*names)
        return comparable.comparisons(records, **arguments)

    def names(self, comparison):
        return [each.name for each in comparison.records]

    def outcomes(self, name, evaluation="training"):
        place = self.directory / name / "evaluations" / evaluation
        return np.load(place / "outcomes.npz")

    def test_runs_on_the_same_examples(self):
        self.write("a")
        self.write("b", "standard", robustness=0.5, old=True)
        (found,) = self.find("a", "b")
        self.assertEqual(self.names(found), ["a", "b"])
        self.assertEqual((found.norm, found.epsilon), ("linf", USUAL))
        self.assertEqual(found.examples, 200)
        self.assertEqual(found.shared, ["pgd-10-1", "fgsm"])
        for each in found.records:
            arrays = self.outcomes(each.name)
            worst = arrays["robust"].all(axis=0)
            np.testing.assert_array_equal(found.worst_case(each), worst)
            np.testing.assert_array_equal(
                found.clean(each), arrays["clean_correct"]
            )
            row = each.results["worst_case"][0]
            self.assertEqual(worst.mean(), row["robust_accuracy"])

    def test_order_of_examples_does_not_matter(self):
        self.write("a")
        self.write("b", robustness=0.5)
        file = self.directory / "b/evaluations/training/outcomes.npz"
        arrays = dict(np.load(file))
        order = np.random.default_rng(0).permutation(200)
        for name in "index", "label", "clean_correct", "robust":
            arrays[name] = arrays[name][..., order]
        before = self.find("a", "b")[0].worst_case(
            self.find("a", "b")[0].records[1]
        )
        np.savez(file, **arrays)
        (found,) = self.find("a", "b")
        after = found.worst_case(found.records[1])
        np.testing.assert_array_equal(after, before)

    def test_other_examples_are_not_compared(self):
        self.write("a")
        self.write("fewer", examples=100)
        self.write("other_data", dataset="mnist")
        self.write("other_radius", epsilons=(SMALL,))
        self.write("other_norm", norm="l2", options={"norm": "l2"})
        others = ["fewer", "other_data", "other_radius", "other_norm"]
        for name in others:
            self.assertEmpty(self.find("a", name))
        self.assertLen(self.find("a", *others, least=1), 5)

    def test_other_images_are_not_compared(self):
        """The checksum tells them apart even if the labels are equal."""
        for name, checksum in ("a", 1), ("b", 1), ("c", 2):
            self.write(name)
            path = self.directory / name / "evaluations/training/settings.json"
            written_evaluations.write_json(path, {"data": checksum})
        (found,) = self.find("a", "b", "c")
        self.assertEqual(self.names(found), ["a", "b"])

    def test_an_evaluation_alone(self):
        self.write("a")
        written_evaluations.write_evaluation(self.directory / "alone")
        (found,) = self.find("a", "alone")
        self.assertEqual(self.names(found), ["a", "alone"])

    def test_attacks_that_not_all_have(self):
        self.write("a", attacks=("fgsm", "pgd-10-1", "square"))
        self.write("b", attacks=("square", "fgsm"))
        self.write("c", attacks=("pgd-10-1",))
        (found,) = self.find("a", "b")
        self.assertEqual(found.attacks, ["fgsm", "pgd-10-1", "square"])
        self.assertEqual(found.shared, ["fgsm", "square"])
        first, second = found.records
        self.assertIsNone(found.row(second, "pgd-10-1"))
        arrays = self.outcomes("a")
        chosen = np.isin(arrays["attack"], found.shared)
        worst = arrays["robust"][chosen].all(axis=0)
        np.testing.assert_array_equal(found.worst_case(first), worst)
        (found,) = self.find("b", "c")
        self.assertEmpty(found.shared)
        self.assertIsNone(found.worst_case(found.records[0]))

    def test_attacks_of_several_evaluations(self):
        for name in "a", "b":
            self.write(name, attacks=("fgsm",))
            run = self.directory / name
            written_runs.measure(run, "more", attacks=("pgd-10-1",))
        (found,) = self.find("a", "b")
        self.assertEqual(found.shared, ["fgsm", "pgd-10-1"])
        both = [
            self.outcomes("a", place)["robust"][0]
            for place in ("training", "more")
        ]
        worst = found.worst_case(found.records[0])
        np.testing.assert_array_equal(worst, both[0] & both[1])

    def test_the_radius_of_the_training_comes_first(self):
        for name in "a", "b":
            self.write(name, epsilons=(SMALL, USUAL, LARGE))
        self.write("small", epsilons=(SMALL,), options={"epsilon": SMALL})
        found = self.find("a", "b")
        radii = [each.epsilon for each in found]
        self.assertEqual(radii, [USUAL, SMALL, LARGE])
        found = self.find("a", "b", "small")
        radii = [each.epsilon for each in found]
        self.assertEqual(radii, [SMALL, USUAL, LARGE])
        families = comparable.families(found)
        self.assertEqual([len(each) for each in families], [1, 2])

    def test_an_ensemble_on_many_examples_comes_first(self):
        for name in "a", "b":
            self.write(name, examples=2000)
            for attack, count in ("autoattack", 1000), ("square", 100):
                written_runs.measure(
                    self.directory / name,
                    attack,
                    attacks=(attack,),
                    examples=count,
                )
        (found,) = self.find("a", "b")  # The others are of the same runs.
        self.assertEqual(found.shared, ["autoattack"])

    def test_without_outcomes_nothing_is_compared(self):
        self.write("a")
        self.write("b")
        self.write("unfinished", unfinished=True)
        path = self.directory / "b" / "evaluations/training/outcomes.npz"
        path.unlink()
        self.assertEmpty(self.find("a", "b", "unfinished"))

    def test_seeds_are_one_unit(self):
        written_runs.write_seeds(self.directory / "seeds", seeds=(0, 1, 10))
        self.write("a")
        records = record.read([self.directory / "a", self.directory / "seeds"])
        one, seeds = comparable.units(records)
        self.assertEqual((one.name, one.is_group), ("a", False))
        self.assertEqual((seeds.name, len(seeds.records)), ("seeds", 3))
        each = [r.results["training_seconds"] for r in seeds.records]
        self.assertEqual(seeds.training_seconds, sum(each) / 3)

    def test_seconds_of_a_training(self):
        self.write("a", epochs=3)
        self.write("unfinished", epochs=3, unfinished=True)
        written_evaluations.write_evaluation(self.directory / "alone")
        names = "a", "unfinished", "alone"
        records = record.read([self.directory / name for name in names])
        found = [comparable.training_seconds(each) for each in records]
        self.assertEqual(found, [25, 25.0, None])


if __name__ == "__main__":
    absltest.main()
