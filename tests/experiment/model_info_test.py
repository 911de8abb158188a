"""What a run says about its model, and the cards that repeat it."""

import json
import pathlib
import tempfile

import pytest
from absl.testing import absltest, parameterized

from fastbat_tf.data.options import DataConfig
from fastbat_tf.experiment import export, model_info
from fastbat_tf.experiment.config import Config, ModelConfig
from fastbat_tf.experiment.run_directory import RunDirectory
from fastbat_tf.saving import destination
from fastbat_tf.saving.card import model_card
from fastbat_tf.saving.served import serve
from tests.support import testing, written_runs
from tests.support.image_data import write_folder

EPSILON = 8 / 255


class OfRunTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        directory = self.enterContext(tempfile.TemporaryDirectory())
        self.path = pathlib.Path(directory, "demo")

    def write(self, method="fastbat", **options):
        written_runs.write_run(self.path, method, **options)
        return self.read()

    def read(self, **arguments):
        run = RunDirectory(self.path)
        return model_info.of_run(run.load_config(), run, **arguments)

    def change(self, name, change):
        path = self.path / name
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))

    def test_of_a_whole_run(self):
        info = self.write()
        results = json.loads((self.path / "results.json").read_text())
        self.assertEqual(info.name, "demo")
        self.assertStartsWith(info.network, "preact_resnet18")
        self.assertEqual(info.class_names[:2], ("airplane", "automobile"))
        self.assertEqual(info.dataset, "cifar10_mini")
        self.assertEqual(
            (info.method, info.norm, info.epsilon), ("fastbat", "linf", EPSILON)
        )
        self.assertEqual(info.results, results)
        self.assertEqual(
            info.command, "python main.py --method=fastbat --seed=37"
        )
        self.assertTrue(info.command_is_recorded)
        self.assertEqual(info.best_epoch, 4)
        self.assertEqual(info.weights_sha256, results["weights_sha256"])
        self.assertEqual(info.device, "NVIDIA H100")
        self.assertEqual(info.versions["fastbat_tf"], "0.1.0")
        self.assertIsNone(info.initial_weights)
        self.assertIsNone(info.license)
        self.assertLen(info.doubts, 2)
        self.assertStartsWith(info.doubts[0], "Only 200 images")
        self.assertIn("weaker than AutoAttack", info.doubts[1])

    def test_the_row_that_a_report_would_quote(self):
        self.write()
        row = self.read().worst_case
        self.assertEqual(row["attack"], "worst case")
        written_runs.measure(
            self.path, "later", attacks=("autoattack",), examples=150, seed=3
        )
        later = self.read()
        self.assertEqual(later.worst_case["attack"], "autoattack")
        self.assertEqual(later.worst_case["examples"], 150)
        self.assertLen(later.rows, 4)

    def test_of_the_version_before(self):
        info = self.write(old=True)
        self.assertFalse(info.command_is_recorded)
        self.assertIn("--method=fastbat", info.command)
        self.assertEqual(info.class_names[0], "airplane")
        self.assertIsNone(info.device)
        self.assertIsNotNone(info.worst_case)

    def test_without_attack(self):
        info = self.write("standard")
        self.assertEqual((info.norm, info.epsilon), (None, None))
        self.assertEqual(info.worst_case["epsilon"], EPSILON)

    def test_in_l2(self):
        options = {"norm": "l2", "epsilon": 0.5}
        info = self.write("pgd", options=options, norm="l2", epsilons=(0.5,))
        self.assertEqual((info.norm, info.epsilon), ("l2", 0.5))
        self.assertEqual(info.worst_case["norm"], "l2")

    def test_unfinished(self):
        info = self.write(unfinished=True)
        self.assertIsNone(info.results)
        self.assertStartsWith(info.doubts[0], "The run has not ended")

    def test_while_it_ends(self):
        """Neither the SavedModel nor `ended.json` is there yet."""
        self.write()
        (self.path / "ended.json").unlink()
        self.assertStartsWith(self.read().doubts[0], "The run has not ended")
        ending = self.read(is_ending=True)
        self.assertStartsWith(ending.doubts[0], "Only 200 images")

    def test_results_of_other_weights_are_none(self):
        self.write()
        (self.path / "checkpoints" / "best.weights.h5").write_bytes(b"new")
        info = self.read()
        self.assertIsNone(info.results)
        self.assertIsNone(info.worst_case)

    def test_nothing_tells_where_this_machine_has_its_files(self):
        """Of images that may be private, the names of the classes are known."""
        images = self.path.parent / "private" / "images"
        write_folder(images, ("healthy", "sick"), 2, 1)
        written_runs.write_run(self.path)
        data = DataConfig("folder", data_dir=str(images), image_size=8)

        def move(config):
            config["data"] = Config(data=data).to_dict()["data"]
            config["model"]["init_weights"] = f"{self.path}/first"
            config["command"] = (
                f"python {self.path}/main.py --data_dir={images} --data_dir "
                f"{images} --run_dir={self.path} --image_size=8"
            )

        self.change("config.json", move)
        self.change("results.json", lambda r: r.pop("class_names"))
        info = self.read()
        self.assertEqual(
            info.command,
            "python main.py --data_dir=DIR --data_dir DIR --run_dir=demo "
            "--image_size=8",
        )
        self.assertEqual(info.initial_weights, "first")
        self.assertEqual(info.class_names, ("healthy", "sick"))
        self.assertNotIn(str(self.path.parent), repr(info))
        self.change("config.json", lambda c: c.pop("command"))
        self.assertNotIn(str(self.path.parent), repr(self.read()))
        served = serve(testing.small_network(classes=2), None, self.read())
        card = model_card.render(served, "onnx")
        self.assertNotIn(str(self.path.parent), card)
        self.assertIn("started from the weights first", card)

    @parameterized.parameters(
        ("python main.py --a=b", "python main.py --a=b"),
        (r"fastbat-tf --data_dir='C:\my data'", "fastbat-tf --data_dir=DIR"),
        (r"x --run_dir='C:\runs\demo'", "x --run_dir=demo"),
        ("x --init_weights ~/w.keras", "x --init_weights w.keras"),
        ("x --data_dir /", "x --data_dir DIR"),
        ("x --epsilon=8/255 --dir=/", "x --epsilon=8/255 --dir=DIR"),
        ("x -data_dir=a b", "x -data_dir=DIR b"),
        ("one /a/b\ntwo", "one b\ntwo"),
    )
    def test_hide_paths(self, command, expected):
        self.assertEqual(model_info.hide_paths(command), expected)
        self.assertIsNone(model_info.hide_paths("x 'y"))


