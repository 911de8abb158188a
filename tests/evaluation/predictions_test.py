"""Tests the classes and confidences that an evaluation records."""

import pathlib
import tempfile

import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from fastbat_tf.attacks import losses, registry
from fastbat_tf.attacks.base import SteppedAttack
from fastbat_tf.attacks.records import Clean, Record, predict
from fastbat_tf.evaluation import state
from fastbat_tf.evaluation.robustness import evaluate_robustness
from tests.support.toy_evaluation import as_floats, toy_data, toy_network

# Every kind of attack, with the parts of AutoAttack in their order.
NAMES = (
    "fgsm",
    "mi-fgsm-3",
    "pgd-3-2",
    "pgd-3-1-dlr",
    "apgd-ce-4",
    "apgd-dlr-3",
    "apgd-t-3",
    "fab-t-4",
    "square-9",
    "apgd-ce-rand-2",
    "apgd-ce-3+apgd-t-3+fab-t-3+square-9",
    "transfer-apgd-ce-3",
)


def saved(directory):
    """The content of outcomes.npz."""
    with np.load(directory / "outcomes.npz") as file:
        return dict(file)


class RecordedTest(parameterized.TestCase, tf.test.TestCase):
    """What is recorded is what the network says of the saved images."""

    def measure(self, **kwargs):
        directory = pathlib.Path(
            self.enterContext(tempfile.TemporaryDirectory())
        )
        evaluate_robustness(
            directory=directory, save_images=True, jit_compile=False, **kwargs
        )
        return directory

    def check(self, directory, network, images, epsilons):
        found = saved(directory)
        count, rows = len(images), len(found["attack"])
        for kind, shape in (
            ("clean", (count,)),
            ("adversarial", (rows, count)),
        ):
            self.assertEqual(found[f"{kind}_class"].dtype, np.int32)
            self.assertEqual(found[f"{kind}_class"].shape, shape)
            self.assertEqual(found[f"{kind}_confidence"].dtype, np.float32)
            self.assertEqual(found[f"{kind}_confidence"].shape, shape)
        answers = predict(network(images).numpy())
        self.assertAllEqual(found["clean_class"], answers.predicted)
        self.assertAllClose(
            found["clean_confidence"], answers.confidence, rtol=1e-5
        )
        for row, (name, epsilon) in enumerate(
            zip(found["attack"], found["epsilon"], strict=True)
        ):
            path = directory / f"adversarial_{name}-{epsilon:.8g}.npz"
            with np.load(path) as file:
                answers = predict(network(file["images"]).numpy())
            self.assertAllEqual(
                found["adversarial_class"][row], answers.predicted, name
            )
            # Saving the difference of two images rounds it.
            self.assertAllClose(
                found["adversarial_confidence"][row],
                answers.confidence,
                rtol=1e-4,
                msg=name,
            )
            is_label = found["adversarial_class"][row] == found["label"]
            self.assertAllEqual(is_label, found["robust"][row], name)
            wrong = ~found["clean_correct"]
            for kind in ("class", "confidence"):
                self.assertAllEqual(
                    found[f"adversarial_{kind}"][row][wrong],
                    found[f"clean_{kind}"][wrong],
                )
        return found

    @parameterized.parameters("linf", "l2")
    def test_every_attack(self, norm):
        network = toy_network()
        images, labels = toy_data(20, network)
        epsilons = {"linf": [0.004, 0.02], "l2": [0.03, 0.2]}[norm]
        directory = self.measure(
            model=network,
            dataset=(images, labels),
            attacks=NAMES,
            epsilons=epsilons,
            norm=norm,
            surrogate=toy_network(seed=1),
            batch_size=7,
        )
        found = self.check(directory, network, as_floats(images), epsilons)
        # Each attack leaves some and breaks some, or the test would be void.
        robust = found["robust"].sum(axis=1)
        self.assertGreater(robust[: len(NAMES)].min(), 0)
        self.assertLess(
            robust[len(NAMES) :].max(), found["clean_correct"].sum()
        )
        # Perturbations change what the network says.
        self.assertFalse(
            np.isclose(
                found["adversarial_confidence"], found["clean_confidence"]
            )
            .all(axis=1)
            .any()
        )

    def test_all_attacks_are_tested(self):
        kinds = {registry.parse(name).key for name in NAMES}
        # The others are ensembles of these.
        self.assertEqual(
            set(registry.ATTACKS) - kinds,
            {"autoattack", "autoattack-rand", "apgd-dlr-rand"},
        )


class Corner(SteppedAttack):
    """An attack that says nothing of predictions; it tries one corner."""

    name = "corner"
    steps = 1
    keeps_state = False

    def start(self, images, labels, targets, epsilon, generators):
        return {}, {}

    def step(self, network, problem, state, epsilon):
        found = tf.clip_by_value(problem["images"] + epsilon, 0.0, 1.0)
        logits = network(found)
        moved = {
            "fooled": ~losses.is_correct(logits, problem["labels"]),
            "found": found,
            "loss": losses.cross_entropy(logits, problem["labels"], None),
        }
        if not self.keeps_state:
            return moved
        return {**state, **moved, "iteration": state["iteration"] + 1}


