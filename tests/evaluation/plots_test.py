"""Tests what the figure of `plot_adversarial` shows."""

import itertools

import numpy as np
import tensorflow as tf
from absl.testing import parameterized
from matplotlib import pyplot
from matplotlib.colors import to_hex

from fastbat_tf import attacks
from fastbat_tf.attacks.records import AdversarialExamples
from fastbat_tf.errors import InputError
from fastbat_tf.evaluation.plots import plot_adversarial
from fastbat_tf.runtime import figures
from tests.support.testing import images_and_labels
from tests.support.toy_evaluation import as_floats, toy_data, toy_network

NAMES = ["cat", "dog", "frog", "ship"]
LONG = [
    "tench, Tinca tinca",
    "great white shark, white shark, man-eater, man-eating shark",
    "Supercalifragilisticexpialidocious_" + 20 * "W",
    "English springer, English springer spaniel",
]
COUNT = 12
IMAGES, LABELS = images_and_labels(COUNT)
SIGNS = np.where(np.random.default_rng(0).random(IMAGES.shape) < 0.5, -1, 1)
ADVERSARIAL = np.clip(IMAGES + SIGNS * 8 / 255, 0, 1).astype("float32")
WRONG = (LABELS + 1) % 4
TICK, CROSS = (
    "\N{CHECK MARK}\N{NO-BREAK SPACE}",
    "\N{BALLOT X}\N{NO-BREAK SPACE}",
)


def panels(figure):
    """The axes of a figure by their labels."""
    return {axes.get_label(): axes for axes in figure.axes}


def shown(axes):
    (picture,) = axes.get_images()
    return np.asarray(picture.get_array())


def captions(figure, kind):
    return [
        axes.get_xlabel()
        for axes in figure.axes
        if axes.get_label().rpartition(" ")[0] == kind
    ]


def texts(figure):
    return [text.get_text() for text in figure.texts]


