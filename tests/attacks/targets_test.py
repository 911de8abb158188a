"""Tests attacks that lead toward a class of the user's choice."""

import numpy as np
import tensorflow as tf
from absl.testing import parameterized
from scipy import optimize

from fastbat_tf import attacks
from fastbat_tf.attacks.sharding import Sharding
from fastbat_tf.attacks.targets import check_targets
from fastbat_tf.errors import InputError
from tests.support.attack_problems import (
    SHAPE,
    SIZE,
    linear_problem,
    predictions,
    sizes,
    smooth_network,
)
from tests.support.testing import two_cpu_strategy

TARGET = 1
FAMILIES = {
    "fgsm": attacks.FGSM,
    "mi-fgsm": attacks.MIFGSM,
    "pgd": lambda *args, **kwargs: attacks.PGD(*args, steps=25, **kwargs),
    "apgd": lambda *args, **kwargs: attacks.APGD(*args, steps=10, **kwargs),
    "apgd-t": lambda *args, **kwargs: attacks.APGDTargeted(
        *args, steps=10, **kwargs
    ),
}


def gray(network, count=30, seed=0):
    """Images far from the bounds, and the classes that are predicted."""
    random = np.random.default_rng(seed)
    images = random.uniform(0.3, 0.7, (count, *SHAPE)).astype("float32")
    return images, predictions(network, images).astype("int32")


def largest_lead(network, image, target, epsilon):
    """By how much a linear program lifts a target above all other classes.

    The network is linear; the program maximizes s under z_t - z_i >= s for all
    other i, in the cube of radius epsilon.
    """
    points = np.concatenate([np.zeros((1, SIZE)), np.eye(SIZE)])
    rows = np.asarray(network(points.reshape(-1, *SHAPE).astype("float32")))
    offset, weights = rows[0], (rows[1:] - rows[0]).astype("float64")
    others = np.delete(np.arange(len(offset)), target)
    apart = weights[:, others] - weights[:, [target]]
    lead = offset[target] - offset[others] - apart.T @ image.ravel()
    solution = optimize.linprog(
        c=np.append(np.zeros(SIZE), -1.0),
        A_ub=np.column_stack([apart.T, np.ones(len(others))]),
        b_ub=lead,
        bounds=[(-epsilon, epsilon)] * SIZE + [(None, None)],
    )
    return -solution.fun


def lottery(images):
    """Predicts 0, 1 or 2 by the first pixel, which no gradient moves."""
    first = images[:, 0, 0, :1]
    # The loss of the target is the highest where the label is right.
    near = tf.where(first > 0.53, [[0.0, -1.0, 1.0]], [[1.0, 0.0, 0.0]])
    return tf.where(first > 0.58, [[0.0, 1.0, 0.0]], near) + 0.0 * first


