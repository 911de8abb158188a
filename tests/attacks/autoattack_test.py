"""Tests attacks that consist of others: AutoAttack and transfer."""

import itertools

import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from fastbat_tf import attacks
from fastbat_tf.attacks.autoattack import AutoAttack
from fastbat_tf.attacks.pgd import PGD
from fastbat_tf.attacks.transfer import Transfer
from fastbat_tf.errors import InputError
from tests.support import attack_problems
from tests.support.attack_problems import (
    NORMS,
    SHAPE,
    SMALL_ATTACKS,
    between,
    linear_problem,
    predictions,
    sizes,
    smooth_network,
)

SMALL_STANDARD = ("apgd-ce-10", "apgd-t-10", "fab-t-8", "square-40")


def without_gradient(network):
    """The network as a remote service, without gradients."""

    def answer(batch):
        def look(pixels):
            return network(tf.constant(pixels))

        logits = tf.py_function(look, [tf.stop_gradient(batch)], tf.float32)
        return tf.ensure_shape(logits, (None, 2))

    return answer


class AutoAttackTest(parameterized.TestCase, tf.test.TestCase):
    def test_standard(self):
        stages = AutoAttack(norm="l2", batch_size=7).stages()
        self.assertEqual(
            [stage.name for stage in stages],
            ["apgd-ce", "apgd-t", "fab-t", "square"],
        )
        self.assertEqual(
            [stage.steps for stage in stages], [100, 100, 99, 4999]
        )
        for stage in stages:
            self.assertEqual(stage.norm.name, "l2")
            self.assertEqual(stage.batch_size, 7)
            self.assertEqual(stage.rounds(10), 9 if "-t" in stage.name else 1)

    def test_rand(self):
        stages = AutoAttack(version="rand").stages()
        self.assertEqual([s.name for s in stages], ["apgd-ce", "apgd-dlr"])
        self.assertEqual([s.samples for s in stages], [20, 20])
        self.assertEqual([s.steps for s in stages], [100, 100])

    @parameterized.product(norm=NORMS, classes=(2, 3, 5))
    def test_linear_network(self, norm, classes):
        problem = linear_problem(24, classes, seed=1)
        radii = problem.radii[norm]
        epsilon = between(radii, 9)
        attack = AutoAttack(
            version="custom", attacks=SMALL_STANDARD, norm=norm
        ).on(problem.network)
        result = attack(problem.images, problem.labels, epsilon)
        self.assertAllEqual(result.clean_correct, radii > 0)
        self.assertFalse(result.robust[radii < 0.99 * epsilon].any())
        self.assertTrue(result.robust[radii > epsilon].all())
        found = predictions(
            problem.network, problem.images + result.perturbation
        )
        broken = result.clean_correct & ~result.robust
        self.assertFalse((found == problem.labels)[broken].any())

    def test_standard_to_the_end(self):
        problem = linear_problem(6, seed=1)
        radii = problem.radii["linf"]
        epsilon = between(radii, 3)
        result = AutoAttack().on(problem.network)(
            problem.images, problem.labels, epsilon
        )
        self.assertAllEqual(result.robust, radii > epsilon)

    def test_each_on_what_the_others_left(self):
        problem = linear_problem(12, wrong=False)
        epsilon = between(problem.radii["linf"], 6)
        attack = AutoAttack(version="custom", attacks=("fgsm", "square-5")).on(
            problem.network
        )
        seen = {}
        for stage in attack.stages():

            def start(
                images, *rest, _start=stage.attack.start, _name=stage.name
            ):
                seen.setdefault(_name, []).extend(images[:, 0, 0, 0])
                return _start(images, *rest)

            stage.attack.start = start
        result = attack(problem.images, problem.labels, epsilon)
        first = problem.images[:, 0, 0, 0]
        self.assertAllEqual(seen["fgsm"], first)
        self.assertAllEqual(seen["square"], first[result.robust])
        self.assertEqual(result.robust.sum(), 6)
        # The perturbation that succeeded, or else the last one.
        fgsm = PGD(steps=1, relative_step_size=1.0, random_start=False).on(
            problem.network
        )(problem.images, problem.labels, epsilon)
        self.assertAllClose(
            result.perturbation[~result.robust],
            fgsm.perturbation[~result.robust],
            atol=1e-6,
        )
        differs = np.abs(result.perturbation - fgsm.perturbation)
        self.assertTrue((differs.max(axis=(1, 2, 3)) > 1e-3)[result[1]].all())

    @parameterized.parameters(*NORMS)
    def test_every_order_breaks_the_same_examples(self, norm):
        # On a bent boundary, where each attack breaks others.
        network = smooth_network(classes=4, seed=2, scale=3.0)
        images = np.random.default_rng(7).random((24, *SHAPE), np.float32)
        labels = predictions(network, images)
        parts = ("apgd-ce-3", "apgd-t-2", "fab-t-2", "square-9")
        epsilon = {"linf": 0.04, "l2": 0.3}[norm]

        data = images, labels, epsilon
        attack = attacks.get("+".join(parts), network, norm=norm)
        stages = attack.stages()  # Each of them is traced once.
        alone = [stage(*data).robust for stage in stages]
        together = np.all(alone, axis=0)
        self.assertBetween(together.sum(), 1, 23)
        self.assertFalse(all((each == together).all() for each in alone))
        for order in itertools.permutations(stages):
            attack._stages = list(order)
            self.assertAllEqual(attack(*data).robust, together)

    def test_masked_gradients(self):
        problem = linear_problem(20, classes=4, seed=1, wrong=False)
        radii = problem.radii["linf"]
        epsilon = between(radii, 15)

        def masked(batch):
            return 1e6 * problem.network(batch)

        data = problem.images, problem.labels, epsilon
        plain, hidden = (
            AutoAttack(version="custom", attacks=SMALL_STANDARD)
            .on(network)(*data)
            .robust
            for network in (problem.network, masked)
        )
        self.assertAllEqual(hidden, plain)
        self.assertAllEqual(hidden, radii > epsilon)
        by_ce = PGD(steps=10).on(masked)(*data).robust
        self.assertGreater(by_ce.sum(), plain.sum() + 5)

    def test_a_network_that_draws(self):
        problem = linear_problem(20, seed=1, wrong=False)
        radii = problem.radii["linf"]
        epsilon = between(radii, 10)
        margins = problem.network(problem.images).numpy()
        noise = 0.05 * np.abs(margins[:, 0] - margins[:, 1]).min()
        generator = tf.random.Generator.from_seed(1)

        def network(batch):
            logits = problem.network(batch)
            return logits + noise * generator.normal(tf.shape(logits))

        attack = AutoAttack(version="custom", attacks=("apgd-ce-rand-10",)).on(
            network
        )
        result = attack(problem.images, problem.labels, epsilon)
        self.assertAllEqual(result.clean_correct, np.ones(20))
        self.assertFalse(result.robust[radii < 0.9 * epsilon].any())
        self.assertTrue(result.robust[radii > 1.1 * epsilon].all())

    @parameterized.product(
        name=(*SMALL_ATTACKS, "pgd-3-1-margin", "pgd-3-1-dlr", "apgd-dlr-3"),
        classes=(2, 3),
    )
    def test_few_classes(self, name, classes):
        problem = linear_problem(5, classes, wrong=False)
        attack = attack_problems.get(name, problem.network)
        radius = 3 * float(problem.radii["linf"].max())
        result = attack(problem.images, problem.labels, radius)
        left = result.robust
        if "-target-1" in name:
            left = left[problem.labels != 1]
        if name.startswith(("square", "transfer")):
            self.assertLessEqual(left.sum(), 3)
        else:
            self.assertLessEqual(left.sum(), 1)
        self.assertAllInRange(
            sizes(result.perturbation, "linf"), 0, radius * 1.0001
        )

    @parameterized.parameters(
        ({"version": "plus"}, "standard, rand, custom. .*version=plus"),
        ({"version": "custom"}, r"version=custom, attacks=\(\)"),
        ({"attacks": ("fgsm",)}, "version=standard, attacks=.*fgsm"),
        ({"version": "custom", "attacks": ("mim",)}, "attack=mim"),
    )
    def test_refused(self, arguments, message):
        with self.assertRaisesRegex(InputError, message):
            AutoAttack(**arguments)


