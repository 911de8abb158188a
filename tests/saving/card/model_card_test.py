"""The model card: its metadata, its numbers and its words."""

import contextlib
import math
import pathlib
import re
import tempfile

import keras
import markdown_it
import numpy as np
import pytest
import yaml
from absl.testing import absltest, parameterized
from huggingface_hub import ModelCard

from fastbat_tf.data import Reading
from fastbat_tf.saving import destination
from fastbat_tf.saving.card import licenses, model_card, numbers
from fastbat_tf.saving.card import words as card_words
from fastbat_tf.saving.export import export
from fastbat_tf.saving.formats.registry import FORMATS
from fastbat_tf.saving.model_info import ModelInfo
from fastbat_tf.saving.served import serve
from tests.support import testing, written_evaluations

EPSILON = 8 / 255
HOSTILE = (
    "a: b",
    "- c",
    "#d",
    "'e\" \\",
    "f|g",
    "\n---\nlicense: mit",
    "<script>alert(1)</script>",
    "[x](http://example.com)",
    "{{ 7 * 7 }} {% if x %}",
    "\x00\x07\u2028\ud800",
    "猫\N{GRINNING FACE}`*_$",
    "~~no~~ & yes: true",
)
PERCENT = re.compile(r"\d+\.\d\d%")


def training_of(**settings):
    """The settings of a run that a card reads."""
    return {
        "data": {"validation_share": 0.1, "training_examples": 0},
        "method": {"method": "pgd", "options": {"epsilon": EPSILON}},
        "training": {"epochs": 3, "batch_size": 50, "seed": 1, **settings},
    }


