# pyright: basic
# ruff: noqa: B018, E402, F401
"""Wrong uses of the public names, for pyright; not to be run.

Each line is wrong in one way, and ends with the rule that finds it. The options
of the methods are not here: tests/typing_test.py makes a wrong line for each.
"""

import keras
import numpy as np
import tensorflow as tf

import fastbat_tf as fb
from fastbat_tf import FastBAT, RobustClassifier

model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Flatten()])
images, labels = np.zeros((8, 8, 8, 3), np.float32), np.zeros(8, np.int32)
data = images, labels
dataset = tf.data.Dataset.from_tensor_slices(data)
robust = RobustClassifier(model, FastBAT())
score = fb.GradientAlignment(model)

# Names.
fb.Fastbat()  # reportAttributeAccessIssue
fb.attack.PGD()  # reportAttributeAccessIssue
from fastbat_tf import Fgsm  # reportAttributeAccessIssue
from fastbat_tf.atacks import PGD  # reportMissingImports

# Methods.
FastBAT(0.1, None, 10.0, "foo")  # reportArgumentType
FastBAT(0.1, None, 10.0, "pgd", "exact", 1, 2, 0.3, 4)  # reportCallIssue
FastBAT(0.1, "Auto")  # reportArgumentType
fb.PGD(step_size="auto")  # reportArgumentType
FastBAT(implicit_clip="tight")  # reportArgumentType
FastBAT(epsilon=[8 / 255])  # reportArgumentType
FastBAT(8 / 255).linearisation  # reportAttributeAccessIssue
fb.Method()  # reportAbstractUsage
fb.Solution(images, None, 3)  # reportCallIssue
fb.Solution(images, delta=3)  # reportCallIssue
fb.Solution(images).delta  # reportAttributeAccessIssue
fb.option(0.1, 3)  # reportArgumentType
fb.option(0.1, "Help.", "float")  # reportCallIssue
fb.option(0.1, kind="number")  # reportArgumentType
fb.option(0.1, interval=(0, 1))  # reportArgumentType
fb.option("a", choices=3)  # reportArgumentType
fb.option(0.1, intervall="[0, 1]")  # reportCallIssue
fb.Plan("a", 390, 128)  # reportArgumentType
fb.Plan(epochs=20)  # reportCallIssue
fb.Plan(20, 390, 128, example=8)  # reportCallIssue
fb.Plan(20, 390, 128).epoch  # reportAttributeAccessIssue
fb.StepContext(model, min, images, labels, draws=3)  # reportArgumentType
fb.StepContext(model)  # reportCallIssue


class Nothing(fb.Method):
    epsilon: float = fb.option(8 / 255)


class Mine(fb.Method):
    epsilon: float = fb.option(8 / 255, "Radius.", interval="[0, 1]")
    steps: int = fb.option(3)

    def solve(self, context: fb.StepContext):
        context.imagess  # reportAttributeAccessIssue
        context.logits()  # reportCallIssue
        context.logits(images, training="yes")  # reportArgumentType
        context.random_start(0.1, 3)  # reportArgumentType
        context.uniform(0.1)  # reportCallIssue
        context.uniform(3, 0.1)  # reportArgumentType
        context.input_gradient(images, 3)  # reportArgumentType
        context.report(3)  # reportCallIssue
        self.epsilonn  # reportAttributeAccessIssue
        return fb.Solution(context.images)

    def objective(self, context, solution):
        context.imagess  # reportAttributeAccessIssue
        solution.delta  # reportAttributeAccessIssue
        return super().objective(context)  # reportCallIssue

    def penalty(self, context, solution, logits):
        return context.reduce()  # reportCallIssue

    def update(self, context):
        return context.notess  # reportAttributeAccessIssue


Nothing()  # reportAbstractUsage
Mine(epsilon="oops")  # reportArgumentType
Mine(nonsense=3)  # reportCallIssue
Mine(0.1, 1.5)  # reportArgumentType
Mine().scaled()  # reportCallIssue

