"""FGSM-FUAP: the features of an image choose its universal perturbation."""

import tensorflow as tf

from fastbat_tf.methods import options
from fastbat_tf.methods.base import Method
from fastbat_tf.methods.fgsm_uap import UniversalStart
from fastbat_tf.methods.options import option
from fastbat_tf.methods.spec import Paper, Passes
from fastbat_tf.methods.state import Slot

# Adam, which trains the head, as published.
RATE, BETA_1, BETA_2, STABILITY = 1e-3, 0.9, 0.999, 1e-8

WEIGHTS = ("kernel1", "bias1", "kernel2", "bias2")


class FGSMFUAP(UniversalStart, Method):
    """FGSM-UAP in which a small head chooses the perturbation of each image.

    ```
    b = clip(x + U(-epsilon, epsilon), 0, 1)
    h = W_1 f(b) + c_1,    o = W_2 relu(h) + c_2
    a = P_C(b - x + u_k),    k = argmax h
    ```

    where f are the inputs of the classifier's last layer, computed in training
    mode and taken as constants. The losses of o train the head, with Adam at a
    learning rate of 0.001. The rest of the step is the same as in `FGSMUAP`,
    except that gradients for u_k are averaged over the images for which k was
    chosen. Perturbations that no image uses are not changed.

    Reference: Pan, Li & Yao, "Adversarial Initialization with Universal
    Adversarial Perturbation: A New Approach to Fast Adversarial Training",
    AAAI 2024.

    Args:
        epsilon: Float in [0, 1], radius of the L-infinity ball in pixels.
            Defaults to `8 / 255`.
        step_size: Float, in pixels. Defaults to `epsilon`.
        uap_epsilon: Float in [0, 1], the radius of the universal
            perturbations. Defaults to `min(1.25 * epsilon, 1.0)`.
        uaps: Integer of at least 1, the number of perturbations; as published,
            50 for CIFAR-10 and 200 for CIFAR-100. Defaults to 50.
        coefficient: Float, the weight of the distance of the logits. Defaults
            to 10.
        momentum_decay: Float in [0, 1), the decay of the momentum. Defaults to
            0.3.
        form: `"paper"` or `"benchmark"`, which `FGSMUAP` describes. Defaults to
            `"paper"`.

    Example:

    >>> fb.FGSMFUAP(epsilon=8 / 255).uaps
    50
    """

    name = "fgsm_fuap"
    summary = "starts at a universal perturbation chosen by features"
    paper = Paper("Pan et al.", "AAAI 2024")
    passes = Passes(3, 3, 2)
    needs_features = True

    epsilon: float = options.EPSILON
    step_size: float | None = options.step_size()
    uap_epsilon: float | None = options.UAP_EPSILON
    uaps: int = option(
        50, "Number of universal perturbations.", interval="[1, inf)"
    )
    coefficient: float = options.coefficient(
        10.0, "Weight of the distance of the logits."
    )
    momentum_decay: float = options.MOMENTUM_DECAY
    form: options.Form = options.FORM

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
        for name in WEIGHTS:
            old, mean, square = (
                context.state[name + part] for part in ("", "_mean", "_square")
            )
            gradient = tf.cast(
                context.mean_over_replicas(context.notes[name]), old.dtype
            )
            mean = BETA_1 * mean + (1 - BETA_1) * gradient
            square = BETA_2 * square + (1 - BETA_2) * gradient**2
            first = mean / (1 - BETA_1**steps)
            second = square / (1 - BETA_2**steps)
            new[name] = old - RATE * first / (tf.sqrt(second) + STABILITY)
            new[f"{name}_mean"], new[f"{name}_square"] = mean, square
        return new
