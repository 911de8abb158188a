"""PGD adversarial training."""

import tensorflow as tf

from fastbat_tf import perturbation
from fastbat_tf.methods import options
from fastbat_tf.methods.base import Method, Solution
from fastbat_tf.methods.spec import Paper, Passes


class PGD(Method):
    """Adversarial training with K projected steps of a fixed size.

    ```
    delta_0     = clip(x + U(B), 0, 1) - x
    delta_{k+1} = P_C(delta_k + step_size * d(g(delta_k)))
    ```

    where `U(B)` is uniform in the ball of radius epsilon, `g` is the gradient
    of the loss at `x + delta`, and `d` is its direction: `sign(g)` in
    L-infinity, and `g / ||g||` in L2. A step takes K + 1 forward and backward
    passes.

    Reference: Madry et al., "Towards Deep Learning Models Resistant to
    Adversarial Attacks", ICLR 2018 (arXiv 1706.06083).

    Args:
        epsilon: Float, radius of the ball in pixels: in [0, 1] in L-infinity.
            Defaults to `8 / 255, in L2 128 / 255`.
        steps: Integer of at least 1, K. Defaults to 2.
        step_size: Float, in pixels. Defaults to `epsilon / 2 for 2 steps, else
            2/255; in L2 2.5 * epsilon / steps`. Two steps are the setting of
            the Fast-BAT paper. The size in L2 is that of the attacks of Madry
            et al.: most starts are near the sphere, and short steps do not
            leave it.
        attack_mode: The mode of BatchNormalization and Dropout in the K passes
            of the attack: `"training"`, or `"inference"`, which leaves the
            moving statistics unchanged. Defaults to `"training"`.
        norm: `"linf"` or `"l2"`. Defaults to `"linf"`.

    Example:

    >>> method = fb.PGD(epsilon=8 / 255, steps=10)
    >>> method.step_size * 255
    2.0
    """

    name = "pgd"
    summary = "K signed steps from a random start"
    paper = Paper(
        "Madry et al.", "ICLR 2018", "https://arxiv.org/abs/1706.06083"
    )
    passes = Passes(3, 3, 1)

    epsilon: float = options.EPSILON_OF_NORM
    steps: int = options.steps(2)
    step_size: float | None = options.step_size(
        "2.5 * epsilon / steps if norm == 'l2' else "
        "epsilon / 2 if steps == 2 else 2 / 255",
        shown="epsilon / 2 for 2 steps, else 2/255; in L2 2.5 * epsilon / "
        "steps",
    )
    attack_mode: options.Mode = options.attack_mode(options.TRAINING)
    norm: str | float = options.NORM

    def solve(self, context):
        training = self.attack_mode == options.TRAINING
        delta = climb(
            context,
            context.random_start(self.epsilon, norm=self.norm),
            lambda delta: context.input_gradient(delta, training=training),
            steps=self.steps,
            step_size=self.step_size,
            epsilon=self.epsilon,
            norm=self.norm,
        )
        return Solution(delta)


def climb(context, start, gradient, *, steps, step_size, epsilon, norm="linf"):
    """Takes K projected steps of a fixed size.

    Args:
        context: The `StepContext`.
        start: Tensor like the images, the first perturbation.
        gradient: Function from a perturbation to a tensor like it.
        steps: Integer, K.
        step_size: Float, in pixels.
        epsilon: Float, radius of the ball in pixels.
        norm: `"linf"` or `"l2"`. Defaults to `"linf"`.

    Returns:
        The last perturbation.
    """

    def climbed(delta):
        return perturbation.step(
            delta,
            gradient(delta),
            step_size,
            context.images,
            epsilon,
            norm=norm,
        )

    # A loop of the graph, not of Python: the trace does not grow with K.
    (delta,) = tf.while_loop(
        lambda delta: True,
        lambda delta: (climbed(delta),),
        (start,),
        maximum_iterations=steps,
    )
    return delta
