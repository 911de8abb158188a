"""Fast-BAT: adversarial training as bi-level optimization."""

import math
from typing import Literal, get_args

import tensorflow as tf

from fastbat_tf import perturbation
from fastbat_tf.methods import (
    auto_step,
    expressions,
    implicit,
    memory,
    options,
)
from fastbat_tf.methods.base import Method, Solution
from fastbat_tf.methods.options import option
from fastbat_tf.methods.spec import Paper, Passes, Variant

# With a tolerance, because 8 / 255 is often written as 0.0314.
FIXED_STEP_SIZE = (
    "6.0 if norm == 'l2' else "
    "5000 / 255 if epsilon <= 8 / 255 + 1e-4 else 2000 / 255"
)
# The largest move of a pixel in the finite difference: a tenth of a gray level.
DIFFERENCE = 0.1 / 255

Linearization = Literal[
    "ns-pgd", "random", "fgsm", "pgd", "ns-gd", "ns-pgd-zero", "remembered"
]
ImplicitGradient = Literal["exact", "finite_difference"]


class FastBAT(Method):
    """Fast bi-level adversarial training.

    The lower level is linearized at a point z and regularized. This gives
    delta* in closed form, without a sign, and hence its derivative with respect
    to the weights theta:

    ```
    delta* = P_C(z + step_size * g(z)),    g(delta) = d CE(x + delta) / d delta
    theta <- SGD on  d mean CE(x + delta*) / d theta
                     + 1 / (B lambda) * d <g(z), H * g(delta*)> / d theta
    ```

    where B is the batch size, and H is 0 at the coordinates of delta* that lie
    on a bound of C and 1 elsewhere. In L2, H is replaced by the transposed
    derivative of the projection, which scales to the ball, then clips to the
    pixels, at u = z + step_size * g(z):

    ```
    P_C(u) = clip(min(1, epsilon / ||u||) u, -x, 1 - x)
    J^T    = J_ball D,    J_ball = epsilon / ||u|| (I - u u^T / ||u||^2)
    ```

    where D is 0 at the coordinates of delta* on a bound of the pixel range and
    1 elsewhere, and J_ball = I if u is in the ball. As d u / d theta is
    step_size * d g(z) / d theta, the corrected gradient is the derivative of
    mean CE(x + delta*(theta)), with z constant, if lambda = 1 / step_size.
    Another lambda weights the implicit term by 1 / (lambda * step_size). In
    L-infinity, the published numbers make this 0.005. In L2 it is 1 by default:
    there J^T shrinks as the step grows, and step_size * J^T does not.

    The implicit term is differentiated through g(z) only. The derivative is
    exact: reverse mode over reverse mode, which shares the forward and backward
    pass of g(z). With `ns-pgd`, a step takes 3 forward passes in training mode,
    and 11 passes in all; standard training takes 3.

    With `implicit_gradient="finite_difference"`, no second derivative is taken:

    ```
    d <g(z), v> / d theta = (w(z + h v) - w(z)) / h,
    w(delta) = d sum CE(x + delta) / d theta,    h |v|_max = 1 / 2550
    ```

    This also takes 11 passes, 4 of them forward, but with simpler operations.
    Use it with smooth activations: at the kinks of ReLU it adds terms that the
    exact derivative, which exists almost everywhere, does not have.

    `implicit_clip` bounds the length of the implicit term t by that of the
    plain gradient p, both of the whole batch and over all weights:

    ```
    t * min(1, implicit_clip * ||p|| / ||t||)
    ```

    A fixed lambda makes a term that is long at first and nothing later. A very
    small one, such as 1e-6, with a clip is a rule that holds the ratio.

    `step_size="auto"` holds the interior fraction f, the share of the pixel
    values of delta* on no bound, at the step size a of each step k:

    ```
    a_k = epsilon / q_k,    log q_k+1 = log q_k + (interior_fraction - f_k) / 2
    ```

    It begins at the fixed step size, and q is saved with the weights.

    Reference: Zhang, Zhang, Khanduri, Hong, Chang & Liu, "Revisiting and
    Advancing Fast Adversarial Training Through the Lens of Bi-Level
    Optimization", ICML 2022 (arXiv 2112.12376), equations (8) to (13).

    Args:
        epsilon: Float, radius of the ball in pixels: in [0, 1] in L-infinity.
            Defaults to `8 / 255, in L2 128 / 255`.
        step_size: Float, or in L-infinity `"auto"`: the factor of the gradient
            in the lower level, which takes no sign of it. Defaults to
            `5000/255 up to epsilon = 8/255, else 2000/255; in L2 6`. The former
            are the published ones. In L2, 6 reaches the sphere of the default
            radius with gradients of length 0.1, and nearly all gradients of a
            short training are longer.
        implicit_lambda: Float, lambda of the implicit term. `inf` switches the
            term off, which leaves two-step PGD without a sign. Defaults to
            `10, in L2 1 / step_size`.
        linearization: How z is found. With z0 uniform in C and a the step
            size: `"ns-pgd"`: P_C(z0 + a g(z0)); `"ns-pgd-zero"`: P_C(a g(0));
            `"ns-gd"`: z0 + a g(z0), not projected; `"pgd"`:
            P_C(z0 + 1.25 epsilon sign g(z0)); `"fgsm"`: P_C(epsilon sign
            g(0)), both with g / ||g|| for the sign in L2; `"random"`: z0;
            `"remembered"`: delta* of the same example in the previous epoch,
            clipped to the pixel range, and z0 in the first epoch, which takes 9
            passes. The remembered perturbation does not follow the random crop
            of the image. Defaults to `"ns-pgd"`.
        implicit_gradient: `"exact"` or `"finite_difference"`. Defaults to
            `"exact"`.
        norm: `"linf"` or `"l2"`. Defaults to `"linf"`.
        implicit_clip: Float above 0, the largest length of the implicit term,
            in lengths of the plain gradient. `inf` switches the clip off.
            Defaults to `inf`.
        interior_fraction: Float in (0, 1), the share that `step_size="auto"`
            holds. Defaults to `0.3 with step_size=auto`, else None.

    Example:

    >>> method = fb.FastBAT(epsilon=8 / 255)
    >>> method.step_size * 255
    5000.0
    """

    name = "fastbat"
    summary = "two steps without a sign; implicit gradient"
    paper = Paper(
        "Zhang et al.", "ICML 2022", "https://arxiv.org/abs/2112.12376"
    )
    passes = Passes(3, 5, 3)
    variants = {
        "finite_difference": Variant(
            {"implicit_gradient": "finite_difference"}, Passes(4, 4, 3)
        ),
        "without_implicit": Variant(
            {"implicit_lambda": math.inf}, Passes(3, 3, 1)
        ),
        "remembered": Variant({"linearization": "remembered"}, Passes(2, 4, 3)),
        "clipped": Variant({"implicit_lambda": 1e-6, "implicit_clip": 0.1}),
        "auto_step": Variant({"step_size": "auto"}),
    }
    radii = ("epsilon",)  # An unsigned step does not scale with the radius.
    reports = {
        "step_size": "factor of the gradient in the lower level, which "
        "step_size=auto has found",
        "interior_fraction": "share of the pixel values whose perturbation is "
        "on no bound; only these enter the implicit gradient",
        "implicit_ratio": "length of the implicit term, in lengths of the "
        "plain gradient; 0 changes nothing",
        "implicit_ratio_unclipped": "the implicit ratio before implicit_clip "
        "shortens the term",
        "implicit_cosine": "cosine between the implicit term and the plain "
        "gradient; above 0 they point the same way",
    }

    epsilon: float = options.EPSILON_OF_NORM
    step_size: float | Literal["auto"] | None = options.step_size(
        FIXED_STEP_SIZE,
        shown="5000/255 up to epsilon = 8/255, else 2000/255; in L2 6",
        help="Step size of the attack; auto holds the interior fraction.",
        word="auto if norm == 'linf'",
    )
    implicit_lambda: float | None = option(
        formula="10.0 if norm == 'linf' else 1 / max(step_size, 1e-9)",
        shown="10, in L2 1 / step_size",
        help="Lambda of the implicit term; inf switches the term off.",
        interval="(0, inf]",
        hint="inf switches the implicit term off",
    )
    linearization: Linearization = option(
        "ns-pgd",
        "How the linearization point is found.",
        choices=get_args(Linearization),
    )
    implicit_gradient: ImplicitGradient = option(
        "exact",
        "How the implicit term is computed.",
        choices=get_args(ImplicitGradient),
    )
    norm: str | float = options.NORM
    implicit_clip: float | None = option(
        math.inf,
        "Largest length of the implicit term, in lengths of the plain "
        "gradient; inf switches the clip off.",
        interval="(0, inf]",
        applies="implicit_lambda < inf",
    )
    interior_fraction: float | None = option(
        0.3,
        "Share of the pixel values that step_size=auto keeps off all bounds.",
        interval="(0, 1)",
        shown="0.3 with step_size=auto",
        applies="step_size == 'auto'",
    )

    @property
    def unused_reports(self):
        unused = []
        if not self.adapts_step:
            unused.append("step_size")
        if not self.adds_apart:
            unused.append("implicit_ratio_unclipped")
        return tuple(unused)

    @property
    def adapts_step(self):
        """Whether the step size is that of `--step_size=auto`."""
        return self.step_size == auto_step.AUTO

    @property
    def adds_apart(self):
        clip = self.implicit_clip
        return clip is not None and math.isfinite(clip)

    @property
    def differentiates_twice(self):
        exact = self.implicit_gradient == "exact"
        return self.needs_perturbation_gradient and exact

    @property
    def needs_perturbation_gradient(self):
        return math.isfinite(self.implicit_lambda)

    @property
    def takes_differences(self):
        exact = self.implicit_gradient == "exact"
        return self.needs_perturbation_gradient and not exact

    @property
    def needs_largest(self):
        return self.takes_differences

    @property
    def remembers_examples(self):
        return self.linearization == "remembered"

    @property
    def needs_plan(self):
        return self.remembers_examples

    def initial_state(self, sizes, draws):
        slots = {}
        if self.remembers_examples:
            slots |= memory.slots(sizes, "delta")
        if self.adapts_step:
            given = {"epsilon": self.epsilon, "norm": self.norm}
            fixed = expressions.evaluate(FIXED_STEP_SIZE, given)
            slots |= auto_step.slots(self.epsilon, fixed)
        return slots

    def update(self, context):
        values = {}
        if self.remembers_examples:
            values |= memory.record(context, delta=context.notes["delta"])
        if self.adapts_step:
            values |= auto_step.update(
                context, self.epsilon, self.interior_fraction
            )
        return values

    def solve(self, context):
        step_size = self._step_size(context)
        point = self._linearization_point(context, step_size)
        found = {"linearization_point": point}
        if self.differentiates_twice:
            with tf.GradientTape() as found["tape"]:
                lower_gradient = context.input_gradient(point)
        elif self.needs_perturbation_gradient:
            lower_gradient, found["weight_gradients"] = implicit.gradients(
                context, point
            )
        else:
            lower_gradient = context.input_gradient(point)
        found["lower_gradient"] = lower_gradient
        found["moved"] = point + step_size * lower_gradient
        delta = self._project(found["moved"], context)
        if self.remembers_examples:
            context.note(delta=delta)
        return Solution(delta, found)

    def largest(self, context, solution, gradient):
        vector = self._vector(context, solution, gradient)
        return {"vector": tf.reduce_max(tf.abs(vector))}

    def correct(self, context, solution, gradients, perturbation_gradient):
        interior = perturbation.interior_mask(
            solution.perturbation, context.images, self.epsilon, norm=self.norm
        )
        fraction = tf.reduce_mean(interior)
        context.report(interior_fraction=fraction)
        context.note(**({"interior": fraction} if self.adapts_step else {}))
        if not self.needs_perturbation_gradient:
            context.report(implicit_ratio=0.0, implicit_cosine=0.0)
            return gradients
        vector = self._vector(context, solution, perturbation_gradient)
        term = self._implicit_term(context, solution.memory, vector)
        if self.adds_apart:
            return gradients, term
        context.report(**implicit.compare(gradients, term))
        return [a + b for a, b in zip(gradients, term, strict=True)]

    def add(self, gradients, addend):
        term, ratio = implicit.clip(gradients, addend, self.implicit_clip)
        added = [a + b for a, b in zip(gradients, term, strict=True)]
        reports = implicit.compare(gradients, term)
        return added, {**reports, "implicit_ratio_unclipped": ratio}

    def _vector(self, context, solution, gradient):
        """Returns what the implicit term multiplies g(z) by."""
        # `gradient` belongs to the mean loss: it carries the 1/B.
        pulled_back = perturbation.pull_back(
            gradient,
            solution.memory["moved"],
            context.images,
            self.epsilon,
            norm=self.norm,
        )
        return pulled_back / self.implicit_lambda

    def _implicit_term(self, context, found, vector):
        """Returns the derivative of `<g(z), vector>` to the weights."""
        if self.differentiates_twice:
            term = context.vector_product(
                found["tape"], found["lower_gradient"], vector
            )
            return implicit.filled(term, context.variables)
        # Not `h` itself: it overflows where the vector is tiny.
        largest = context.largest["vector"]
        move = DIFFERENCE * tf.math.divide_no_nan(vector, largest)
        _, moved = implicit.gradients(
            context, found["linearization_point"] + move
        )
        return [
            (a - b) * (largest / DIFFERENCE)
            for a, b in zip(moved, found["weight_gradients"], strict=True)
        ]

    def _project(self, delta, context):
        return perturbation.project(
            delta, context.images, self.epsilon, norm=self.norm
        )

    def _step(self, delta, gradient, size, context):
        return perturbation.step(
            delta, gradient, size, context.images, self.epsilon, norm=self.norm
        )

    def _step_size(self, context):
        if not self.adapts_step:
            return self.step_size
        step_size = auto_step.step_size(context, self.epsilon)
        context.report(step_size=step_size)
        return step_size

    def _linearization_point(self, context, step_size):
        if self.linearization in ("fgsm", "ns-pgd-zero"):
            start = tf.zeros_like(context.images)
        else:
            start = context.random_start(self.epsilon, norm=self.norm)
        if self.linearization == "random":
            return start
        if self.remembers_examples:
            remembered = memory.recall(context, "delta", start)
            return self._project(remembered, context)
        gradient = context.input_gradient(start)
        if self.linearization == "fgsm":
            return self._step(start, gradient, self.epsilon, context)
        if self.linearization == "pgd":
            return self._step(start, gradient, 1.25 * self.epsilon, context)
        point = start + step_size * gradient
        if self.linearization == "ns-gd":
            return point
        return self._project(point, context)
