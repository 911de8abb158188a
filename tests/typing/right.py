# pyright: standard
"""Right uses of the public names, for pyright; not to be run.

It finds nothing here. tests/typing_test.py checks the documentation's examples
like this, too.
"""

import argparse
import pathlib
from typing import Literal, assert_type, get_args

import keras
import numpy as np
import tensorflow as tf

import fastbat_tf
import fastbat_tf as fb
from fastbat_tf import FastBAT, Method, RobustClassifier, Solution, StepContext

Mode = Literal["same", "opposite"]

inputs = keras.Input((8, 8, 3))
hidden = keras.layers.Flatten()(inputs)
model = keras.Model(inputs, keras.layers.Dense(10)(hidden))
sequential = keras.Sequential([inputs, keras.layers.Flatten()])
loaded = keras.saving.load_model("model.keras")
application = keras.applications.MobileNetV2(classes=10)

images, labels = np.zeros((8, 8, 8, 3), np.float32), np.zeros(8, np.int32)
tensors = tf.constant(images)
dataset = tf.data.Dataset.from_tensor_slices((images, labels))
batches = dataset.shuffle(8).batch(4).prefetch(tf.data.AUTOTUNE)


class Data(keras.utils.PyDataset):
    def __len__(self):
        return 2

    def __getitem__(self, index):
        return images[index : index + 4], labels[index : index + 4]


# Methods: by position, by name, with None for the default.
fb.FastBAT()
fb.FastBAT(8 / 255)
fb.FastBAT(8 / 255, None, 10, "ns-pgd", "finite_difference")
fb.FastBAT(step_size="auto", interior_fraction=0.3, implicit_clip=0.1)
fb.FastBAT(epsilon=1, step_size=None, implicit_lambda=float("inf"))
fb.FastBAT(epsilon=float(np.float32(0.1)))
fb.PGD(steps=10, step_size=2 / 255, attack_mode="inference")
fb.TRADES(8 / 255, coefficient=6)
fb.Free(replays=4, start="zero")
fb.GradAlign(form="benchmark")
fb.Standard()
methods: list[fb.Method] = [fb.FastAT(), fb.NFGSM(16 / 255), fb.FGSMPGI()]
assert_type(FastBAT().epsilon, float)
assert_type(FastBAT().scaled(0.5), FastBAT)
assert_type(FastBAT.from_config(FastBAT().get_config()), FastBAT)
flags = argparse.ArgumentParser().parse_args()
chosen = {"fastat": fb.FastAT, "fastbat": fb.FastBAT}[flags.method]
RobustClassifier(model, chosen(epsilon=flags.epsilon))


class Noise(Method):
    """Trains on images with noise; nothing is annotated but the options."""

    epsilon: float = fb.option(8 / 255, "Radius.", kind="fraction")
    scale: float = fb.option(2.0, "Scale.", interval="(0, inf)")
    start: float | None = fb.option(formula="scale * epsilon")
    steps: int = fb.option(3, "Number of steps.", interval="[1, inf)")
    mode: Mode = fb.option("same", "Mode.", choices=get_args(Mode))

    name = "noise"
    reports = ("noise_norm", "progress")
    radii = ("epsilon",)
    needs_plan = True
    needs_perturbation_gradient = True

    def solve(self, context):
        drawn = context.draw("noise", (), 0, tf.reduce_max(context.images))
        delta = drawn * context.random_start(self.epsilon)
        for _ in range(self.steps):
            delta += self.scale * tf.sign(context.input_gradient(delta))
        gradient, logits = context.input_gradient_and_logits(
            delta, lambda logits: context.losses(logits, context.label_ids)
        )
        context.report(noise_norm=tf.norm(delta))
        context.report(progress=tf.reduce_mean(logits))
        context.note(delta=delta)
        return Solution(delta, {"gradient": gradient})

    def penalty(self, context, solution, logits):
        epoch = context.progress.epoch / context.progress.epochs
        values = tf.reduce_mean(solution.memory["gradient"], axis=(1, 2, 3))
        return epoch * context.reduce(values) / tf.norm(logits)

    def correct(self, context, solution, gradients, perturbation_gradient):
        return [gradient * self.epsilon for gradient in gradients]

    def update(self, context):
        return {"delta": context.sum_over_replicas(context.notes["delta"])}