class TargetTest(parameterized.TestCase, tf.test.TestCase):
    @parameterized.product(name=tuple(FAMILIES), norm=("linf", "l2"))
    def test_reaches_the_corner_of_two_classes(self, name, norm):
        """With w the difference of the weights, the corner is along w."""
        problem = linear_problem(12, wrong=False)
        kept = problem.labels != TARGET
        epsilon = 0.2 * float(problem.radii[norm].min())  # Too small.
        result = FAMILIES[name](epsilon, norm=norm, target=TARGET)(
            problem.network, problem.images, problem.labels
        )
        self.assertTrue(result.robust.all())
        toward = -problem.toward
        corner = np.sign(toward)
        if norm == "l2":
            corner = toward / sizes(toward, norm)[:, None, None, None]
        delta = (result.images - problem.images) / epsilon
        self.assertAllClose(delta[kept], corner[kept], atol=0.02)
        # Their class is the target: they are not attacked.
        self.assertFalse(delta[~kept].any())

    @parameterized.parameters("ce", "margin", "dlr")
    def test_succeeds_where_a_linear_program_does(self, loss):
        problem = linear_problem(16, classes=5, seed=2, wrong=False)
        epsilon = 3 * float(np.median(problem.radii["linf"]))
        leads = np.array(
            [
                largest_lead(problem.network, image, TARGET, epsilon)
                for image in problem.images
            ]
        )
        attack = attacks.PGD(
            epsilon, steps=60, relative_step_size=0.1, loss=loss, target=TARGET
        )
        result = attack(problem.network, problem.images, problem.labels)
        attacked = problem.labels != TARGET
        reached = (result.predictions == TARGET)[attacked]
        leads = leads[attacked]
        self.assertFalse(reached[leads < 0].any())
        self.assertTrue(reached[leads > 0.3 * leads.max()].all(), leads)
        self.assertBetween(reached.sum(), 2, len(reached) - 1)

    @parameterized.parameters(*FAMILIES)
    def test_what_is_counted(self, name):
        network = smooth_network(classes=5, width=8)
        images, labels = gray(network, 60)
        labels[:7] = (labels[:7] + 1) % 5
        attack = FAMILIES[name](0.025, target=TARGET)
        images_found, predicted, robust = attack(network, images, labels)
        correct = np.arange(60) >= 7
        # Classified correctly, before and after the attack.
        self.assertAllEqual(robust, correct & (predicted == labels))
        same = (images_found == images).all(axis=(1, 2, 3))
        self.assertTrue(same[~correct | (labels == TARGET)].all())
        attacked = correct & (labels != TARGET)
        self.assertFalse(same[attacked].any())
        reached = attacked & (predicted == TARGET)
        self.assertBetween(reached.sum(), 1, attacked.sum() - 1)
        # A third class is no success, and yet not robust.
        self.assertGreater((attacked & ~robust & ~reached).sum(), 0)

    def test_the_image_of_the_target_is_the_first(self):
        # From starts in [0.4, 0.6]: 0 below 0.53, 2 below 0.58, then 1.
        images = np.full((64, *SHAPE), 0.5, np.float32)
        labels = np.zeros(64, np.int32)
        before = None
        for restarts in (1, 2, 5, 20):
            attack = attacks.PGD(0.1, 2, restarts, target=TARGET)
            result = attack(lottery, images, labels)
            first = result.images[:, 0, 0, 0]
            reached, third = first > 0.58, (0.53 < first) & (first < 0.58)
            self.assertAllEqual(result.predictions == TARGET, reached)
            self.assertAllEqual(result.robust, ~(reached | third))
            if before is not None:  # More restarts never undo anything.
                self.assertFalse((before[0] & ~reached).any())
                self.assertFalse((result.robust & ~before[1]).any())
                self.assertAllEqual(
                    result.images[before[0]], before[2].images[before[0]]
                )
            before = reached, result.robust, result
        # A tenth of the starts succeed, so that 0.9^20 = 12 % do not; with
        # any wrong class, 0.65^20.
        self.assertBetween(reached.mean(), 0.7, 0.99)
        self.assertFalse(result.robust.any())

    def test_a_loss_replaces_that_of_the_label(self):
        for loss, expected in (
            ("ce", "targeted_ce"),
            ("margin", "targeted_margin"),
            ("dlr", "targeted_dlr"),
        ):
            attack = attacks.PGD(loss=loss, target=0)
            self.assertEqual(attack.loss_name, expected)
            self.assertEqual(attacks.PGD(loss=loss).loss_name, loss)
            self.assertEqual(attack.target, 0)

    @parameterized.parameters(*FAMILIES)
    def test_a_target_for_each_image(self, name):
        network = smooth_network(classes=4, width=8)
        images, labels = gray(network, 20)
        targets = np.arange(20) % 4
        attack = FAMILIES[name](0.05, batch_size=7)
        found = attack(network, images, labels, targets=targets)
        for target in range(4):
            alone = FAMILIES[name](0.05, target=target)
            expected = alone(network, images, labels)
            rows = targets == target
            for ours, theirs in zip(found, expected, strict=True):
                self.assertAllClose(ours[rows], theirs[rows], atol=1e-6)
        # The attack itself goes on without targets.
        again, plain = (
            a(network, images, labels) for a in (attack, FAMILIES[name](0.05))
        )
        self.assertAllClose(again.images, plain.images, atol=1e-6)

    @parameterized.parameters("pgd-6-2-target-1", "apgd-t-6-target-1")
    def test_batches_compilation_and_devices_change_nothing(self, name):
        network = smooth_network(classes=5, width=8)
        images, labels = gray(network, 23)

        def run(sharding=None, **settings):
            attack = attacks.get(name, network, **settings)
            return attack.over(sharding or Sharding())(images, labels, 0.06)

        expected = run(jit_compile=False)
        self.assertBetween(expected.robust.sum(), 1, 22)
        strategy = two_cpu_strategy()
        for found in (
            run(batch_size=3, jit_compile=False),
            run(batch_size=8, jit_compile=True),
            run(Sharding(strategy), batch_size=4, jit_compile=False),
        ):
            self.assertAllEqual(found.robust, expected.robust)
            self.assertAllClose(
                found.perturbation, expected.perturbation, atol=1e-5
            )

    def test_on_a_surrogate(self):
        surrogate = smooth_network(classes=4, width=8)
        victim = smooth_network(classes=4, width=8, seed=1)
        images, labels = gray(victim, 40)
        transfer = attacks.Transfer(surrogate, "pgd-10-2-target-1", 0.1)
        found = transfer(victim, images, labels)
        self.assertAllEqual(
            found.predictions, predictions(victim, found.images)
        )
        self.assertAllEqual(found.robust, found.predictions == labels)
        reached = found.predictions == TARGET
        self.assertGreater(reached[labels != TARGET].sum(), 0)
        each = attacks.Transfer(surrogate, "pgd-10-2", 0.1)(
            victim, images, labels, targets=np.full(40, TARGET)
        )
        self.assertAllClose(each.images, found.images, atol=1e-6)


