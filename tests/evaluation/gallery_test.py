"""Tests the gallery and the loss surface of an evaluation."""

import json
import pathlib
import tempfile

import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from fastbat_tf.attacks.records import Clean, Prediction, predict
from fastbat_tf.errors import InputError
from fastbat_tf.evaluation import gallery, surface
from fastbat_tf.evaluation.robustness import evaluate_robustness
from fastbat_tf.evaluation.runner import AttackOutcome
from tests.support.toy_evaluation import (
    SHAPE,
    as_floats,
    toy_data,
    toy_network,
)


def outcome(robust, confidence):
    predicted = np.zeros(len(robust), np.int32)
    return AttackOutcome(
        "any",
        white_box=True,
        robust=np.array(robust, bool),
        seconds=1.0,
        prediction=Prediction(predicted, np.array(confidence, np.float32)),
    )


class ChooseTest(tf.test.TestCase):
    def clean(self, labels, confidence):
        """Examples with these confidences; negative if misclassified."""
        labels, confidence = np.array(labels), np.array(confidence)
        logits = np.zeros((len(labels), labels.max() + 2), np.float32)
        # With 0 for k other classes, the probability is e^z / (e^z + k).
        share = np.abs(confidence)
        scores = np.log(share / (1 - share) * (logits.shape[1] - 1))
        shown = np.where(confidence > 0, labels, labels + 1)
        logits[np.arange(len(labels)), shown] = scores
        images = np.zeros((len(labels), *SHAPE), np.float32)
        return Clean(images, labels, logits)

    def test_fixed(self):
        """One of each class that is correct, then the second ones."""
        clean = self.clean(
            [1, 0, 0, 2, 1, 0, 2], [0.9, -0.9, 0.8, 0.7, 0.9, 0.9, -0.9]
        )
        robust = outcome([True] * 7, [0.5] * 7)
        found = gallery.choose(clean, {0.1: [robust]})["fixed"]
        self.assertAllEqual(found, [2, 0, 3, 5, 4, 1, 6])
        many = self.clean(list(range(20)), [0.9] * 20)
        robust = outcome([True] * 20, [0.5] * 20)
        found = gallery.choose(many, {0.1: [robust]})["fixed"]
        self.assertAllEqual(found, range(8))

    def test_fragile_and_robust(self):
        #                 0    1    2     3    4    5    6    7
        confidence = [0.9, 0.8, -0.9, 0.7, 0.7, 0.9, 0.6, 0.9]
        clean = self.clean([0] * 8, confidence)
        first = outcome(
            [1, 0, 0, 1, 1, 1, 1, 1], [0.5, 0.1, 0.9, 0.3, 0.3, 0.4, 0.6, 0.5]
        )
        other = outcome(
            [1, 1, 0, 1, 1, 1, 0, 1], [0.2, 0.1, 0.9, 0.3, 0.3, 0.4, 0.6, 0.5]
        )
        # The radii are not in order; that of 0.2 breaks 3 and 4, not 1 again.
        large = outcome(
            [1, 1, 0, 0, 0, 1, 0, 1], [0.6, 0.9, 0.9, 0.8, 0.8, 0.7, 0.9, 0.5]
        )
        same = {0.2: [large, large], 0.1: [first, other]}
        found = gallery.choose(clean, same)
        # Broken by 0.1 first, with the lower confidence; 3 and 4 tie.
        self.assertAllEqual(found["fragile"], [6, 1, 3, 4])
        # They withstand both radii; by the confidence at the larger one.
        self.assertAllEqual(found["robust"], [5, 0, 7, 3])

    def test_nobody_withstands_the_largest_radius(self):
        clean = self.clean([0, 0, 0], [0.9, 0.8, 0.7])
        some = outcome([1, 0, 1], [0.3, 0.9, 0.4])
        nobody = outcome([0, 0, 0], [0.9, 0.9, 0.9])
        found = gallery.choose(clean, {0.1: [some], 0.2: [nobody]})
        self.assertAllEqual(found["robust"], [2, 0])
        self.assertAllEqual(found["fragile"], [1, 2, 0])

    def test_nearest(self):
        self.assertEqual(gallery.nearest({0.5: 0, 0.1: 0, 0.3: 0}, 0.19), 0.1)
        self.assertEqual(gallery.nearest({0.75: 0, 0.25: 0}, 0.5), 0.25)


