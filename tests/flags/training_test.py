"""The flags of the training: what is refused, and what is not."""

from absl.testing import absltest, parameterized

from tests.support.command_line import NARROW, CommandLineTest, main


class RefusedTest(CommandLineTest):
    """All of these are refused before TensorFlow is imported."""

    @parameterized.parameters(
        ("--weight_decay=-1", "Received: weight_decay=-1.0$"),
        ("--momentum=1", r"`momentum` .*\[0, 1\).* Received: momentum=1.0$"),
        ("--learning_rate=-1", "Received: learning_rate=-1.0$"),
        ("--schedule=linear", "cyclic, piecewise, .*schedule=linear$"),
        ("--optimizer=rmsprop", "sgd, adam, .*optimizer=rmsprop$"),
        ("--loss=mse", "crossentropy, dlr.*loss=mse$"),
        ("--optimizer=adam --momentum=0.9", "not apply .* adam.*momentum=0.9$"),
        ("--optimizer=lamb --nonesterov", "not apply .*lamb.*nesterov=False$"),
        ("--beta_1=0.9", "`beta_1` does not apply to the optimizer sgd.*=0.9$"),
        ("--weight_decay_mode=l1", "l2, decoupled.*weight_decay_mode=l1$"),
        ("--weight_decay_on=biases", "all, kernels.*=biases$"),
        ("--clip_norm=-1", "`clip_norm` .* at least 0.* clip_norm=-1.0$"),
        ("--label_smoothing=1", r"\[0, 1\).* label_smoothing=1.0$"),
        ("--loss=dlr --label_smoothing=0", "not apply to the loss dlr.*=0.0$"),
        ("--method=standard --attack_loss=crossentropy", "not apply.*standard"),
        ("--warmup_epochs=1", "not apply .* cyclic.* warmup_epochs=1$"),
        ("--schedule_unit=epoch", "not apply .* cyclic.*unit=epoch$"),
        ("--milestones=0.5", r"not apply .* cyclic.* milestones=\(0.5,\)$"),
        ("--schedule=multistep --milestones=2", r"increasing.*=\(2.0,\)$"),
        ("--schedule=multistep --milestones=a", "milestones.*Received: 'a'$"),
        ("--schedule=multistep --decay=0", r"`decay` .*\(0, 1\].*=0.0$"),
        ("--schedule=cosine --warmup_epochs=2", r"\[0, 2\).*epochs=2$"),
        ("--weight_averaging=1", r"\[0, 1\).* weight_averaging=1.0$"),
        ("--clean_epochs=-1", "`clean_epochs` .* clean_epochs=-1$"),
        ("--clean_epochs=2", r"\[0, 2\).* clean_epochs=2$"),
        ("--awp_gamma=1", r"\[0, 1\).* awp_gamma=1.0$"),
        (
            "--awp_warmup_epochs=1",
            "above 0.* awp_warmup_epochs=1, awp_gamma=0$",
        ),
        (
            "--awp_gamma=0.1 --awp_warmup_epochs=2",
            r"\[0, 2\).* awp_warmup_epochs=2$",
        ),
        ("--epsilon_ramp_epochs=-1", "at least 0.* epsilon_ramp_epochs=-1$"),
        (
            "--clean_epochs=1 --epsilon_ramp_epochs=2",
            "together .* at most the 2 epochs.* clean_epochs=1, "
            "epsilon_ramp_epochs=2$",
        ),
        ("--epsilon_jitter=-0.1", r"\[0, 1\).* epsilon_jitter=-0.1$"),
        ("--epsilon_jitter=1", r"\[0, 1\).* epsilon_jitter=1.0$"),
        (
            "--method=standard --epsilon_jitter=0.1",
            "`epsilon_jitter` does not apply.*standard, which has no attack",
        ),
        (
            "--epsilon=0.9 --epsilon_jitter=0.2",
            "at most 1, .* epsilon_jitter=0.2, epsilon=0.9$",
        ),
        (
            "--method=standard --clean_epochs=1",
            "`clean_epochs` does not apply.*standard, which has no attack",
        ),
        (
            "--method=standard --epsilon_ramp_epochs=1",
            "`epsilon_ramp_epochs` does not apply.*standard",
        ),
        (
            "--method=standard --on_overfitting=warn",
            "`on_overfitting` does not apply.*standard.*=warn$",
        ),
        ("--on_overfitting=panic", "off, warn, stop, rollback.*=panic$"),
        (
            "--method=standard --overfitting_threshold=0.3",
            "`overfitting_threshold` does not apply.*standard.*=0.3$",
        ),
        (
            "--on_overfitting=off --overfitting_threshold=0.3",
            "not apply to this .*threshold=0.3, on_overfitting=off$",
        ),
        (
            "--validation_attack=fgsm --on_overfitting=rollback",
            "stronger one.* on_overfitting=rollback, validation_attack=fgsm$",
        ),
        ("--overfitting_threshold=0", r"\(0, 1\).*overfitting_threshold=0.0$"),
        (
            "--rollback_factor=0.5",
            "not apply to this.* rollback_factor=0.5, on_overfitting=None$",
        ),
        (
            "--on_overfitting=rollback --rollback_factor=1",
            r"\(0, 1\).* rollback_factor=1.0$",
        ),
        ("--seeds=0", "two or more different integers.* seeds=0$"),
        ("--seeds=0,0", "two or more different integers.* seeds=0,0$"),
        ("--seeds=0,1,0", "two or more different integers.* seeds=0,1,0$"),
        ("--seeds=0,one", "two or more different integers.* seeds=0,one$"),
        ("--seeds=0,-1", r"`seed` is expected in \[0, .* seed=-1$"),
        ("--seeds=0,1 --seed=3", "expected one of them.* seeds=0,1$"),
        ("--training_examples=-1", "at least 0.* training_examples=-1$"),
    )
    def test_refused(self, flags, message):
        process = main(*NARROW, f"--run_dir={self.run_dir}", *flags.split())
        self.assert_refused(process, message)
        self.assert_nothing_written()


class AcceptedTest(CommandLineTest):
    def test_adam(self):
        _, _, config = self.command("--optimizer=adamw", "--beta_2=0.99")
        training = config.training
        self.assertEqual(training.options("optimizer")["beta_2"], 0.99)
        self.assertEqual(training.learning_rate, 1e-3)
        self.assertEqual(training.weight_decay_mode, "decoupled")

    def test_guard(self):
        for flags, expected in (
            ((), ("warn", 0.15, None)),
            (("--method=standard",), ("off", None, None)),
            (("--validation_attack=fgsm",), ("off", None, None)),
            (("--on_overfitting=rollback",), ("rollback", 0.15, 0.5)),
            (
                ("--on_overfitting=stop", "--overfitting_threshold=0.2"),
                ("stop", 0.2, None),
            ),
        ):
            _, _, config = self.command(*flags)
            guard = config.overfitting
            self.assertEqual(
                (
                    guard.on_overfitting,
                    guard.overfitting_threshold,
                    guard.rollback_factor,
                ),
                expected,
            )

    def test_seeds(self):
        _, run_dir, config = self.command("--seeds=2,0", "--method=fgsm")
        self.assertEqual(self.seeds, [2, 0])
        self.assertIn("runs/fgsm-cifar10-preact_resnet18-seeds-2", run_dir)


if __name__ == "__main__":
    absltest.main()