# Training.
RobustClassifier(model)  # reportCallIssue
RobustClassifier(model, FastBAT)  # reportArgumentType
RobustClassifier(model, "fastbat")  # reportArgumentType
RobustClassifier(model, FastBAT(), "0")  # reportArgumentType
RobustClassifier(model, FastBAT(), 0, (0, 1), True)  # reportCallIssue
RobustClassifier(model, FastBAT(), pixel_range=255)  # reportArgumentType
RobustClassifier(model, FastBAT(), pixels=(0, 1))  # reportCallIssue
RobustClassifier(model, FastBAT(), from_logits="no")  # reportArgumentType
RobustClassifier(model, FastBAT(), name=3)  # reportArgumentType
fb.RobustClassifier(model, fb.FastBAT(), nonsense=3)  # reportCallIssue
fb.RobustClassifier(model, method="fastbat")  # reportArgumentType
robust.compile(3)  # reportArgumentType
robust.compile("sgd", loss=3)  # reportArgumentType
robust.compile("sgd", metrics="accuracy")  # reportArgumentType
robust.compile(run_eagerly="no")  # reportArgumentType
robust.compile(steps_per_execution=1.5)  # reportArgumentType
robust.compile(jit_compile="yes")  # reportArgumentType
robust.compile(weight_decay="x")  # reportArgumentType
robust.compile(weight_decay_mode="l1")  # reportArgumentType
robust.compile(weight_decay_on="biases")  # reportArgumentType
robust.compile(clip_norm="x")  # reportArgumentType
robust.compile(weight_averaging=[0.9])  # reportArgumentType
robust.compile(attack_loss=3)  # reportArgumentType
robust.compile(plan=(20, 390, 128))  # reportArgumentType
robust.compile(epsilon_schedule=0.5)  # reportArgumentType
robust.compile(epsilon_schedule=fb.EpsilonSchedule)  # reportArgumentType
robust.compile(weight_perturbation=0.005)  # reportArgumentType
robust.compile(nonsense=3)  # reportCallIssue
robust.compile().compile(decay=3)  # reportCallIssue
robust.fit(images, labels, "128")  # reportArgumentType
robust.fit(images, labels, epochs="2")  # reportArgumentType
robust.fit(images, labels, epochs=2.5)  # reportArgumentType
robust.fit(images, labels, epoch=2)  # reportCallIssue
robust.fit(images, labels, verbose="no")  # reportArgumentType
robust.fit(images, labels, callbacks=3)  # reportArgumentType
robust.fit(images, labels, class_weight=[1, 2])  # reportArgumentType
robust.fit(images, labels).histori  # reportAttributeAccessIssue
robust.evaluate(images, labels, batch_size="8")  # reportArgumentType
robust.evaluate(images, labels, batchsize=8)  # reportCallIssue
robust.predict()  # reportCallIssue
robust.predict(images, batch_size="8")  # reportArgumentType
robust.train_on_batch(images, labels, epochs=3)  # reportCallIssue
robust.save(3)  # reportArgumentType
robust.export(3)  # reportArgumentType
robust.averaged_weights(3)  # reportCallIssue
fb.EpsilonSchedule("2")  # reportArgumentType
fb.AdversarialWeightPerturbation("0.1")  # reportArgumentType
fb.AdversarialWeightPerturbation(warmup_epochs=2)  # reportCallIssue
fb.EpsilonSchedule(clean_steps=2.5)  # reportArgumentType
fb.EpsilonSchedule(jitter="0.1")  # reportArgumentType
fb.EpsilonSchedule(ramp_step=2)  # reportCallIssue
fb.EpsilonSchedule(2, 4).lower("x")  # reportArgumentType

# Data.
fb.load_data(3)  # reportArgumentType
fb.load_data("cifar10_mini", image_size="32")  # reportArgumentType
fb.load_data("cifar10_mini", validation=0.1)  # reportCallIssue
fb.with_index(images)  # reportArgumentType
fb.with_index(dataset, 3)  # reportCallIssue

# Layers.
fb.FusedBatchNormalization(unbiased="yes")  # reportArgumentType
fb.FusedBatchNormalization(momentum="x")  # reportArgumentType
fb.FusedBatchNormalization(nonsense=3)  # reportCallIssue