class PlotTest(parameterized.TestCase, tf.test.TestCase):
    def test_the_result_of_an_attack(self):
        """Images, result and labels are all; what is drawn is what it did."""
        network = toy_network()
        images, labels = toy_data(20, network)
        result = attacks.PGD(epsilon=0.02, steps=3)(network, images, labels)
        figure = plot_adversarial(images, result, labels, max_examples=20)
        clean = np.asarray(network(as_floats(images))).argmax(-1)
        for k in range(20):
            with self.subTest(k):
                axes = panels(figure)
                image = axes[f"image {k}"]
                adversarial = axes[f"adversarial image {k}"]
                self.assertAllClose(shown(image), as_floats(images)[k])
                self.assertAllClose(shown(adversarial), result.images[k])
                for panel, predicted in (
                    (image, clean[k]),
                    (adversarial, result.predictions[k]),
                ):
                    is_right = predicted == labels[k]
                    self.assertEqual(
                        panel.get_xlabel(),
                        f"{TICK if is_right else CROSS}class {predicted}",
                    )
                    color = figures.RIGHT if is_right else figures.WRONG
                    frame = panel.spines["left"].get_edgecolor()
                    self.assertEqual(to_hex(frame), color)
                heading = f"true class: {labels[k]}"
                self.assertIn(heading, texts(figure))

    def test_perturbation(self):
        """One scale for all; gray is no change, and the key says the rest."""
        adversarial = ADVERSARIAL.copy()
        adversarial[0] = IMAGES[0]
        adversarial[1] = (IMAGES[1] + ADVERSARIAL[1]) / 2
        figure = plot_adversarial(IMAGES[:3], adversarial[:3])
        delta = adversarial[:3] - IMAGES[:3]
        for k in range(3):
            self.assertAllClose(
                shown(panels(figure)[f"perturbation {k}"]),
                0.5 + delta[k] / (16 / 255),
                atol=1e-5,
            )
        lines = captions(figure, "perturbation")
        self.assertEqual(lines[0], "none")
        length = np.linalg.norm(delta[2])
        self.assertEqual(lines[2], f"L\N{INFINITY} 8/255\nL2 {length:.2f}")
        self.assertStartsWith(lines[1], "L\N{INFINITY} 4/255\n")
        self.assertContainsSubset(
            ["\N{MINUS SIGN}8/255", "0", "+8/255"], texts(figure)
        )
        key = shown(panels(figure)["key"])
        self.assertAllClose(key[0, [0, -1]], [[0, 0, 0], [1, 1, 1]])

    def test_gray_images(self):
        """Gray in images; two colors in perturbations, white for none."""
        images, adversarial = IMAGES[:2, ..., :1], ADVERSARIAL[:2, ..., :1]
        axes = panels(plot_adversarial(images, adversarial))
        (image,) = axes["image 0"].get_images()
        self.assertEqual(image.get_cmap().name, "gray")
        self.assertEqual(image.get_clim(), (0, 1))
        self.assertAllClose(shown(axes["image 0"]), images[0, ..., 0])
        for name in ("perturbation 1", "key"):
            (picture,) = axes[name].get_images()
            self.assertEqual(picture.get_cmap().name, figures.DIVERGING)
            self.assertEqual(picture.get_clim(), (0, 1))

    def test_names_and_probabilities(self):
        logits = np.log(0.6 * np.eye(4)[WRONG] + 0.1) + 5
        figure = plot_adversarial(
            IMAGES,
            ADVERSARIAL,
            np.eye(4)[LABELS],
            predictions=logits,
            clean_predictions=0.6 * np.eye(4)[LABELS] + 0.1,
            class_names=NAMES,
            index=[5, 2],
        )
        after = [
            f"{CROSS}{NAMES[WRONG[k]]} 70\N{NO-BREAK SPACE}%" for k in (5, 2)
        ]
        before = [
            f"{TICK}{NAMES[LABELS[k]]} 70\N{NO-BREAK SPACE}%" for k in (5, 2)
        ]
        self.assertEqual(captions(figure, "adversarial image"), after)
        self.assertEqual(captions(figure, "image"), before)
        self.assertIn(f"true class: {NAMES[LABELS[5]]}", texts(figure))
        self.assertIn("image 5", texts(figure))

    def test_the_most_telling_come_first(self):
        """Broken ones, robust ones, and last those that were wrong before."""
        predictions = LABELS.copy()
        predictions[[1, 6, 7]] = WRONG[[1, 6, 7]]
        adversarial = ADVERSARIAL.copy()
        adversarial[1] = IMAGES[1]  # It was wrong before.
        result = AdversarialExamples(
            adversarial, predictions, predictions == LABELS
        )
        for count, expected in ((2, [6, 7]), (4, [0, 2, 6, 7])):
            figure = plot_adversarial(
                IMAGES, result, LABELS, max_examples=count
            )
            numbers = [f"image {number}" for number in expected]
            self.assertContainsSubset(numbers, panels(figure))
            self.assertLen(figure.axes, 3 * count + 1)
            self.assertEqual(
                texts(figure)[0],
                f"{count} of 12 images. The attack breaks 2 of 11; 1 "
                "was misclassified before.",
            )

    def test_without_labels(self):
        """The sign then says whether the prediction has changed."""
        after = np.where(np.arange(COUNT) % 2, WRONG, LABELS)
        figure = plot_adversarial(
            IMAGES[:2],
            ADVERSARIAL[:2],
            predictions=after[:2],
            clean_predictions=LABELS[:2],
        )
        self.assertEqual(
            captions(figure, "adversarial image"),
            [f"{TICK}class {after[0]}", f"{CROSS}class {after[1]}"],
        )
        self.assertEqual(
            captions(figure, "image"), [f"class {k}" for k in LABELS[:2]]
        )

    def test_ranges(self):
        """Pixels are mapped to [0, 1], and sizes are fractions as epsilon."""
        expected = plot_adversarial(IMAGES[:1], ADVERSARIAL[:1])
        for low, high in ((0, 255), (-1, 1)):
            figure = plot_adversarial(
                low + (high - low) * IMAGES[:1],
                low + (high - low) * ADVERSARIAL[:1],
                pixel_range=(low, high),
            )
            self.assertEqual(texts(figure), texts(expected))
            for name, axes in panels(expected).items():
                self.assertAllClose(
                    shown(panels(figure)[name]), shown(axes), atol=1e-4
                )

    @parameterized.parameters(
        (1, (8, 8, 3)),
        (4, (8, 8, 1)),
        (8, (8, 8, 3)),
        (3, (224, 224, 3)),
        (2, (16, 4, 3)),
        (2, (4, 16, 3)),
    )
    def test_no_text_overlaps(self, count, shape):
        random = np.random.default_rng(0)
        images = random.random((count, *shape), np.float32)
        labels = np.arange(count) % 4
        figure = plot_adversarial(
            images,
            images[::-1],
            labels,
            predictions=np.eye(4)[(labels + 1) % 4],
            clean_predictions=np.eye(4)[labels],
            class_names=LONG,
        )
        figure.draw_without_rendering()
        boxes = [text.get_window_extent() for text in figure.texts] + [
            axes.xaxis.label.get_window_extent()
            for axes in figure.axes
            if axes.get_xlabel()
        ]
        pictures = [axes.get_window_extent() for axes in figure.axes]
        for one, other in itertools.combinations(boxes + pictures, 2):
            self.assertFalse(
                one.shrunk(0.98, 0.98).overlaps(other.shrunk(0.98, 0.98))
            )
        width, height = figure.bbox.size
        for box in boxes:
            self.assertBetween(box.x0, 0, box.x1)
            self.assertBetween(box.x1, box.x0, width)
            self.assertBetween(box.y0, 0, height)
            self.assertBetween(box.y1, box.y0, height)

    def test_a_notebook_shows_it(self):
        """It is a picture without pyplot, and leaves no figure open there."""
        figure = plot_adversarial(IMAGES[:1], ADVERSARIAL[:1])
        self.assertStartsWith(figure._repr_png_(), b"\x89PNG")
        self.assertEmpty(pyplot.get_fignums())

    @parameterized.named_parameters(
        ("shapes", {"adversarial": ADVERSARIAL[:3]}, r"in pairs.*\(3, 8, 8, 3"),
        ("range", {"images": 255 * IMAGES}, "pixel_range.*255"),
        (
            "channels",
            {"images": IMAGES[..., :2], "adversarial": ADVERSARIAL[..., :2]},
            r"1 channel .*images.shape=\(12, 8, 8, 2\)$",
        ),
        ("labels", {"labels": LABELS[:5]}, r"12 integers.*\(5,\)"),
        ("floats", {"predictions": 0.5 * LABELS}, "`predictions` .*float64$"),
        ("few", {"predictions": np.eye(4)[:3]}, "12 images.*shape=.3, 4"),
        ("ragged", {"predictions": [[1], [2, 3]]}, "predictions=list of 2$"),
        ("names", {"labels": LABELS, "class_names": "ab"}, "class_names='ab'"),
        (
            "names_missing",
            {"labels": LABELS + 4, "class_names": NAMES},
            "name for each class. Received: 4 names, class=[4-7]$",
        ),
        ("index", {"index": [12]}, r"\[0, 12\).* Received: index=list of 1$"),
        ("none", {"max_examples": 0}, "max_examples=0$"),
    )
    def test_refused(self, arguments, message):
        arguments = {"images": IMAGES, "adversarial": ADVERSARIAL, **arguments}
        with self.assertRaisesRegex(InputError, message) as caught:
            plot_adversarial(**arguments)
        self.assertNotIn("\n", str(caught.exception))


if __name__ == "__main__":
    tf.test.main()