class ModelCardTest(parameterized.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.directory = pathlib.Path(
            cls.enterClassContext(tempfile.TemporaryDirectory())
        )
        cls.model = testing.small_network()
        cls.results = cls.measure()

    @classmethod
    def measure(cls, **options):
        given = {"attacks": ("pgd-10-1", "autoattack", "square"), **options}
        return written_evaluations.write_evaluation(
            cls.directory / "evaluation", **given
        )

    def info(self, **facts):
        given = {
            "name": "a-run",
            "dataset": "cifar10",
            "method": "fastbat",
            "norm": "linf",
            "epsilon": EPSILON,
            "results": self.results,
            "config": training_of(),
        }
        return ModelInfo(**{**given, **facts})

    def card(self, info=None, format="onnx"):
        """The text of a card, which was loaded by Hugging Face's library."""
        served = serve(self.model, None, info or self.info())
        model_card.write(served, self.directory, format)
        path = self.directory / "README.md"
        self.loaded = ModelCard.load(path)
        self.metadata = yaml.safe_load(path.read_text().split("\n---\n")[0])
        self.assertEqual(self.loaded.data.to_dict(), self.metadata)
        return self.loaded.text

    def test_images_that_are_not_in_the_data_set(self):
        config = training_of()
        added = {
            "extra_data": "private/extra.npz",
            "extra_fraction": 0.7,
            "extra_fingerprint": "0f3c",
            "cutmix": True,
        }
        config["data"].update(added)
        sentences = " ".join(card_words.training(self.info(config=config)))
        self.assertIn("70 % of each batch were extra images", sentences)
        self.assertIn("0f3c). CutMix mixed", sentences)
        self.assertNotIn("private", sentences)
        sentences = " ".join(card_words.training(self.info()))
        self.assertNotRegex(sentences, "extra|CutMix")

    def test_metadata(self):
        self.card(self.info(license="Apache 2.0"))
        data = self.metadata
        self.assertEqual(data["license"], "apache-2.0")
        self.assertEqual(data["library_name"], "onnx")
        self.assertEqual(data["pipeline_tag"], "image-classification")
        self.assertEqual(data["datasets"], ["uoft-cs/cifar10"])
        self.assertContainsSubset(
            ("adversarial-robustness", "image-classification", "fastbat"),
            data["tags"],
        )
        found = {r.metric_name: r for r in self.loaded.data.eval_results}
        clean = found.pop("Clean accuracy (200 examples)")
        self.assertEqual(clean.metric_value, self.results["clean_accuracy"])
        rows = self.results["attacks"] + self.results["worst_case"]
        self.assertLen(found, len(rows))
        for row in rows:
            name = row["attack"]
            if "attacks" in row:
                name += " of pgd-10-1, autoattack, square"
            one = found[
                f"Robust accuracy ({name}, epsilon 8/255 (L∞), 200 examples, "
                "seed 0)"
            ]
            self.assertEqual(one.metric_value, row["robust_accuracy"])
            self.assertEqual(one.metric_type, "accuracy")
            self.assertEqual(one.dataset_split, "test")
            self.assertEqual(one.dataset_name, "cifar10")

    def test_every_number_is_one_of_the_results(self):
        text = self.card()
        rows = self.results["attacks"] + self.results["worst_case"]
        shares = [self.results["clean_accuracy"]]
        shares += [row["robust_accuracy"] for row in rows]
        known = {f"{100 * share:.2f}%" for share in shares}
        self.assertEqual(set(PERCENT.findall(text)), known)
        bounds = [self.results["clean_confidence_interval"]]
        bounds += [row["confidence_interval"] for row in rows]
        intervals = re.findall(r"[\d.]+ to [\d.]+", text)
        self.assertEqual(
            intervals, [f"{100 * a:.1f} to {100 * b:.1f}" for a, b in bounds]
        )
        lowest = min(row["robust_accuracy"] for row in rows)
        self.assertIn(
            f"{100 * lowest:.2f}% of 200 images withstand",
            " ".join(text.split()),
        )

    def test_names_of_others_are_text(self):
        hostile = self.info(
            name=HOSTILE[6],
            class_names=HOSTILE,
            results={
                **self.results,
                "warnings": [f"Class {name} fails." for name in HOSTILE],
                "notes": ["50%\nof | it"],
            },
            command="x \ud800\n````\n# not a heading",
            initial_weights="<b>",
            device="```",
        )
        text = self.card(hostile)
        self.assertEqual(self.metadata["model-index"][0]["name"], HOSTILE[6])
        self.assertNotIn("license", self.metadata)
        tokens = markdown_it.MarkdownIt("gfm-like", {"linkify": False}).parse(
            text
        )
        inner = [t for token in tokens for t in token.children or ()]
        kinds = {token.type for token in (*tokens, *inner)}
        markup = {"html_inline", "link_open", "em_open", "s_open", "image"}
        self.assertEmpty(kinds & markup)
        # The comment of the card.
        self.assertLen([t for t in tokens if t.type == "html_block"], 1)
        headings = [
            tokens[k + 1].content
            for k, token in enumerate(tokens)
            if token.type == "heading_open"
        ]
        self.assertLen(headings, 9)
        shown = "".join(t.content for t in inner if t.type.startswith("text"))
        for name in HOSTILE:
            words = "".join(c if c.isprintable() else " " for c in name)
            self.assertIn(f"Class {' '.join(words.split())}".strip(), shown)

    @parameterized.parameters(*((name,) for name in FORMATS))
    def test_what_is_not_known_is_said(self, format):
        text = self.card(ModelInfo(), format)
        self.assertNotRegex(text, r"\b(None|nan|inf|null)\b")
        for part in (
            "is not known",
            "Not measured",
            "No licence was given",
            "| training data | unknown |",
            "| network | unknown |",
            "The command that trained it is not known.",
        ):
            self.assertIn(part, text)
        for name in ("license", "datasets", "metrics", "model-index"):
            self.assertNotIn(name, self.metadata)

    def test_results_that_are_no_numbers(self):
        rows = [{**self.results["attacks"][0], "robust_accuracy": math.nan}]
        broken = {"attacks": rows, "worst_case": [], "clean_accuracy": math.nan}
        text = self.card(self.info(results={**self.results, **broken}))
        self.assertNotRegex(text, r"\bnan\b")
        self.assertNotIn("model-index", self.metadata)

    def test_kinds_of_training(self):
        for facts, expected in (
            ({"norm": "l2", "epsilon": 0.5}, "at most 0.5 (L2) so that"),
            (
                {"method": "standard", "norm": None, "epsilon": None},
                "trained without adversarial examples: expect no robustness",
            ),
            ({"epsilon": None}, "within a radius that is not known"),
            ({"method": None}, "How it was trained"),
            ({"method": "mine"}, "Training method: mine."),
            ({"dataset": "folder"}, "a folder of images, which is not public"),
            ({"dataset": "imagenet2012"}, "used as the test split"),
            ({"best_epoch": 2}, "after epoch 2, which was the best one"),
            ({"initial_weights": "runs/x"}, "started from the weights runs/x"),
            ({"config": None}, "whether it was trained on them is not known"),
        ):
            with self.subTest(facts):
                text = self.card(self.info(**facts))
                self.assertIn(
                    expected, " ".join(text.replace("\\", "").split())
                )

    @parameterized.parameters(
        (("square", "transfer-fgsm"), True),
        (("square-100", "pgd-5-1"), False),
        (("apgd-ce+square",), False),
    )
    def test_without_gradients(self, attacks, expected):
        text = self.card(self.info(results=self.measure(attacks=attacks)))
        said = "No attack that uses the model's gradients was run" in text
        self.assertEqual(said, expected)

    def test_another_radius(self):
        text = self.card(self.info(epsilon=4 / 255))
        self.assertIn("not measured at the radius that it was trained", text)

    def test_caveats_are_repeated(self):
        results = self.measure(warnings=["A sign of masking."])
        text = self.card(self.info(results=results, doubts=("Only 3 images.",)))
        for caveat in ("A sign of masking.", "Only 3 images.", "drawn with"):
            self.assertEqual(text.count(caveat), 1, caveat)
        self.assertIn("8-bit integers", self.card(format="tflite_int8"))

    def test_licenses(self):
        for given, identifier, name in (
            ("MIT", "mit", None),
            ("CC BY 4.0", "cc-by-4.0", None),
            ("other", "other", None),
            ("Ours: <v1>", "other", "ours-v1"),
            ("ライセンス", "other", None),
        ):
            parsed = licenses.License(identifier, name)
            self.assertEqual(licenses.parse(given), parsed)
            self.card(self.info(license=given))
            self.assertEqual(self.metadata["license"], identifier)
            self.assertEqual(self.metadata.get("license_name"), name)
            found = destination.read_card(self.directory)
            self.assertEqual(found["license"], given)

    def test_reading(self):
        served = serve(self.model, Reading(8, 8, 3, 9), self.info())
        text = " ".join(model_card.render(served, "saved_model").split())
        self.assertIn("their short side has 9 pixels, and the center", text)

    def test_what_keras_answers(self):
        """A Keras file answers what its classifier returns."""
        for units, activation, classes, name, words in (
            (4, None, 4, "logits", "with logits, in the order"),
            (3, "softmax", 3, "probabilities", "with probabilities, in the"),
            (1, "sigmoid", 2, "probability", "chosen above 0.5."),
            (1, None, 2, "logit", "chosen above 0."),
        ):
            model = keras.Sequential(
                [
                    keras.Input((4, 4, 3)),
                    keras.layers.Flatten(),
                    keras.layers.Dense(units, activation),
                ]
            )
            text = model_card.render(serve(model), "keras")
            self.assertIn(f"| classes | {classes}; ", text)
            self.assertIn(f"\n{name} = model.predict(images)", text)
            self.assertIn(words, text)

    def test_integers_are_another_model(self):
        """Its metadata has no number that was measured on another one."""
        text = self.card(format="tflite_int8")
        self.assertNotIn("model-index", self.metadata)
        self.assertIn("The float32 model from which this file was made", text)
        text = self.card(format="tflite")
        self.assertIn("model-index", self.metadata)
        self.assertIn("It classifies", text)

    def test_yaml_numbers(self):
        """YAML 1.1 reads 2e-05 as a string."""
        results = {**self.results, "clean_accuracy": 2e-05}
        self.card(self.info(results=results))
        (first, *_) = self.metadata["model-index"][0]["results"][0]["metrics"]
        self.assertEqual(first["value"], 2e-05)

    def test_kinds_of_attacks(self):
        for name, kind in (
            ("square-10", "asks for logits"),
            ("transfer", "transferred"),
            ("fgsm", "white box"),
            ("of-tomorrow", "unknown"),
        ):
            self.assertIn(kind, numbers.kind(name))


class ProgramTest(parameterized.TestCase):
    """The programs of the cards run, in the directory of the files."""

    @pytest.mark.quick("saved_model", "onnx")
    @parameterized.parameters(*((name,) for name in FORMATS))
    def test_program(self, format):
        directory = self.enterContext(tempfile.TemporaryDirectory())
        images = None
        if format == "tflite_int8":
            images = np.zeros((4, 8, 8, 3), np.float32)
        export(testing.small_network(), directory, format, calibration=images)
        card = pathlib.Path(directory, "README.md").read_text()
        (program,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
        self.assertBetween(len(program.splitlines()), 4, 9)
        names = {}
        with contextlib.chdir(directory):
            exec(program, names)
        if format == "keras":
            self.assertEqual(names["logits"].shape, (1, 4))
        elif format == "onnx":
            self.assertEqual(names["probabilities"].shape, (1, 4))
        elif format == "stablehlo":
            self.assertNotEmpty(names["weights"])
        else:
            self.assertEqual(names["answer"]["logits"].shape, (1, 4))


if __name__ == "__main__":
    absltest.main()