class Signed(FastBAT, package="mine"):
    """Changes a default, and annotates its hooks."""

    epsilon = 4 / 255

    @property
    def needs_plan(self):
        return True

    def solve(self, context: StepContext) -> Solution:
        solution = super().solve(context)
        return solution._replace(perturbation=tf.sign(solution.perturbation))


Noise()
Noise(8 / 255, 2, None, 5, "opposite")
Noise(epsilon=8 / 255, steps=5)
Signed(8 / 255)

# Training.
RobustClassifier(model, Noise())
RobustClassifier(sequential, Signed(), 3, (0, 255))
RobustClassifier(loaded, FastBAT(), pixel_range=[0, 255], name="robust")
RobustClassifier(
    application,
    method=FastBAT(),
    seed=1,
    pixel_range=(-1.0, 1.0),
    from_logits=False,
    image_input="image",
    logits_output="logits",
    dtype="float32",
)
robust = fastbat_tf.RobustClassifier(classifier=model, method=fb.PGD())
robust.compile()
robust.compile("sgd", "sparse_categorical_crossentropy", None, ["accuracy"])
robust.compile(loss=keras.losses.sparse_categorical_crossentropy)
robust.compile(loss={"logits": "mse"}, loss_weights={"logits": 0.5})
robust.compile(
    optimizer=keras.optimizers.SGD(0.1, momentum=0.9),
    loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    metrics=[keras.metrics.SparseCategoricalAccuracy(), "accuracy"],
    weighted_metrics=["accuracy"],
    run_eagerly=True,
    steps_per_execution=2,
    jit_compile=False,
    weight_decay=0,
    weight_decay_mode="decoupled",
    weight_decay_on="kernels",
    clip_norm=1,
    weight_averaging=0.999,
    attack_loss=lambda labels, predictions: tf.reduce_sum(predictions),
    plan=fb.Plan(20, 390, 128, examples=50_000),
    epsilon_schedule=fb.EpsilonSchedule(clean_steps=10, ramp_steps=100),
)
robust.compile({"class_name": "SGD", "config": {}}, jit_compile="auto")
robust.compile("sgd").fit(images, labels).history["loss"][-1]
guard = fb.OverfittingGuard("rollback", path=pathlib.Path("good.npz"))
robust.fit(images, labels, 128, 20, 0)
robust.fit(
    x={"images": images, "index": np.arange(8)},
    y=labels,
    batch_size=None,
    epochs=2,
    verbose="auto",
    callbacks=[guard, keras.callbacks.EarlyStopping("loss")],
    validation_split=0.1,
    validation_data=(images, labels),
    shuffle=False,
    class_weight={0: 1.0, 1: 2},
    sample_weight=np.ones(8),
    steps_per_epoch=2,
)
robust.fit(batches, epochs=2, callbacks=guard, verbose=2)
robust.fit(Data(), validation_data=batches, validation_freq=[1, 2])
robust.fit(fb.with_index(dataset).shuffle(8).batch(4))
loss, accuracy = robust.evaluate(images, labels, verbose=0)
robust.evaluate(batches, return_dict=True)["loss"]
robust.predict(images, batch_size=4).argmax(axis=-1)
robust.train_on_batch(images, labels, return_dict=True)["loss"]
with robust.averaged_weights():
    robust.save("averaged.keras")
robust.save(pathlib.Path("robust.keras"), overwrite=True)
robust.export("exported", verbose=False)
robust.classifier.summary()
robust.summary()
robust.method.get_config()
robust.network(images).numpy()
robust.optimizer.learning_rate.assign(0.1)
robust.load_weights("robust.weights.h5")


class Mine(RobustClassifier):
    """A user's model with an argument of its own."""

    def __init__(self, classifier, method, temperature=1.0, **kwargs):
        super().__init__(classifier, method, **kwargs)
        self.temperature = temperature

    def call(self, images, training=None):
        return super().call(images, training) / self.temperature

    def compile(self, *args, **kwargs):
        return super().compile(*args, weight_decay=5e-4, **kwargs)

    def get_config(self):
        return {**super().get_config(), "temperature": self.temperature}


