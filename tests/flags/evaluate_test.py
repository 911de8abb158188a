"""The flags of `--mode=evaluate`."""

from absl.testing import absltest, parameterized

from fastbat_tf.experiment.config import (
    Config,
    DataConfig,
    EvaluationConfig,
    MethodConfig,
    RuntimeConfig,
)
from fastbat_tf.experiment.run_directory import RunDirectory
from tests.support.command_line import CommandLineTest, main

RUN = Config(
    data=DataConfig("cifar10", validation_share=0.2),
    method=MethodConfig("pgd", {"epsilon": 4 / 255}),
    evaluation=EvaluationConfig(("pgd-2-1",), (0.5,), max_examples=3, seed=4),
    runtime=RuntimeConfig("none", "false"),
)


class EvaluateFlagsTest(CommandLineTest):
    def evaluate(self, *flags):
        return self.command("--mode=evaluate", *flags)

    def test_a_run(self):
        """The model and the data of the run, but not its measurement."""
        RunDirectory(self.run_dir).create(RUN)
        mode, run_dir, config = self.evaluate(
            f"--run_dir={self.run_dir}", "--attacks=fgsm,apgd-ce"
        )
        self.assertEqual((mode, run_dir), ("evaluate", str(self.run_dir)))
        self.assertEqual(config.data, RUN.data)
        self.assertEqual(config.method, RUN.method)
        # The devices are those of this command.
        self.assertEqual(config.runtime, RuntimeConfig("auto", "auto"))
        self.assertEqual(
            config.evaluation,
            Config(
                method=RUN.method,
                evaluation=EvaluationConfig(("fgsm", "apgd-ce")),
            ).evaluation,
        )
        self.assertEqual(config.evaluation.epsilons, (4 / 255,))
        self.assertEqual(
            self.target,
            {
                "model_path": None,
                "surrogate": None,
                "results_dir": None,
                "save_images": False,
                "allow_code": False,
                "corruptions_dir": None,
            },
        )

    def test_data_that_moved(self):
        RunDirectory(self.run_dir).create(RUN)
        _, _, config = self.evaluate(
            f"--run_dir={self.run_dir}", "--data_dir=there"
        )
        self.assertEqual(config.data, DataConfig("cifar10", "there", 0.2))

    def test_norm_of_the_run(self):
        for method in ("pgd", "standard"):
            options = {"norm": "l2"} if method == "pgd" else {}
            run = Config(
                method=MethodConfig(method, options),
                evaluation=EvaluationConfig(norm="l2"),
            )
            directory = f"{self.run_dir}-{method}"
            RunDirectory(directory).create(run)
            _, _, config = self.evaluate(f"--run_dir={directory}")
            self.assertEqual(config.evaluation.norm, "l2")
            self.assertEqual(config.evaluation.epsilons, (128 / 255,))
            _, _, config = self.evaluate(
                f"--run_dir={directory}", "--norm=Linf", "--epsilons=4/255"
            )
            self.assertEqual(config.evaluation.norm, "linf")

    def test_norm_of_a_model(self):
        _, _, config = self.evaluate(
            "--model_path=a.keras", "--dataset=cifar10_mini", "--norm=l2"
        )
        self.assertEqual(config.evaluation.norm, "l2")
        self.assertEqual(config.evaluation.epsilons, (128 / 255,))

    def test_a_model(self):
        _, run_dir, config = self.evaluate(
            "--model_path=a.keras",
            "--dataset=cifar10_mini",
            "--attacks=transfer-pgd-2-1",
            "--surrogate=b.keras",
            "--results_dir=there",
            "--save_images",
            "--allow_code",
            "--corruptions_dir=CIFAR-10-C",
            "--jit_compile=true",
        )
        self.assertIsNone(run_dir)
        self.assertEqual(config.data, DataConfig("cifar10_mini"))
        self.assertEqual(config.evaluation.epsilons, (8 / 255,))
        self.assertEqual(config.runtime.jit_compile, "true")
        self.assertEqual(
            self.target,
            {
                "model_path": "a.keras",
                "surrogate": "b.keras",
                "results_dir": "there",
                "save_images": True,
                "allow_code": True,
                "corruptions_dir": "CIFAR-10-C",
            },
        )

    def test_several_surrogates(self):
        self.evaluate(
            "--model_path=a.keras",
            "--dataset=cifar10_mini",
            "--attacks=transfer-mi-fgsm-4",
            "--surrogate=b.keras,c",
        )
        self.assertEqual(self.target["surrogate"], ["b.keras", "c"])

    @parameterized.parameters(
        (
            "",
            r"--mode=evaluate expects --run_dir or --model_path\. "
            "Received: run_dir=None$",
        ),
        ("--run_dir=", r"--run_dir or --model_path\. Received: run_dir=$"),
        (
            "--run_dir=RUN --epochs=3 --width=2",
            "A flag does not apply to --mode=evaluate with --run_dir. "
            "Received: flags=epochs, width$",
        ),
        ("--run_dir=RUN --dataset=cifar10_mini", "flags=dataset$"),
        ("--run_dir=RUN --epsilon=8/255", "flags=epsilon$"),
        ("--run_dir=RUN --deterministic", "flags=deterministic$"),
        (
            "--run_dir=RUN --validation_attack=fgsm",
            "flags=validation_attack$",
        ),
        (
            "--run_dir=RUN --model_path=m",
            "A flag does not apply to --mode=evaluate with --model_path. "
            "Received: flags=run_dir$",
        ),
        ("--model_path=m --method=pgd", "flags=method$"),
        ("--model_path=m --seed=1", "flags=seed$"),
        ("--model_path=m --dataset=imagenet", "Unknown data set"),
        ("--run_dir=RUN/other", "expected to hold a run"),
        (
            "--run_dir=RUN --allow_code",
            "--allow_code is expected with --model_path or --surrogate, .*"
            "Received: allow_code=True$",
        ),
        ("--run_dir=RUN --attacks=cw", "Unknown attack.* attack=cw$"),
        ("--run_dir=RUN --epsilons=2", "epsilon=2.0$"),
        ("--run_dir=RUN --norm=l2", "`epsilons` is required .* norm=l2"),
        ("--run_dir=RUN --max_examples=-1", "max_examples=-1$"),
        (
            "--run_dir=RUN --attacks=fgsm,transfer",
            "A surrogate and the attack transfer are expected together. "
            "Received: attacks=fgsm,transfer, surrogate=None$",
        ),
        (
            "--run_dir=RUN --surrogate=m",
            "together. Received: attacks=pgd-50-10, surrogate=m$",
        ),
        (
            "--run_dir=RUN --surrogate=m,n",
            "together. Received: attacks=pgd-50-10, surrogate=m,n$",
        ),
        (
            "--run_dir=RUN --attacks=transfer --surrogate=m,./m",
            r"none of them twice. Received: surrogate=\[m, ./m\]$",
        ),
        (
            "--run_dir=RUN --attacks=transfer --surrogate=",
            "separated by commas. Received: surrogate=$",
        ),
    )
    def test_refused(self, flags, message):
        RunDirectory(self.run_dir).create(RUN)
        before = sorted(self.directory.rglob("*"))
        flags = flags.replace("RUN", str(self.run_dir)).split()
        self.assert_refused(main("--mode=evaluate", *flags), message)
        self.assertEqual(sorted(self.directory.rglob("*")), before)


if __name__ == "__main__":
    absltest.main()
