"""Tests of the command line, as its user sees it."""

import csv
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import numpy as np
import tensorflow as tf
from absl.testing import absltest, parameterized
from tensorboard.backend.event_processing import event_accumulator

from fastbat_tf.config import Config, MethodConfig
from fastbat_tf.data import loading

TOP = pathlib.Path(__file__).absolute().parent.parent

# A training of 8 steps of 100 images on a network of 2 channels.
TINY = (
    "--dataset=cifar10_mini",
    "--validation_share=0.9",
    "--width=2",
    "--epochs=2",
    "--batch_size=100",
    "--validation_examples=40",
    "--test_examples=40",
    "--attack=pgd-2-1",
    "--validation_attack=pgd-2-1",
)


def python(*arguments, **environment):
    # What tests set for themselves, a user does not.
    inherited = {**os.environ}
    inherited.pop("TF_CPP_MIN_LOG_LEVEL", None)
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=TOP,
        env={**inherited, **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )


def main(*flags, **environment):
    return python("main.py", *flags, **environment)


class CommandLineTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        directory = self.enterContext(tempfile.TemporaryDirectory())
        self.directory = pathlib.Path(directory)
        self.run_dir = self.directory / "run"

    def assert_refused(self, process, message):
        """Status 2, and one line that says why."""
        self.assertEqual(process.returncode, 2, process.stderr)
        self.assertEqual(process.stdout, "")
        lines = process.stderr.splitlines()
        self.assertRegex(lines[-1], rf"^error: .*{message}")
        self.assertEqual(lines[:-1], [])

    def assert_nothing_written(self):
        self.assertEqual(list(self.directory.iterdir()), [])


class BadFlagsTest(CommandLineTest):
    """All of these are refused before TensorFlow is imported."""

    @parameterized.parameters(
        (
            "--method=trades",
            r"Unknown method\. Expected one of standard, fastat, pgd, "
            r"gradalign, fastbat\b.* Received: method=trades$",
        ),
        (
            "--dataset=mnist",
            r"Unknown data set\. Expected one of cifar10, cifar10_mini\b.* "
            r"Received: dataset=mnist$",
        ),
        (
            "--model=vgg16",
            r"Unknown model\. Expected one of preact_resnet18, "
            r"preact_resnet34, preact_resnet50\b.* Received: model=vgg16$",
        ),
        (
            "--activation=tanh",
            "Expected one of relu, softplus, swish.* Received: "
            "activation=tanh$",
        ),
        ("--metod=fastbat", "'metod'"),
        ("fastbat", "Received: fastbat$"),
        ("--epsilon=2", r"`epsilon` .* \[0, 1\].* Received: epsilon=2\.0$"),
        ("--epsilon=-1", r"`epsilon` .* \[0, 1\].* Received: epsilon=-1\.0$"),
        ("--epsilon=8", r"such as 8/255\. Received: epsilon=8\.0$"),
        ("--epsilon=nan", r"`epsilon` .* \[0, 1\].* Received: epsilon=nan$"),
        ("--epsilon=abc", "epsilon.* such as 8/255.* Received: 'abc'$"),
        ("--epsilon=8/0", "epsilon.* such as 8/255.* Received: '8/0'$"),
        ("--epsilon=", "epsilon.* such as 8/255.* Received: ''$"),
        ("--epsilons=8/255,2", r"\[0, 1\].* Received: epsilon=2\.0$"),
        ("--epsilons=8/255,x", "epsilons.* such as 8/255.* Received: 'x'$"),
        ("--batch_size=0", "`batch_size` .* 1.* Received: batch_size=0$"),
        ("--batch_size=-1", "`batch_size` .* 1.* Received: batch_size=-1$"),
        ("--batch_size=many", "batch_size=many"),
        ("--epochs=0", "`epochs` .* 1.* Received: epochs=0$"),
        ("--epochs=1.5", "epochs=1.5"),
        ("--width=0", "`width` .* 1.* Received: width=0$"),
        ("--seed=-1", r"`seed` is expected in \[0.* Received: seed=-1$"),
        # More than what the generators of NumPy and TensorFlow take.
        ("--seed=4294967296", "`seed`"),
        ("--learning_rate=-1", "Received: learning_rate=-1.0$"),
        ("--momentum=1", r"`momentum` .*\[0, 1\).* Received: momentum=1.0$"),
        ("--weight_decay=-1", "Received: weight_decay=-1.0$"),
        ("--validation_share=0", r"\(0, 1\).* validation_share=0\.0$"),
        ("--validation_share=1", r"\(0, 1\).* validation_share=1\.0$"),
        ("--validation_share=1.5", r"\(0, 1\).* validation_share=1\.5$"),
        ("--steps=3", "`steps` does not apply .* fastbat.* steps=3$"),
        ("--coefficient=1", "does not apply .* fastbat.* coefficient=1.0$"),
        ("--step_size=-1", "`step_size` .* zero or above.* step_size=-1.0$"),
        ("--implicit_lambda=0", "`implicit_lambda` .* positive"),
        (
            "--linearization=nspgd",
            "one of ns-pgd, random, fgsm, pgd, ns-gd, ns-pgd-zero.* Received: "
            "linearization=nspgd$",
        ),
        ("--attack=pgd", "pgd-STEPS-RESTARTS.* Received: attack=pgd$"),
        ("--attack=pgd-0-1", "pgd-STEPS-RESTARTS.* attack=pgd-0-1$"),
        ("--validation_attack=fgsm", "pgd-STEPS-RESTARTS.* attack=fgsm$"),
        ("--test_examples=-1", "`test_examples` .* test_examples=-1$"),
        ("--evaluation_batch_size=0", "`batch_size` .* 1"),
        ("--schedule=linear", "cyclic, multistep, constant.*schedule=linear$"),
        ("--strategy=tpu", "auto, none, mirrored.* strategy=tpu$"),
        ("--jit_compile=yes", "auto, true, false.* jit_compile=yes$"),
        ("--mode=serve", "mode=serve.*train.*export"),
        ("--run_dir=/proc/x", "can be written.* Received: run_dir=/proc/x$"),
        ("--flagfile=no/such.cfg", "no/such.cfg"),
        ("--method=standard --epsilon=8/255", "`epsilon` does not apply"),
        ("--method=fastat --linearization=pgd", "does not apply .* fastat"),
        ("--method=pgd --implicit_lambda=10", "does not apply .* pgd"),
        ("--method=gradalign --steps=2", "does not apply .* gradalign"),
    )
    def test_refused(self, flags, message):
        process = main(*TINY, f"--run_dir={self.run_dir}", *flags.split())
        self.assert_refused(process, message)
        self.assert_nothing_written()

    @parameterized.parameters(
        "method", "epochs", "epsilon", "step_size", "steps", "epsilons"
    )
    def test_export_takes_the_settings_of_the_run(self, flag):
        value = "pgd" if flag == "method" else "1"
        process = main(
            "--mode=export", f"--run_dir={self.run_dir}", f"--{flag}={value}"
        )
        self.assert_refused(
            process,
            rf"`--mode=export` expects `--run_dir`, and nothing else.* "
            rf"Received: flags=\['{flag}'\]$",
        )

    def test_export_of_nothing(self):
        self.assert_refused(main("--mode=export"), "expects `--run_dir`")