Mine(model, FastBAT(), temperature=2.0, pixel_range=(0, 255)).compile("sgd")

# Layers.
fb.FusedBatchNormalization()
fb.FusedBatchNormalization(-1, 0.9, 1e-5, unbiased=True, name="bn")
fb.FusedBatchNormalization(momentum=0.9, gamma_initializer="zeros")
fb.FusedBatchNormalization(dtype="float32")(tensors)

# Evaluation.
fb.evaluate_robustness(model, (images, labels))
fb.evaluate_robustness(robust, batches, ["pgd-50-10"], [8 / 255], norm="linf")
fb.evaluate_robustness(
    "model.keras",
    Data(),
    attacks="autoattack",
    epsilons=8 / 255,
    norm=np.inf,
    max_examples=100,
    surrogate=loaded,
    batch_size=8,
    seed=1,
    jit_compile=True,
    directory=pathlib.Path("results"),
    save_images=True,
    verbose=True,
    pixel_range=[0, 255],
)["attacks"][0]["robust_accuracy"]
fb.evaluate_robustness(lambda x: x @ images, [images, labels], ("square",))
score = fb.GradientAlignment(robust.network, 100)(images, labels, 8 / 255)
assert_type(score, float)

train, validation, test = fb.load_data("cifar10_mini", validation_share=0.2)
robust.fit(*train, validation_data=validation)
fb.load_data("folder", "images", image_size=32)

# Attacks and callbacks.
adversarial = fb.attacks.PGD()(model, images, labels)
assert_type(adversarial, fb.attacks.AdversarialExamples)
print(adversarial.robust.mean(), adversarial.images, adversarial.predictions)
fb.plot_adversarial(images, adversarial, labels).savefig("attack.png")
fb.plot_adversarial(images, images, index=np.flatnonzero(labels)[:3])
fb.plot_adversarial(images, images, class_names=np.array(["cat", "dog"]))
fb.plot_adversarial(
    images,
    adversarial.images,
    predictions=adversarial.predictions,
    class_names=["cat", "dog"],
    pixel_range=(0, 255),
    index=range(3),
    max_examples=3,
)
found, predictions, is_robust = fb.attacks.PGD(8 / 255, 20, 5, norm=2)(
    robust, tensors, labels, pixel_range=(0, 255)
)
fb.attacks.PGD(1, loss="dlr", random_start=False, batch_size=8, seed=1)
fb.attacks.FGSM(norm="Linf", jit_compile="auto")
fb.attacks.APGD(None, steps=20, restarts=2, norm=np.inf, jit_compile=True)
fb.attacks.APGDTargeted(target_classes=3)
fb.attacks.FAB(0.5, 20, 3, norm="L2")
fb.attacks.Square(8 / 255, queries=100)(lambda x: x.sum(1), images, labels)
fb.attacks.AutoAttack(version="custom", attacks=["apgd-ce", "square"])
fb.attacks.Transfer(model, "pgd-10", 8 / 255)(loaded, images, labels)
fb.attacks.build("pgd-10", seed=1)(model, images, labels)
fb.attacks.get("pgd-10", robust.network, batch_size=8)
measured = fb.RobustAccuracy((images, labels), fb.attacks.PGD(steps=5))
fb.RobustAccuracy(batches, averaged_weights=robust.averaged_weights)
scores = fb.OverfittingScores(
    batches, fb.attacks.FGSM(), fb.GradientAlignment(robust.network)
)
model.fit(images, labels, callbacks=[measured, scores, guard])
fb.OverfittingGuard("stop", threshold=0.1, factor=1)

# Models.
fb.models.preact_resnet18()
zoo = fb.models.preact_resnet18(10, width=2, input_shape=[8, 8, 3])
fb.models.wrn(28, 10, num_classes=100, mean=(0.5,) * 3, std=(0.2,) * 3)
fb.models.get("resnet18", width=2, activation="softplus", stem=None)
RobustClassifier(zoo, fb.FastBAT(norm="l2")).compile("sgd")
fb.PGD(norm=np.inf)
fb.TRADES(norm="Linf")
print(fb.__version__.split("."))
