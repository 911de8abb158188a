"""The flags: what is refused, and the help."""

from absl.testing import absltest, parameterized

from tests.support.command_line import NARROW, CommandLineTest, main, python

# The command line, in a process that cannot import TensorFlow.
WITHOUT_TENSORFLOW = """
import runpy
import sys

sys.modules["tensorflow"] = sys.modules["keras"] = None
sys.argv[0] = "main.py"
runpy.run_path("main.py", run_name="__main__")
"""


class BadFlagsTest(CommandLineTest):
    """All of these are refused before TensorFlow is imported."""

    @parameterized.parameters(
        (
            "--method=fgsm2",
            r"Unknown method\. Expected one of aaer, elle, fastat, fastbat, "
            r"fgsm, .* Received: method=fgsm2$",
        ),
        (
            "--dataset=imagenet",
            r"Unknown data set\. Expected one of cifar10, cifar100\b.* "
            r"Received: dataset=imagenet$",
        ),
        (
            "--model=vgg16",
            r"Unknown model\. Expected one of resnet18, resnet34, .*"
            r"preact_resnet152, wrnDEPTH_WIDTH, keras:NAME\. "
            r"Received: model=vgg16$",
        ),
        ("--model=resnet20", "one of resnet18, .* model=resnet20$"),
        ("--model=preact_resnet19", "resnet18, .* model=preact_resnet19$"),
        ("--model=wrn17_4", r"6n \+ 4, such as 10, 16.* model=wrn17_4$"),
        ("--model=keras:VGG", "NAME with one of .*VGG16.* model=keras:VGG$"),
        ("--model=keras:Xception", r"least 71 x 71 .*shape=\(32, 32, 3\)$"),
        ("--model=wrn16_8", "which has activation, stem, dropout.* width=2$"),
        ("--model=keras:VGG16", "which has no options.* width=2$"),
        ("--dropout=0.1", "not apply to the model preact_resnet18.*t=0.1$"),
        ("--stem=mnist", "`stem` .* cifar, imagenet.* stem=mnist$"),
        ("--init_weights=no/such.keras", ".weights.h5 .*=no/such.keras$"),
        ("--init_weights=tests", "a run directory .* init_weights=tests$"),
        (
            "--activation=tanh",
            "one of relu, softplus, swish.* Received: activation=tanh$",
        ),
        ("--data_dir=d", "`data_dir` does not apply.* data_dir=d$"),
        ("--image_size=8", "`image_size` applies only to .* folder"),
        ("--skip_unreadable", "`skip_unreadable` applies only to .* folder"),
        ("--dataset=folder", "folder expects `data_dir`.* data_dir=None$"),
        ("--dataset=folder --data_dir=d", "expects `image_size`.*=None$"),
        (
            "--dataset=folder --data_dir=no/such --image_size=8",
            "there is no DIR/train. Received: data_dir=no/such$",
        ),
        ("--dataset=gtsrb", "gtsrb expects `data_dir`.* data_dir=None$"),
        ("--dataset=mnist --augment", "`augment` does not apply .* mnist"),
        ("--metod=fastbat", "'metod'"),
        ("fastbat", "Received: fastbat$"),
        ("--epsilon=2", r"`epsilon` .* \[0, 1\].* Received: epsilon=2\.0$"),
        ("--epsilon=-1", r"`epsilon` .* \[0, 1\].* Received: epsilon=-1\.0$"),
        ("--epsilon=8", r"such as 8/255\. Received: epsilon=8\.0$"),
        ("--epsilon=nan", r"`epsilon` .* \[0, 1\].* Received: epsilon=nan$"),
        ("--epsilon=abc", "epsilon.* such as 8/255.* Received: 'abc'$"),
        ("--epsilon=8/0", "epsilon.* such as 8/255.* Received: '8/0'$"),
        ("--epsilon=", "epsilon.* such as 8/255.* Received: ''$"),
        ("--epsilons=8/255,2", r"at most 1.* Received: epsilon=2\.0$"),
        ("--epsilons=0", r"above 0.* Received: epsilon=0\.0$"),
        ("--epsilons=0.1,0.1", r"none twice.* epsilons=\(0\.1, 0\.1\)$"),
        ("--epsilons=8/255,x", "epsilons.* such as 8/255.* Received: 'x'$"),
        ("--batch_size=0", "`batch_size` .* 1.* Received: batch_size=0$"),
        ("--batch_size=-1", "`batch_size` .* 1.* Received: batch_size=-1$"),
        ("--batch_size=many", "batch_size=many"),
        ("--epochs=0", "`epochs` .* 1.* Received: epochs=0$"),
        ("--epochs=1.5", "epochs=1.5"),
        ("--width=0", "`width` .* 1.* Received: width=0$"),
        ("--seed=-1", r"`seed` is expected in \[0.* Received: seed=-1$"),
        # More than the generators of NumPy and TensorFlow accept.
        ("--seed=4294967296", "`seed`"),
        ("--validation_share=0", r"\(0, 1\).* validation_share=0\.0$"),
        ("--validation_share=1", r"\(0, 1\).* validation_share=1\.0$"),
        ("--validation_share=1.5", r"\(0, 1\).* validation_share=1\.5$"),
        ("--steps=3", "`steps` does not apply .* fastbat.* steps=3$"),
        ("--coefficient=1", "does not apply .* fastbat.* coefficient=1.0$"),
        ("--step_size=-1", r"`step_size` .* in \[0, inf\).* step_size=-1.0$"),
        ("--implicit_lambda=0", r"`implicit_lambda` .* in \(0, inf\]; inf "),
        (
            "--linearization=nspgd",
            "one of ns-pgd, random, fgsm, pgd, ns-gd, ns-pgd-zero.* Received: "
            "linearization=nspgd$",
        ),
        ("--attacks=pgd", "pgd-STEPS-RESTARTS.* Received: attack=pgd$"),
        ("--attacks=fgsm,pgd-0-1", "pgd-STEPS-RESTARTS.* attack=pgd-0-1$"),
        (
            "--epsilons=0/255:8/255:4/255",
            "START:STOP:STEP with 0 < START.* Received: '0/255:8/255:4/255'$",
        ),
        ("--epsilons=0.001:1:0.001", "At most 100 values.* with 1000$"),
        ("--epsilons=2/255:4/255:1/255,3/255", "`epsilons`.*none twice"),
        ("--attacks=", r"at least one, .* Received: attacks=\(\)$"),
        ("--attacks=fgsm,fgsm", "none twice"),
        ("--attacks=transfer", "together.* attacks=transfer, surrogate=None$"),
        ("--validation_attack=cw", "pgd-STEPS-RESTARTS.* attack=cw$"),
        ("--validation_attack=transfer", "an attack without a surrogate"),
        ("--max_examples=-1", "`max_examples` .* max_examples=-1$"),
        ("--evaluation_seed=-1", "`seed` .* seed=-1$"),
        ("--norm=l1", "`norm` .* linf, l2.* norm=l1$"),
        (
            "--method=gat --norm=l2",
            "`norm` .* gat.* it applies to fastat, fastbat, mart, pgd, "
            "trades.* norm=l2$",
        ),
        ("--attack=pgd-1-1", "'attack'"),
        ("--test_examples=5", "'test_examples'"),
        ("--evaluation_batch_size=0", "`batch_size` .* 1"),
        (
            "--strategy=horovod",
            "auto, none, mirrored, multiworker, tpu.* strategy=horovod$",
        ),
        ("--strategy=multiworker", "expects TF_CONFIG .*TF_CONFIG=.not set.$"),
        ("--collective_timeout=0", "seconds such as 300.*timeout=0$"),
        ("--jit_compile=yes", "auto, true, false.* jit_compile=yes$"),
        ("--deterministic=maybe", "deterministic=maybe"),
        ("--save_every=0", "steps such as 500, or of .*15min.*every=0$"),
        ("--save_every=1.5", "steps such as 500.* save_every=1.5$"),
        ("--save_every=-2min", "15min.* save_every=-2min$"),
        ("--save_every=nanmin", "15min.* save_every=nanmin$"),
        ("--save_every=5minutes", "15min.* save_every=5minutes$"),
        (
            "--steps_per_execution=0",
            "`steps_per_execution` .* at least 1.* steps_per_execution=0$",
        ),
        ("--profile=20,11", "START,END, .* profile=20,11$"),
        ("--profile=0,5", "START,END, .* profile=0,5$"),
        ("--profile=5", "START,END, .* profile=5$"),
        ("--profile=1,2,3", "START,END, .* profile=1,2,3$"),
        ("--resume=yes", "resume=yes.*auto.*never.*must"),
        ("--verbosity=loud", "verbosity=loud"),
        ("--mode=serve", "mode=serve.*train.*evaluate.*export"),
        ("--model_path=m", "not apply to --mode=train.* flags=model_path$"),
        ("--surrogate=m", "not apply to --mode=train.* flags=surrogate$"),
        ("--results_dir=m", "not apply to --mode=train.* flags=results_dir$"),
        ("--save_images", "not apply to --mode=train.* flags=save_images$"),
        ("--corruptions_dir=c", "not apply to --mode=train.*=corruptions_dir$"),
        (
            "--run_dir=/proc/x",
            "writable directory.* Received: run_dir=/proc/x$",
        ),
        ("--flagfile=no/such.cfg", "no/such.cfg"),
        ("--method=standard --epsilon=8/255", "`epsilon` does not apply"),
        ("--method=fastat --linearization=pgd", "does not apply .* fastat"),
        ("--method=pgd --implicit_lambda=10", "does not apply .* pgd"),
        ("--method=gradalign --steps=2", "does not apply .* gradalign"),
    )
    def test_refused(self, flags, message):
        process = main(*NARROW, f"--run_dir={self.run_dir}", *flags.split())
        self.assert_refused(process, message)
        self.assert_nothing_written()

    @parameterized.parameters(
        "method", "epochs", "epsilon", "steps", "epsilons", "model_path"
    )
    def test_export_takes_the_settings_of_the_run(self, flag):
        value = "pgd" if flag == "method" else "1"
        process = main(
            "--mode=export", f"--run_dir={self.run_dir}", f"--{flag}={value}"
        )
        self.assert_refused(
            process,
            "A flag does not apply to --mode=export with --run_dir. "
            f"Received: flags={flag}$",
        )

    @parameterized.parameters("saved_model", "tflite", "onnx")
    def test_export_that_reads_no_images(self, form):
        self.assert_refused(
            main(
                "--mode=export",
                f"--run_dir={self.run_dir}",
                f"--format={form}",
                "--data_dir=moved",
            ),
            f"--data_dir does not apply to --format={form}, .* data_dir=moved$",
        )

    def test_export_of_nothing(self):
        self.assert_refused(
            main("--mode=export"),
            "--mode=export expects --run_dir or --init_weights. "
            "Received: run_dir=None$",
        )

    def test_a_wrong_cluster(self):
        for text, message in (("{", "JSON"), ('{"cluster": [1]}', "jobs")):
            process = main(f"--run_dir={self.run_dir}", TF_CONFIG=text)
            self.assert_refused(process, f"TF_CONFIG is .*{message}")
        self.assert_nothing_written()

    def test_a_missing_flagfile(self):
        process = main("--flagfile=recipes/none.cfg")
        self.assert_refused(process, "'recipes/none.cfg'$")
        self.assertStartsWith(process.stderr, "error: Unable to open flagfile")

    def test_without_tensorflow(self):
        for flags, status in (
            ("--epochs=0", 2),
            ("--attacks=transfer", 2),
            ("--mode=evaluate", 2),
            ("--helpshort", 1),
        ):
            with self.subTest(flags):
                process = python("-c", WITHOUT_TENSORFLOW, flags)
                self.assertEqual(process.returncode, status, process.stderr)
                self.assertNotIn("Traceback", process.stderr)


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
        "width",
        "stem",
        "dropout",
        "init_weights",
        "epsilon",
        "step_size",
        "steps",
        "epsilons",
        "attacks",
        "norm",
        "max_examples",
        "model_path",
        "surrogate",
        "results_dir",
        "[no]save_images",
        "[no]loss_surface",
        "distances",
        "[no]augment",
        "optimizer",
        "[no]nesterov",
        "weight_averaging",
        "data_dir",
        "image_size",
        "[no]skip_unreadable",
        "validation_share",
        "resume",
        "save_every",
        "collective_timeout",
        "steps_per_execution",
        "profile",
        "compilation_cache",
        "[no]deterministic",
    )
    def test_flag(self, name):
        self.assertIn(f"\n  --{name}: ", self.text)

    def test_known_names(self):
        for known in (
            "aaer, elle, fastat, fastbat, fgsm, fgsm_cuap",
            "mi-fgsm[-STEPS][-target-CLASS], pgd-STEPS-RESTARTS",
            "autoattack, autoattack-rand",
        ):
            # The help breaks its lines, even at hyphens.
            self.assertIn("".join(known.split()), "".join(self.text.split()))


if __name__ == "__main__":
    absltest.main()