class HelpTest(parameterized.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.text = main("--helpshort").stdout

    @parameterized.parameters(
        "mode",
        "run_dir",
        "method",
        "dataset",
        "model",
        "epsilon",
        "step_size",
        "steps",
        "epsilons",
        "attack",
        "[no]augment",
    )
    def test_flag(self, name):
        self.assertIn(f"\n  --{name}: ", self.text)

    def test_known_names(self):
        self.assertIn("standard, fastat, pgd, gradalign, fastbat", self.text)


class GoodFlagsTest(parameterized.TestCase):
    """What the flags come to, without training."""

    def command(self, *flags):
        """Mode, run directory and `Config` of a command line."""
        program = (
            "import json, sys, flags\n"
            "flags.parse(['main.py', *sys.argv[1:]])\n"
            "mode, run_dir, config = flags.get_command()\n"
            "assert 'tensorflow' not in sys.modules\n"
            "config = config and config.to_dict()\n"
            "print(json.dumps([mode, run_dir, config]))\n"
        )
        process = python("-c", program, *flags)
        self.assertEqual(process.stderr, "")
        mode, run_dir, groups = json.loads(process.stdout)
        return mode, run_dir, groups and Config.from_dict(groups)

    def test_defaults(self):
        mode, run_dir, config = self.command()
        self.assertEqual(config, Config())
        self.assertEqual(mode, "train")
        self.assertRegex(
            run_dir, r"^runs/fastbat-cifar10-preact_resnet18-\d{8}-\d{6}$"
        )

    @parameterized.parameters(("8/255", 8 / 255), ("0.0314", 0.0314))
    def test_epsilon(self, text, epsilon):
        _, _, config = self.command(f"--epsilon={text}")
        self.assertEqual(
            config, Config(method=MethodConfig("fastbat", {"epsilon": epsilon}))
        )
        self.assertEqual(config.method.options["step_size"], 5000 / 255)
        self.assertEqual(config.evaluation.epsilons, (epsilon,))

    def test_epsilons(self):
        _, _, config = self.command("--epsilons=8/255,0.05")
        self.assertEqual(config.evaluation.epsilons, (8 / 255, 0.05))

    def test_infinite_lambda(self):
        _, _, config = self.command("--implicit_lambda=inf")
        self.assertEqual(config.method.options["implicit_lambda"], float("inf"))

    def test_every_flag(self):
        _, run_dir, config = self.command(
            "--run_dir=here",
            "--dataset=cifar10",
            "--data_dir=there",
            "--validation_share=0.25",
            "--noaugment",
            "--model=preact_resnet34",
            "--width=4",
            "--activation=swish",
            "--nonormalize",
            "--method=pgd",
            "--epsilon=4/255",
            "--steps=7",
            "--step_size=1/255",
            "--epochs=3",
            "--batch_size=5",
            "--learning_rate=0.3",
            "--schedule=multistep",
            "--momentum=0.8",
            "--weight_decay=0",
            "--seed=1",
            "--attack=pgd-3-2",
            "--epsilons=1/255",
            "--test_examples=11",
            "--validation_attack=pgd-4-5",
            "--validation_examples=12",
            "--evaluation_batch_size=13",
            "--strategy=none",
            "--jit_compile=true",
        )
        self.assertEqual(run_dir, "here")
        groups = config.to_dict()
        del groups["evaluation"]["validation_epsilon"]
        self.assertEqual(
            groups,
            {
                "data": {
                    "dataset": "cifar10",
                    "data_dir": "there",
                    "validation_share": 0.25,
                    "augment": False,
                },
                "model": {
                    "model": "preact_resnet34",
                    "width": 4,
                    "activation": "swish",
                    "normalize": False,
                },
                "method": {
                    "method": "pgd",
                    "options": {
                        "epsilon": 4 / 255,
                        "steps": 7,
                        "step_size": 1 / 255,
                    },
                },
                "training": {
                    "epochs": 3,
                    "batch_size": 5,
                    "learning_rate": 0.3,
                    "schedule": "multistep",
                    "momentum": 0.8,
                    "weight_decay": 0.0,
                    "seed": 1,
                },
                "evaluation": {
                    "attack": "pgd-3-2",
                    "epsilons": (1 / 255,),
                    "test_examples": 11,
                    "validation_attack": "pgd-4-5",
                    "validation_examples": 12,
                    "batch_size": 13,
                },
                "runtime": {"strategy": "none", "jit_compile": "true"},
            },
        )

    def test_export(self):
        self.assertEqual(
            self.command("--mode=export", "--run_dir=here"),
            ("export", "here", None),
        )

    def test_recipes(self):
        recipes = sorted((TOP / "recipes").glob("*.cfg"))
        self.assertNotEmpty(recipes)
        for recipe in recipes:
            with self.subTest(recipe.name):
                _, _, config = self.command(f"--flagfile={recipe}")
                self.assertNotEqual(config, Config())


class BadPlaceTest(CommandLineTest):
    """What is found out once TensorFlow is there, but before any work."""

    def test_run_dir_below_a_file(self):
        file = self.directory / "file"
        file.write_text("")
        process = main(*TINY, f"--run_dir={file}/run")
        self.assert_refused(
            process, f"directory that can be written.*run_dir={file}/run$"
        )
        self.assertEqual(list(self.directory.iterdir()), [file])

    def test_export_of_no_run(self):
        process = main("--mode=export", f"--run_dir={self.run_dir}")
        self.assert_refused(
            process, f"expected to hold a run.* run_dir={self.run_dir}$"
        )
        self.assert_nothing_written()

    def test_batch_larger_than_the_training_split(self):
        process = main(*TINY, "--batch_size=500", f"--run_dir={self.run_dir}")
        self.assert_refused(process, "400 images.* batch_size=500$")
        self.assert_nothing_written()

    def test_no_data_and_no_network(self):
        data_dir = self.directory / "data"
        data_dir.mkdir()
        process = main(
            "--dataset=cifar10",
            f"--data_dir={data_dir}",
            f"--run_dir={self.run_dir}",
            # A proxy that answers nothing: as without a network.
            https_proxy="http://127.0.0.1:9",
            no_proxy="",
        )
        self.assert_refused(
            process,
            "cifar10 is neither prepared nor can it be downloaded.* "
            "--data_dir=DIR .*https://www.cs.toronto.edu/.* "
            f"--dataset=cifar10_mini.* data_dir={data_dir}$",
        )
        self.assertEqual(list(self.directory.rglob("*")), [data_dir])

    def test_a_training_that_diverges(self):
        process = main(
            *TINY,
            "--method=standard",
            "--width=1",
            "--learning_rate=1e30",
            "--schedule=constant",
            f"--run_dir={self.run_dir}",
        )
        self.assertEqual(process.returncode, 2, process.stderr)
        self.assertNotIn("Traceback", process.stderr)
        self.assertRegex(
            process.stderr.splitlines()[-1],
            r"^error: The (loss|gradient norm) is not finite in epoch 1, "
            r"step [23]; .* Received: \w+=(nan|-?inf)$",
        )
        self.assertFalse((self.run_dir / "results.json").exists())


class TrainingTest(absltest.TestCase):
    """One training from the command line to the files of its run."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        directory = tempfile.TemporaryDirectory()
        cls.addClassCleanup(directory.cleanup)
        cls.run_dir = pathlib.Path(directory.name, "runs", "tiny")
        cls.flags = (*TINY, f"--run_dir={cls.run_dir}", "--seed=3")
        cls.process = main(*cls.flags)
        if cls.process.returncode:
            raise AssertionError(cls.process.stderr)

    def read(self, name):
        return json.loads((self.run_dir / name).read_text())

    def history(self):
        with (self.run_dir / "history.csv").open() as file:
            return [
                {name: float(value) for name, value in row.items()}
                for row in csv.DictReader(file)
            ]

    def ask(self, images):
        """The answer of the exported model, loaded without our code."""
        model = tf.saved_model.load(self.run_dir / "saved_model")
        pixels = tf.constant(images.astype(np.float32) / 255)
        return model.signatures["serving_default"](images=pixels)

    def accuracy(self, split):
        """Of the exported model, on the first 40 images of a split."""
        splits = loading.load("cifar10_mini", validation_share=0.9)
        images, labels = getattr(splits, split)
        classes = self.ask(images[:40])["classes"].numpy()
        return (classes == labels[:40]).mean()

    def test_config(self):
        groups = self.read("config.json")
        for name in ("python", "tensorflow", "keras", "numpy"):
            self.assertRegex(groups["versions"][name], r"^\d+\.\d+")
        self.assertEqual(groups["training"]["seed"], 3)
        self.assertEqual(groups["training"]["learning_rate"], 0.2)
        self.assertEqual(
            groups["method"],
            {
                "method": "fastbat",
                "options": {
                    "epsilon": 8 / 255,
                    "step_size": 5000 / 255,
                    "implicit_lambda": 10.0,
                    "linearization": "ns-pgd",
                },
            },
        )
        self.assertEqual(groups["evaluation"]["epsilons"], [8 / 255])
        self.assertEqual(groups["evaluation"]["validation_epsilon"], 8 / 255)

    def test_history(self):
        rows = self.history()
        self.assertEqual([row["epoch"] for row in rows], [0, 1])
        for row in rows:
            self.assertTrue(np.isfinite(list(row.values())).all(), row)
            self.assertBetween(row["loss"], 0.5, 10)
            self.assertBetween(row["perturbed_accuracy"], 0, 1)
            self.assertBetween(row["val_accuracy"], 0, 1)
            self.assertBetween(row["val_robust_accuracy"], 0, 1)
            self.assertLessEqual(
                row["val_robust_accuracy"], row["val_accuracy"]
            )
            self.assertBetween(row["interior_fraction"], 0.001, 0.999)
            self.assertGreater(row["implicit_ratio"], 0)
            self.assertBetween(row["implicit_cosine"], -1, 1)
            self.assertGreater(row["gradient_norm"], 0)

    def test_checkpoints(self):
        for name in ("best", "last"):
            file = self.run_dir / "checkpoints" / f"{name}.weights.h5"
            self.assertGreater(file.stat().st_size, 10_000)

    def test_tensorboard(self):
        found = {}
        for directory in ("train", "validation", "images"):
            events = event_accumulator.EventAccumulator(
                str(self.run_dir / "tensorboard" / directory),
                {event_accumulator.TENSORS: 0},
            ).Reload()
            for tag in events.Tags()["tensors"]:
                found[directory, tag] = events.Tensors(tag)
        for name in self.history()[0]:
            if name == "epoch":
                continue
            directory, _, metric = name.rpartition("val_")
            directory = "validation" if directory or "val_" in name else "train"
            events = found[directory, f"epoch_{metric}"]
            self.assertEqual([event.step for event in events], [0, 1])
            for event, row in zip(events, self.history(), strict=True):
                value = float(tf.make_ndarray(event.tensor_proto))
                self.assertAlmostEqual(value, row[name], 5)
        panels = found["images", "clean, perturbed, difference"]
        self.assertEqual([panel.step for panel in panels], [0, 1])
        for panel in panels:
            image = tf.io.decode_png(panel.tensor_proto.string_val[2])
            # Three rows of images, every pixel a square of 3 x 3.
            self.assertEqual(image.shape[0], 3 * 32 * 3)
            self.assertEqual(image.shape[1] % (32 * 3), 0)

    def test_results(self):
        results = self.read("results.json")
        self.assertEqual(results["examples"], 40)
        self.assertEqual(results["weights"], "best val_robust_accuracy")
        self.assertGreater(results["training_seconds"], 0)
        (row,) = results["attacks"]
        self.assertEqual(row["attack"], "pgd-2-1")
        self.assertEqual(row["epsilon"], 8 / 255)
        self.assertEqual(row["examples"], 40)
        self.assertEqual(row["seed"], 3)
        self.assertGreater(row["seconds"], 0)
        self.assertBetween(row["robust_accuracy"], 0, results["clean_accuracy"])

    def test_saved_model_is_what_was_measured(self):
        self.assertAlmostEqual(
            self.accuracy("test"), self.read("results.json")["clean_accuracy"]
        )

    def test_saved_model_has_the_best_weights(self):
        best = max(self.history(), key=lambda row: row["val_robust_accuracy"])
        self.assertAlmostEqual(
            self.accuracy("validation"), best["val_accuracy"]
        )

    def test_output(self):
        output = self.process.stdout
        # The settings, with all defaults.
        self.assertIn('"epochs": 2', output)
        self.assertIn(f'"step_size": {5000 / 255}', output)
        self.assertIn('"linearization": "ns-pgd"', output)
        self.assertRegex(
            output, r"Running on [CG]PU, replicas: \d, XLA: (on|off)"
        )
        if "Running on CPU" in output:
            forecast = r"a step: about \d+ s for all 2 epochs"
            self.assertLen(re.findall(forecast, output), 1)
        results = self.read("results.json")
        table = output.splitlines()[-6:]
        rows = [re.split(r"\s{2,}", line) for line in table[:-1]]
        self.assertEqual(rows[0], ["method", "fastbat"])
        self.assertEqual(
            rows[1], ["clean accuracy", f"{results['clean_accuracy']:.2%}"]
        )
        robust = results["attacks"][0]["robust_accuracy"]
        self.assertEqual(rows[2], ["pgd-2-1, epsilon 8/255", f"{robust:.2%}"])
        self.assertEqual(rows[3], ["test images", "40"])
        self.assertRegex(table[4], r"^time +\d+ (s|min)$")
        self.assertEqual(table[5], f"Run directory: {self.run_dir}")
        self.assertNotIn("Traceback", self.process.stderr)

    def test_export_again(self):
        images = loading.load("cifar10_mini").test.images[:5]
        before = self.ask(images)
        directory = self.run_dir / "saved_model"
        kept = self.run_dir / "kept"
        directory.rename(kept)

        def restore():
            shutil.rmtree(directory, ignore_errors=True)
            kept.rename(directory)

        self.addCleanup(restore)
        process = main("--mode=export", f"--run_dir={self.run_dir}")
        self.assertEqual(process.returncode, 0, process.stderr)
        self.assertEqual(process.stdout, f"SavedModel: {directory}\n")
        self.assertNotIn("UserWarning", process.stderr)
        after = self.ask(images)
        self.assertEqual(set(after), {"logits", "probabilities", "classes"})
        for name in after:
            np.testing.assert_allclose(after[name], before[name], rtol=1e-4)

    def test_the_same_command_again(self):
        self.check_refused_again("this", *self.flags)

    def test_another_run_in_the_same_directory(self):
        self.check_refused_again("a different", *self.flags, "--seed=4")

    def check_refused_again(self, which, *flags):
        before = {
            path: path.read_bytes()
            for path in self.run_dir.rglob("*")
            if path.is_file()
        }
        process = main(*flags)
        self.assertEqual(process.returncode, 2, process.stderr)
        self.assertEqual(process.stdout, "")
        self.assertEqual(
            process.stderr.splitlines(),
            [
                f"error: `run_dir` holds {which} run already; expected a new "
                f"directory. Received: run_dir={self.run_dir}"
            ],
        )
        after = {
            path: path.read_bytes()
            for path in self.run_dir.rglob("*")
            if path.is_file()
        }
        self.assertEqual(after, before)


if __name__ == "__main__":
    absltest.main()