# Evaluation.
fb.evaluate_robustness(model)  # reportCallIssue
fb.evaluate_corruptions(model)  # reportCallIssue
fb.evaluate_corruptions(model, 3)  # reportArgumentType
fb.evaluate_corruptions(model, "c", max_examples=1.5)  # reportArgumentType
fb.evaluate_corruptions(model, "c", norm="linf")  # reportCallIssue
fb.evaluate_robustness(model, data, 3)  # reportArgumentType
fb.evaluate_robustness(model, data, attacks=3)  # reportArgumentType
fb.evaluate_robustness(model, data, epsilons="8")  # reportArgumentType
fb.evaluate_robustness(model, data, epsilon=0.1)  # reportCallIssue
fb.evaluate_robustness(model, data, norm=[2])  # reportArgumentType
fb.evaluate_robustness(model, data, max_examples=1.5)  # reportArgumentType
fb.evaluate_robustness(model, data, batch_size="8")  # reportArgumentType
fb.evaluate_robustness(model, data, seed="0")  # reportArgumentType
fb.evaluate_robustness(model, data, directory=3)  # reportArgumentType
fb.evaluate_robustness(model, data, verbose="yes")  # reportArgumentType
fb.evaluate_robustness(model, data, pixel_range=255)  # reportArgumentType
fb.evaluate_robustness(model, data, distances="100")  # reportArgumentType
fb.plot_adversarial(images)  # reportCallIssue
fb.plot_adversarial(images, images, epsilon=0.1)  # reportCallIssue
fb.plot_adversarial(images, images, max_examples="8")  # reportArgumentType
fb.plot_adversarial(images, images, class_names=3)  # reportArgumentType
fb.GradientAlignment(3)  # reportArgumentType
fb.GradientAlignment(model, batch_size="8")  # reportArgumentType
fb.GradientAlignment(model, batch=8)  # reportCallIssue
fb.GradientAlignment(model)(images, labels)  # reportCallIssue
fb.GradientAlignment(model)(images, labels, "x")  # reportArgumentType

# Attacks.
fb.attacks.PGD(epsilon="oops")  # reportArgumentType
fb.attacks.PGD(steps="10")  # reportArgumentType
fb.attacks.PGD(nonsense=3)  # reportCallIssue
fb.attacks.FGSM(epsilon="oops")  # reportArgumentType
fb.attacks.FGSM(norm=[2])  # reportArgumentType
fb.attacks.FGSM(nonsense=3)  # reportCallIssue
fb.attacks.MIFGSM(epsilon="oops")  # reportArgumentType
fb.attacks.MIFGSM(momentum="1")  # reportArgumentType
fb.attacks.MIFGSM(nonsense=3)  # reportCallIssue
fb.attacks.PGD(target="3")  # reportArgumentType
fb.attacks.APGD(epsilon="oops")  # reportArgumentType
fb.attacks.APGD(restarts=1.5)  # reportArgumentType
fb.attacks.APGD(nonsense=3)  # reportCallIssue
fb.attacks.APGDTargeted(epsilon="oops")  # reportArgumentType
fb.attacks.APGDTargeted(target_classes="9")  # reportArgumentType
fb.attacks.APGDTargeted(nonsense=3)  # reportCallIssue
fb.attacks.FAB(epsilon="oops")  # reportArgumentType
fb.attacks.FAB(seed="0")  # reportArgumentType
fb.attacks.FAB(nonsense=3)  # reportCallIssue
fb.attacks.Square(epsilon="oops")  # reportArgumentType
fb.attacks.Square(queries="9")  # reportArgumentType
fb.attacks.Square(nonsense=3)  # reportCallIssue
fb.attacks.AutoAttack(epsilon="oops")  # reportArgumentType
fb.attacks.AutoAttack(version=3)  # reportArgumentType
fb.attacks.AutoAttack(nonsense=3)  # reportCallIssue
fb.nearest_adversarial(model, images)  # reportCallIssue
fb.nearest_adversarial(model, images, labels, steps="9")  # reportArgumentType
fb.nearest_adversarial(
    model, images, labels
).robust  # reportAttributeAccessIssue
fb.attacks.PGD(images)  # reportArgumentType
fb.attacks.PGD(0.1, 10, 1, "l2")  # reportCallIssue
fb.attacks.PGD(random_start="no")  # reportArgumentType
fb.attacks.PGD(jit_compile=3)  # reportArgumentType
fb.attacks.PGD(batch_size="8")  # reportArgumentType
fb.attacks.PGD()(model)  # reportCallIssue
fb.attacks.PGD()(model, images, labels, 0.1)  # reportCallIssue
fb.attacks.PGD()(model, images, labels).image  # reportAttributeAccessIssue
fb.attacks.Transfer()  # reportCallIssue
fb.attacks.Transfer(model, 3)  # reportArgumentType
fb.attacks.AdversarialExamples(images)  # reportCallIssue
fb.attacks.NearestExamples(images)  # reportCallIssue
fb.attacks.nearest_adversarial(model, images)  # reportCallIssue
fb.attacks.nearest_adversarial(model, images, 3, norm=[2])  # reportArgumentType
fb.attacks.parse(3)  # reportArgumentType
fb.attacks.parse()  # reportCallIssue
fb.attacks.parse_norm([2])  # reportArgumentType
fb.attacks.parse_norm()  # reportCallIssue
fb.attacks.build(3)  # reportArgumentType
fb.attacks.build("pgd-10", nonsense=3)  # reportCallIssue
fb.attacks.get("pgd-10", 3)  # reportArgumentType
fb.attacks.get("pgd-10")  # reportCallIssue
fb.attacks.check_attacks(3)  # reportArgumentType
fb.attacks.check_attacks()  # reportCallIssue
fb.attacks.check_epsilons(0.1, "linf")  # reportArgumentType
fb.attacks.check_epsilons([0.1])  # reportCallIssue
fb.attacks.check_surrogate(3, None)  # reportArgumentType
fb.attacks.check_surrogate([])  # reportCallIssue

