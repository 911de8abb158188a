"""FGSM-FUAP: features of the image choose the perturbation it begins at."""

import tensorflow as tf

from fastbat_tf.methods import options
from fastbat_tf.methods.fgsm_uap import FGSMUAP
from fastbat_tf.methods.state import Slot

# The Adam optimizer of the head, as published.
RATE, BETA_1, BETA_2, STABILITY = 1e-3, 0.9, 0.999, 1e-8

WEIGHTS = ("kernel1", "bias1", "kernel2", "bias2")


class FGSMFUAP(FGSMUAP):
    """FGSM-UAP with a perturbation that a small head chooses for each image.

    ```
    b = clip(x + U(-epsilon, epsilon), 0, 1)
    h = W_1 f(b) + c_1,    o = W_2 relu(h) + c_2
    a = P_C(b - x + u_k),    k = argmax h
    ```

    with f the features in front of the classifier's last layer, in training
    mode and constant. The head is trained by the losses of o, with Adam at
    0.001. The rest is as in `FGSMUAP`, with k for what a class is in
    `FGSMCUAP`.

    Reference: Pan, Li & Yao, "Adversarial Initialization with Universal
    Adversarial Perturbation: A New Approach to Fast Adversarial Training",
    AAAI 2024.

    Args:
        epsilon: As for `FGSMUAP`, as all arguments but `uaps`.
        step_size: Float.
        uap_epsilon: Float.
        uaps: Integer of at least 1, the number of perturbations: 50 for
            CIFAR-10, 200 for CIFAR-100.
        coefficient: Float.
        momentum_decay: Float.
        form: String.
    """

    name = "fgsm_fuap"
    needs_features = True

    def __init__(
        self,
        epsilon=options.EPSILON,
        step_size=None,
        uap_epsilon=None,
        uaps=options.UAPS,
        coefficient=options.LOGIT_COEFFICIENT,
        momentum_decay=options.MOMENTUM_DECAY,
        form=options.PAPER,
    ):
        self.set_options(
            epsilon=epsilon,
            step_size=step_size,
            uap_epsilon=uap_epsilon,
            uaps=uaps,
            coefficient=coefficient,
            momentum_decay=momentum_decay,
            form=form,
        )

    def count(self, sizes):
        return self.uaps

    def initial_state(self, sizes, draws):
        state = super().initial_state(sizes, draws)
        widths = (sizes.features, self.uaps, sizes.classes)
        for layer in (1, 2):
            inputs, outputs = widths[layer - 1 : layer + 1]
            # PyTorch's default, as published: U(-1, 1) / sqrt(inputs).
            limit = inputs**-0.5
            for name, shape in (
                (f"kernel{layer}", (inputs, outputs)),
                (f"bias{layer}", (outputs,)),
            ):
                first = draws.uniform(name, shape, -limit, limit, tf.float32)
                state[name] = Slot(shape, first)
                state[f"{name}_mean"] = Slot(shape)
                state[f"{name}_square"] = Slot(shape)
        return {**state, "head_steps": Slot(())}

    def begin(self, context):
        return context.random_start(self.epsilon, "noise")

    def choose(self, context):
        features = tf.stop_gradient(
            context.features(context.images + self.begin(context))
        )
        weights = [
            tf.cast(context.state[name], features.dtype) for name in WEIGHTS
        ]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(weights)
            hidden = tf.matmul(features, weights[0]) + weights[1]
            outputs = tf.matmul(tf.nn.relu(hidden), weights[2]) + weights[3]
            loss = tf.reduce_mean(context.losses(outputs))
        gradients = tape.gradient(loss, weights)
        context.note(**dict(zip(WEIGHTS, gradients, strict=True)))
        return tf.argmax(hidden, -1, tf.int32)

    def update(self, context):
        steps = context.state["head_steps"] + 1.0
        new = {**super().update(context), "head_steps": steps}
        replicas = context.sum_over_replicas(tf.ones_like(steps))
        for name in WEIGHTS:
            old, mean, square = (
                context.state[name + part] for part in ("", "_mean", "_square")
            )
            gradient = tf.cast(
                context.sum_over_replicas(context.notes[name]), old.dtype
            )
            gradient /= replicas
            mean = BETA_1 * mean + (1 - BETA_1) * gradient
            square = BETA_2 * square + (1 - BETA_2) * gradient**2
            first = mean / (1 - BETA_1**steps)
            second = square / (1 - BETA_2**steps)
            new[name] = old - RATE * first / (tf.sqrt(second) + STABILITY)
            new[f"{name}_mean"], new[f"{name}_square"] = mean, square
        return new