class TransferAttackTest(parameterized.TestCase, tf.test.TestCase):
    @parameterized.product(norm=NORMS, name=("pgd-25-1", "apgd-ce-15", "fgsm"))
    def test_to_the_same_network(self, norm, name):
        problem = linear_problem(20, seed=1)
        radii = problem.radii[norm]
        epsilon = between(radii, 8)
        attack = Transfer(problem.network, name, norm=norm).on(
            without_gradient(problem.network)
        )
        self.assertFalse(attack.white_box)
        result = attack(problem.images, problem.labels, epsilon)
        self.assertAllEqual(result.clean_correct, radii > 0)
        self.assertAllEqual(result.robust, radii > epsilon)
        # All steps are taken, up to the radius, even after success.
        right = result.clean_correct
        self.assertAllClose(
            sizes(result.perturbation[right], norm),
            np.full(right.sum(), epsilon),
            rtol=1e-3,
        )

    def test_goes_on_when_the_surrogate_is_wrong(self):
        # The victim differs only in its bias, which makes it more robust.
        problem = linear_problem(12, seed=1, wrong=False)
        logits = problem.network(problem.images).numpy()
        same = problem.labels == 0
        images, labels = problem.images[same], problem.labels[same]
        extra = 2 * float((logits[:, 0] - logits[:, 1])[same].max())

        def stronger(batch):
            return problem.network(batch) + tf.constant([extra, 0.0])

        margins = (logits[:, 0] - logits[:, 1])[same]
        slopes = margins / problem.radii["linf"][same]
        radii = (margins + extra) / slopes
        attack = Transfer(problem.network, "pgd-10-1").on(stronger)
        result = attack(images, labels, 1.01 * radii.max())
        self.assertFalse(result.robust.any())
        result = attack(images, labels, 0.99 * radii.min())
        self.assertTrue(result.robust.all())

    def test_the_victim_does_not_end_a_round(self):
        # It is fooled long before the last of 30 steps, which ends in a corner.
        problem = linear_problem(6, wrong=False)
        attack = Transfer(problem.network, "pgd-30-1").on(problem.network)
        attack.attack.attack.relative_step_size = 0.08
        epsilon = 10 * float(problem.radii["linf"].max())
        result = attack(problem.images, problem.labels, epsilon)
        self.assertFalse(result.robust.any())
        room = np.where(problem.toward > 0, problem.images, 1 - problem.images)
        self.assertAllClose(
            np.abs(result.perturbation), np.minimum(epsilon, room), atol=1e-5
        )

    def test_a_surrogate_that_knows_nothing(self):
        problem = linear_problem(8, wrong=False)
        attack = Transfer(lambda batch: 0 * batch[:, 0, 0, :2], "fgsm").on(
            problem.network
        )
        result = attack(problem.images, problem.labels, 0.1)
        self.assertTrue(result.robust.all())

    def test_the_victim_is_asked_at_the_end_of_each_round(self):
        problem = linear_problem(4, wrong=False)
        calls = {"victim": tf.Variable(0), "surrogate": tf.Variable(0)}

        def counted(name):
            def network(batch):
                calls[name].assign_add(1)
                return problem.network(batch)

            return network

        attack = Transfer(counted("surrogate"), "pgd-9-3").on(counted("victim"))
        attack(problem.images, problem.labels, 1e-4)
        self.assertEqual(int(calls["victim"]), 1 + 3)  # One call to classify.
        self.assertEqual(int(calls["surrogate"]), 3 * 10)


if __name__ == "__main__":
    tf.test.main()