class FilesTest(parameterized.TestCase, tf.test.TestCase):
    def measure(self, model=None, directory=None, **kwargs):
        if directory is None:
            directory = self.enterContext(tempfile.TemporaryDirectory())
        directory = pathlib.Path(directory)
        arguments = {
            "attacks": ["fgsm"],
            "epsilons": [0.004, 0.02],
            "seed": 3,
            "loss_surface": True,
            **kwargs,
        }
        results = evaluate_robustness(
            model or toy_network(),
            toy_data(30),
            directory=directory,
            **arguments,
        )
        return directory, results

    def read(self, directory, name):
        with np.load(directory / f"{name}.npz") as file:
            return dict(file)

    @parameterized.parameters(
        ("linf", [0.004, 0.02], 0.02), ("l2", [0.1, 2.0], 0.1)
    )
    def test_content(self, norm, epsilons, nearest):
        network = toy_network()
        directory, _ = self.measure(network, norm=norm, epsilons=epsilons)
        found = self.read(directory, "gallery")
        outcomes = self.read(directory, "outcomes")
        images, index = as_floats(toy_data(30)[0]), found["index"]
        self.assertEqual(str(found["norm"]), norm)
        self.assertEqual(str(found["attack"]), "pgd-10-1")
        self.assertEqual(float(found["epsilon"]), nearest)
        self.assertAllEqual(found["kind"][:8], ["fixed"] * 8)
        self.assertContainsSubset(
            set(found["kind"]), {"fixed", "fragile", "robust"}
        )
        self.assertAllEqual(found["image"], images[index])
        self.assertEqual(found["adversarial"].dtype, np.float32)
        self.assertAllInRange(found["adversarial"], 0.0, 1.0)
        delta = (found["adversarial"] - found["image"]).reshape(len(index), -1)
        order = np.inf if norm == "linf" else 2
        sizes = np.linalg.norm(delta, order, axis=1)
        self.assertAllLessEqual(sizes, nearest + 1e-6)
        self.assertGreater(sizes.min(), 0)
        # An example of several kinds is attacked once.
        images = {
            (number, adversarial.tobytes())
            for number, adversarial in zip(
                index, found["adversarial"], strict=True
            )
        }
        self.assertLen(images, len(set(index)))
        self.assertLess(len(images), len(index))
        for name in ("label", "clean_class", "clean_confidence"):
            self.assertAllEqual(found[name], outcomes[name][index])
        after = predict(network(found["adversarial"]).numpy())
        self.assertAllEqual(found["adversarial_class"], after.predicted)
        self.assertAllClose(found["adversarial_confidence"], after.confidence)

    @parameterized.parameters("linf", "l2")
    def test_surface(self, norm):
        network = toy_network()
        directory, _ = self.measure(network, norm=norm, batch_size=5)
        found = self.read(directory, "surface")
        few = self.read(directory, "gallery")
        image, label = few["image"][0], few["label"][0]
        self.assertAllClose(found["steps"], np.linspace(-1, 1, 21), atol=1e-7)
        self.assertEqual(found["label"], label)
        self.assertEqual(found["index"], few["index"][0])
        self.assertEqual(found["epsilon"], few["epsilon"])
        self.assertEqual(str(found["norm"]), norm)
        epsilon = float(found["epsilon"])
        order = np.inf if norm == "linf" else 2
        delta = few["adversarial"][0] - image
        delta *= epsilon / np.linalg.norm(delta.ravel(), order)
        random = epsilon * surface.random_direction(SHAPE, norm, 3)
        self.assertAllClose(
            np.linalg.norm(random.ravel(), order), epsilon, rtol=1e-5
        )
        for row, column in ((10, 10), (20, 10), (0, 3), (13, 20)):
            steps = found["steps"]
            point = image + steps[row] * delta + steps[column] * random
            logits = network(np.clip(point, 0, 1)[np.newaxis])
            loss = tf.nn.sparse_softmax_cross_entropy_with_logits(
                [label], logits
            )
            self.assertAllClose(
                found["loss"][row, column], loss[0], rtol=1e-4, atol=1e-6
            )
            self.assertEqual(
                found["predicted"][row, column], logits[0].numpy().argmax()
            )
        # Uphill along the perturbation.
        self.assertGreater(found["loss"][20, 10], found["loss"][10, 10])
        for name, dtype in (("loss", np.float32), ("predicted", np.int32)):
            self.assertEqual(found[name].dtype, dtype)
            self.assertEqual(found[name].shape, (21, 21))

    def test_the_random_direction(self):
        signs = surface.random_direction((8, 8, 3), "linf", 0)
        self.assertEqual(set(signs.ravel().tolist()), {-1.0, 1.0})
        other = surface.random_direction((8, 8, 3), "linf", 1)
        self.assertGreater((signs != other).mean(), 0.3)
        self.assertAllEqual(
            signs, surface.random_direction((8, 8, 3), "linf", 0)
        )

    def test_the_same_call_again(self):
        """Files are the same, and a surface can be asked for later."""
        whole, _ = self.measure()
        directory, _ = self.measure(loss_surface=False)
        self.assertFalse((directory / "surface.npz").exists())
        (directory / "gallery.npz").unlink()  # As if it had been killed.
        self.measure(directory=directory)
        for name in ("gallery", "surface"):
            expected = (whole / f"{name}.npz").read_bytes()
            found = (directory / f"{name}.npz").read_bytes()
            self.assertEqual(found, expected, name)

    def test_a_damaged_gallery(self):
        directory, _ = self.measure(loss_surface=False)
        path = directory / "gallery.npz"
        path.write_bytes(path.read_bytes()[:100])
        with self.assertRaisesRegex(
            InputError, f"delete it to have it .* Received: path={path}$"
        ):
            self.measure(directory=directory)

    def test_a_function_of_numpy(self):
        network = toy_network()
        directory, _ = self.measure(
            lambda images: network(np.asarray(images)).numpy(),
            attacks=["square-10"],
        )
        found = self.read(directory, "gallery")
        self.assertEqual(str(found["attack"]), "square-100")
        self.assertTrue((found["image"] != found["adversarial"]).any())
        self.assertTrue((directory / "surface.npz").exists())

    def test_nothing_is_correct(self):
        network = toy_network()
        images, labels = toy_data(6)
        labels = (labels + 1 - (np.arange(6) % 5 == 0)) % 4
        wrong = (network(as_floats(images)).numpy().argmax(-1) + 1) % 4
        directory = pathlib.Path(self.get_temp_dir(), "wrong")
        with self.assertWarnsRegex(UserWarning, "not above chance"):
            results = evaluate_robustness(
                network,
                (images, wrong),
                "fgsm",
                directory=directory,
                loss_surface=True,
            )
        self.assertIn("No loss surface was computed", results["notes"][-1])
        self.assertFalse((directory / "surface.npz").exists())
        found = self.read(directory, "gallery")
        self.assertAllEqual(found["kind"], ["fixed"] * 6)
        self.assertAllEqual(found["image"], found["adversarial"])
        self.assertAllEqual(found["clean_class"], found["adversarial_class"])

    def test_class_names(self):
        names = ("cat", "dog", "ship")  # The model has one class more.
        directory, results = self.measure(class_names=names, loss_surface=False)
        written = json.loads((directory / "results.json").read_text())
        self.assertEqual(written["class_names"], [*names, "3"])
        self.assertEqual(results["class_names"], [*names, "3"])
        for wrong, shown in (
            (list("abcde"), "a, b, c, d, e"),
            ("abcd", "'abcd'"),
            ([1, 2, 3, 4], r"\[1"),
            ([], r"\[\]"),
        ):
            with self.assertRaisesRegex(
                InputError, rf"class_names.*Received: class_names=.*{shown}"
            ):
                self.measure(class_names=wrong)

    def test_without_a_directory(self):
        with self.assertRaisesRegex(
            InputError, "`loss_surface` needs a directory"
        ):
            evaluate_robustness(toy_network(), toy_data(4), loss_surface=True)


if __name__ == "__main__":
    tf.test.main()