class RecordTest(parameterized.TestCase, tf.test.TestCase):
    def clean(self, network, count=9):
        images, labels = toy_data(count, network)
        images = as_floats(images)
        return Clean(images, labels.astype(np.int32), network(images).numpy())

    @parameterized.parameters(False, True)
    def test_an_attack_that_says_nothing_of_predictions(self, keeps_state):
        network = toy_network()
        clean = self.clean(network)
        attack = Corner(0.05)
        attack.keeps_state = keeps_state
        record = Record.start(clean.correct, clean)
        attack.on(network).run(clean, record, 0.05)
        found = np.clip(clean.images + 0.05, 0, 1)
        expected = predict(network(found).numpy())
        tried = clean.correct
        self.assertAllEqual(record.predicted[tried], expected.predicted[tried])
        self.assertAllClose(
            record.confidence[tried], expected.confidence[tried]
        )
        self.assertAllEqual(
            record.predicted[~tried], clean.prediction.predicted[~tried]
        )

    @parameterized.parameters("fgsm", "apgd-ce-2", "square-3", "transfer-fgsm")
    def test_a_network_that_answers_nan(self, name):
        """There is no class then, and the image is that with the answer."""
        linear = toy_network()

        def network(images):
            # NaN for every image with pixels that are no gray levels.
            levels = 255 * images
            other = tf.abs(levels - tf.round(levels)) > 1e-3
            other = tf.reduce_any(other, (1, 2, 3), keepdims=True)[..., 0, 0]
            return linear(images) + tf.where(other, np.nan, 0.0)

        clean = self.clean(network)
        surrogate = linear if "transfer" in name else None
        attack = registry.get(name, network, surrogate)
        (stage,) = attack.stages()
        record = Record.start(clean.correct, clean)
        stage.run(clean, record, 0.0123)
        tried = clean.correct
        self.assertFalse(record.robust.any())
        self.assertAllEqual(record.predicted[tried], 0 * tried[tried] - 1)
        self.assertAllEqual(record.confidence[tried], 0.0 * tried[tried])
        found = np.zeros_like(clean.images)
        record.update(perturbation=found)
        self.assertTrue(found[tried].any(axis=(1, 2, 3)).all())


class PredictTest(parameterized.TestCase, tf.test.TestCase):
    def test_softmax(self):
        logits = np.random.default_rng(0).normal(0, 20, (50, 7))
        logits = logits.astype(np.float32)
        found = predict(logits)
        shares = tf.nn.softmax(tf.constant(logits, tf.float64)).numpy()
        self.assertAllEqual(found.predicted, shares.argmax(axis=-1))
        self.assertAllClose(found.confidence, shares.max(axis=-1), rtol=1e-6)
        self.assertEqual(found.predicted.dtype, np.int32)
        self.assertEqual(found.confidence.dtype, np.float32)

    @parameterized.parameters(
        ([1e30, 0.0, -1e30], 0, 1.0),
        ([-1e30, -1e30, -1e30], 0, 1 / 3),
        ([np.inf, 1.0, np.inf], 0, 0.5),
        ([-np.inf, 1.0, 1.0], 1, 0.5),
        ([-np.inf] * 3, 0, 1 / 3),
        ([5.0, np.nan, 1.0], -1, 0.0),
        ([np.inf, np.nan, 1.0], -1, 0.0),
    )
    def test_extremes(self, logits, predicted, confidence):
        logits = np.float32([logits])
        for found in (
            predict(logits)._asdict(),
            losses.predict(tf.constant(logits)),
        ):
            self.assertAllEqual(found["predicted"], [predicted])
            self.assertAllClose(found["confidence"], [confidence])


class EarlierStateTest(tf.test.TestCase):
    def test_an_attack_whose_record_has_no_predictions_starts_again(self):
        network, data = toy_network(), toy_data(12)
        directory = pathlib.Path(self.get_temp_dir(), "earlier")

        def evaluate():
            return evaluate_robustness(
                network,
                data,
                ["pgd-2-2", "fgsm"],
                [0.02],
                directory=directory,
                jit_compile=False,
            )

        evaluate()
        expected = saved(directory)
        (path,) = (directory / "state").glob("pgd*")
        with np.load(path) as file:
            fields = {name: file[name] for name in ("robust", "rounds", "loss")}
        # As if it had broken all: this record must not be believed.
        fields["robust"] &= False
        state.write_npz(path, seconds=3.0, **fields)
        for name in ("outcomes.npz", "results.json"):
            (directory / name).unlink()
        evaluate()
        found = saved(directory)
        for name, array in expected.items():
            self.assertAllEqual(found[name], array, name)


if __name__ == "__main__":
    tf.test.main()