# Models.
fb.models.preact_resnet18("10")  # reportArgumentType
fb.models.preact_resnet18(nonsense=3)  # reportCallIssue
fb.models.preact_resnet34("10")  # reportArgumentType
fb.models.preact_resnet34(nonsense=3)  # reportCallIssue
fb.models.preact_resnet50("10")  # reportArgumentType
fb.models.preact_resnet50(nonsense=3)  # reportCallIssue
fb.models.preact_resnet101("10")  # reportArgumentType
fb.models.preact_resnet101(nonsense=3)  # reportCallIssue
fb.models.preact_resnet152("10")  # reportArgumentType
fb.models.preact_resnet152(nonsense=3)  # reportCallIssue
fb.models.resnet18("10")  # reportArgumentType
fb.models.resnet18(nonsense=3)  # reportCallIssue
fb.models.resnet34("10")  # reportArgumentType
fb.models.resnet34(nonsense=3)  # reportCallIssue
fb.models.resnet50("10")  # reportArgumentType
fb.models.resnet50(nonsense=3)  # reportCallIssue
fb.models.resnet101("10")  # reportArgumentType
fb.models.resnet101(nonsense=3)  # reportCallIssue
fb.models.resnet152("10")  # reportArgumentType
fb.models.resnet152(nonsense=3)  # reportCallIssue
fb.models.wrn("28", 10)  # reportArgumentType
fb.models.wrn(28)  # reportCallIssue
fb.models.wrn(28, 10, 10, 64)  # reportCallIssue
fb.models.resnet18(width="x")  # reportArgumentType
fb.models.resnet18(input_shape=32)  # reportArgumentType
fb.models.get(3)  # reportArgumentType
fb.models.get()  # reportCallIssue
fb.models.parse(3)  # reportArgumentType
fb.models.parse()  # reportCallIssue
fb.models.resolve_options("resnet18", 3, (8, 8, 3))  # reportArgumentType
fb.models.resolve_options("resnet18")  # reportCallIssue

# Callbacks.
fb.RobustAccuracy()  # reportCallIssue
fb.RobustAccuracy(data, "pgd-10")  # reportArgumentType
fb.RobustAccuracy(data, fb.attacks.PGD)  # reportArgumentType
fb.RobustAccuracy(data, epsilon=0.1)  # reportCallIssue
fb.RobustAccuracy(data, averaged_weights=3)  # reportArgumentType
fb.OverfittingScores(data)  # reportCallIssue
fb.OverfittingScores(data, "fgsm", score)  # reportArgumentType
fb.OverfittingScores(data, fb.attacks.FGSM(), 3)  # reportArgumentType
fb.OverfittingGuard("stopp")  # reportArgumentType
fb.OverfittingGuard(threshold="x")  # reportArgumentType
fb.OverfittingGuard("stop", treshold=0.1)  # reportCallIssue

# Exports, and weights of PyTorch.
fb.export(model, 3)  # reportArgumentType
fb.export(model, "exported", format=3)  # reportArgumentType
fb.export(model, "exported", info="mine")  # reportArgumentType
fb.export(model)  # reportCallIssue
fb.export(model, "exported", formt="onnx")  # reportCallIssue
fb.ModelInfo("mine", epsilon="8/255")  # reportArgumentType
fb.ModelInfo("mine", license=3)  # reportArgumentType
fb.ModelInfo("mine", licence="mit")  # reportCallIssue
fb.load_torch_weights(model, 3)  # reportArgumentType
fb.load_torch_weights("model", "robust.safetensors")  # reportArgumentType
fb.load_torch_weights(model)  # reportCallIssue
fb.TorchWeights("ResNet", "1", None, ())  # reportArgumentType
fb.TorchWeights("ResNet")  # reportCallIssue