class OfWeightsTest(parameterized.TestCase):
    @parameterized.parameters(
        ("cifar10", "airplane"), ("cifar100", None), ("mnist", "0")
    )
    @pytest.mark.quick("cifar10 airplane")
    def test_classes_without_a_download(self, dataset, first):
        config = Config(
            data=DataConfig(dataset),
            model=ModelConfig(init_weights="/secret/robust.weights.h5"),
        )
        info = model_info.of_weights(config, "mit")
        self.assertEqual(info.name, "robust")
        self.assertEqual(info.initial_weights, "robust.weights.h5")
        self.assertEqual(info.license, "mit")
        self.assertEqual(info.class_names and info.class_names[0], first)
        for fact in (info.method, info.results, info.dataset, info.command):
            self.assertIsNone(fact)


class RenewedTest(absltest.TestCase):
    """The cards in a run after an evaluation."""

    def setUp(self):
        super().setUp()
        directory = self.enterContext(tempfile.TemporaryDirectory())
        self.run = RunDirectory(written_runs.write_run(f"{directory}/run"))
        self.config = self.run.load_config()
        self.model = testing.small_network(size=32, classes=10)
        for form in ("saved_model", "onnx"):
            request = export.ExportRequest(form)
            path = request.place(self.run)
            path.mkdir(parents=True, exist_ok=True)
            info = model_info.of_run(
                self.config, self.run, license=f"of {form}"
            )
            served = serve(self.model, None, info)
            model_card.write(served, path, form)
        self.cards = [
            self.run.saved_model / "README.md",
            self.run.exports / "onnx" / "README.md",
        ]

    def measure(self):
        written_runs.measure(
            self.run.path, "later", attacks=("square",), examples=100
        )
        export.renew_cards(self.config, self.model, self.run)

    def test_new_rows(self):
        for card in self.cards:
            self.assertNotIn("| square |", card.read_text())
        self.measure()
        for card in self.cards:
            self.assertIn("| square |", card.read_text())
            form = card.parent.name
            found = destination.read_card(card.parent)
            self.assertEqual(found["license"], f"of {form}")
        self.assertEqual({p.name for p in self.run.exports.iterdir()}, {"onnx"})

    def test_what_is_no_card_of_these_weights_stays(self):
        mine, other = self.cards
        mine.write_text("# Mine\n")
        text = other.read_text()
        sha256 = destination.read_card(other.parent)["weights_sha256"]
        text = text.replace(sha256, "0" * 64)
        other.write_text(text)
        self.measure()
        self.assertEqual(mine.read_text(), "# Mine\n")
        self.assertEqual(other.read_text(), text)


if __name__ == "__main__":
    absltest.main()