class RefusedTest(parameterized.TestCase, tf.test.TestCase):
    @parameterized.parameters(
        (lambda: attacks.PGD(target=-1), "`target` .* target=-1$"),
        (lambda: attacks.FGSM(target=1.5), "`target` .* target=1.5$"),
        (
            lambda: attacks.APGDTargeted(target_classes=3, target=1),
            "without a target. Received: target_classes=3$",
        ),
        (
            lambda: attacks.parse("fgsm+pgd-1-1-target-3"),
            r"without a target. Received: attack=fgsm\+pgd-1-1-target-3$",
        ),
        (lambda: attacks.parse("square-target-3"), "Unknown attack"),
        (lambda: attacks.parse("fab-t-target-3"), "Unknown attack"),
        (lambda: attacks.parse("fgsm-target-03"), "Unknown attack"),
    )
    def test_settings(self, build, message):
        with self.assertRaisesRegex(InputError, message):
            build()

    @parameterized.parameters(
        (attacks.PGD(target=4), None, r"in \[0, 4\).*target=4$"),
        (attacks.PGD(), [0, 4], r"in \[0, 4\).*range=\(0, 4\)$"),
        (attacks.PGD(), [0, -1], r"range=\(-1, 0\)$"),
        (attacks.PGD(), [0.0, 1.0], "2 integers.*targets="),
        (attacks.PGD(), [0], "2 integers"),
        (attacks.PGD(), 1, "2 integers"),
        (attacks.PGD(target=1), [0, 1], "of its own. Received: target=1$"),
        (attacks.APGDTargeted(target_classes=3), [0, 1], "target_classes=3$"),
        (attacks.Square(), [0, 1], "Received: attack=Square$"),
        (attacks.FAB(), [0, 1], "Received: attack=FAB$"),
        (attacks.AutoAttack(), [0, 1], "Received: attack=AutoAttack$"),
    )
    def test_calls(self, attack, targets, message):
        network = smooth_network(classes=4)
        images, labels = gray(network, 2)
        with self.assertRaisesRegex(InputError, message):
            attack(network, images, labels, targets=targets)

    def test_before_a_training(self):
        """Callbacks ask this before the first epoch, main.py before a run."""
        network = smooth_network(classes=4)
        bound = attacks.PGD(target=4).on(network)
        clean = bound.classify(*gray(network, 2))
        with self.assertRaisesRegex(InputError, "target=4$"):
            bound.check_gradient(clean)
        check_targets(["fgsm", "transfer-fgsm-target-3"], 4)
        with self.assertRaisesRegex(InputError, "attack=fgsm-target-4$"):
            check_targets(["fgsm", "fgsm-target-4"], 4)

    @parameterized.parameters(
        ("fgsm-target-0", 0),
        ("pgd-5-1-margin-target-12", 12),
        ("apgd-ce-target-3", 3),
        ("apgd-t-20-target-3", 3),
        ("mi-fgsm-target-3", 3),
        ("transfer-mi-fgsm-5-target-3", 3),
        ("pgd-5-1", None),
        ("transfer", None),
    )
    def test_names(self, name, target):
        self.assertEqual(attacks.parse(name).target, target)
        built = attacks.build(name, surrogate=smooth_network())
        self.assertEqual(built.target, target)


if __name__ == "__main__":
    tf.test.main()
