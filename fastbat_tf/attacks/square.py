"""Square: random search with squares, without gradients."""

from typing import Unpack

import numpy as np
import tensorflow as tf

from fastbat_tf.attacks import losses
from fastbat_tf.attacks.base import Settings, SteppedAttack
from fastbat_tf.attacks.inputs import check_positive
from fastbat_tf.attacks.norms import L2, per_image

FIRST_SHARE = 0.8  # p: the share of the pixels that the first square covers.
# The queries after which p is halved, whatever the number of queries.
HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
TILES = 5  # The L2 attack starts from a grid of 5 x 5 tiles.


class Square(SteppedAttack):
    """Random search that changes one square at a time, and keeps what helps.

    Each query sets a square at a random position to another corner of the ball
    (L-infinity), or moves mass of the perturbation into it (L2). The change is
    kept if the margin between the label and the highest other logit falls. The
    squares shrink as the search proceeds. The attack uses only logits, so the
    model may be any function, also one of NumPy arrays.

    Reference: Andriushchenko et al., ECCV 2020 (arXiv 1912.00049), algorithms
    2 and 3, with the schedule of AutoAttack, which does not depend on the
    number of queries.

    Args:
        epsilon: Float, the radius. Defaults to None, 8/255 for L-infinity and
            128/255 for L2.
        queries: Integer of at least 1. Defaults to 5000.
        **settings: `norm`, `batch_size`, `seed` and `jit_compile` of `Attack`.

    Example:

    ```python
    attack = fb.attacks.Square(8 / 255, queries=100)
    robust_accuracy = attack(model, images, labels).robust.mean()
    ```
    """

    name = "square"
    stride = 50
    white_box = False

    def __init__(
        self,
        epsilon: float | None = None,
        queries: int = 5000,
        **settings: Unpack[Settings],
    ) -> None:
        super().__init__(epsilon, **settings)
        check_positive(queries=queries)
        self.steps = queries - 1  # The start is the first query.

    def start(self, images, labels, targets, epsilon, generators):
        """Starts from vertical stripes (L-infinity) or a grid of bumps (L2).

        All random numbers of the round are drawn here, and are part of the
        problem.
        """
        channels = images.shape[-1]
        # Position and signs; for L2 also a second position and an orientation.
        numbers = 2 + channels + (3 if self.norm is L2 else 0)
        draws = [
            g.random((self.steps + 1, numbers), np.float32) for g in generators
        ]
        first = self._grid if self.norm is L2 else self._stripes
        delta = epsilon * self.norm.direction(first(images.shape, generators))
        candidate = self.project(delta, images, epsilon)
        return {"draws": np.stack(draws)}, {"candidate": candidate}

    def step(self, network, problem, state, epsilon):
        """Evaluates the candidate, keeps the better image, makes the next."""
        images, labels = problem["images"], problem["labels"]
        candidate = state["candidate"]
        logits = tf.cast(network(candidate), tf.float32)
        fooled = ~losses.is_correct(logits, labels)
        loss = losses.margin(logits, labels, problem["targets"])
        better = fooled | (loss > state["loss"])
        best = tf.where(per_image(better), candidate, state["found"])
        prediction = {
            name: tf.where(better, new, state[name])
            for name, new in losses.predict(logits).items()
        }

        number = tf.minimum(state["iteration"] + 1, self.steps)
        draws = tf.gather(problem["draws"], number, batch_dims=1)
        _, height, width, _ = images.shape
        sizes = square_sizes(self.steps + 1, height, width, self.norm is L2)
        size = tf.gather(sizes, number)
        propose = self._move_mass if self.norm is L2 else self._set_square
        delta = propose(best - images, per_image(size), draws, epsilon)
        return {
            "fooled": fooled,
            "found": best,
            "loss": tf.where(better, loss, state["loss"]),
            **prediction,
            "candidate": self.project(delta, images, epsilon),
        }

    def _set_square(self, delta, size, draws, epsilon):
        channels = delta.shape[-1]
        square = random_window(delta, size, draws[:, 0], draws[:, 1])
        signs = tf.where(draws[:, 2 : 2 + channels] < 0.5, -1.0, 1.0)
        signs = signs[:, tf.newaxis, tf.newaxis, :]
        return tf.where(square.mask, epsilon * signs, delta)

    def _move_mass(self, delta, size, draws, epsilon):
        """Moves the mass of a second square into the first (algorithm 3)."""
        channels = delta.shape[-1]
        first = random_window(delta, size, draws[:, 0], draws[:, 1])
        second = random_window(delta, size, draws[:, -3], draws[:, -2])
        signs = tf.where(draws[:, 2 : 2 + channels] < 0.5, -1.0, 1.0)
        signs = signs[:, tf.newaxis, tf.newaxis, :]
        turned = per_image(draws[:, -1] < 0.5)

        inside = tf.where(first.mask, delta, 0.0)
        old = _over_pixels(inside)
        new = bumps(first, turned) * signs
        new = tf.where(
            first.mask, new + tf.math.divide_no_nan(inside, old), 0.0
        )
        both = tf.where(first.mask | second.mask, delta, 0.0)
        unused = tf.square(epsilon) - tf.square(L2.size(delta))
        budget = tf.maximum(unused, 0.0) / channels
        mass = tf.sqrt(budget + tf.square(_over_pixels(both)))
        new = tf.math.divide_no_nan(new, _over_pixels(new)) * mass
        moved = tf.where(second.mask, 0.0, delta)
        moved = tf.where(first.mask, new, moved)
        return epsilon * L2.direction(moved)

    @staticmethod
    def _stripes(shape, generators):
        """Vertical stripes of random signs."""
        _, _, width, channels = shape
        stripes = [g.random((1, width, channels)) for g in generators]
        signs = np.where(np.stack(stripes) < 0.5, -1.0, 1.0)
        return np.broadcast_to(signs, shape).astype(np.float32)

    @staticmethod
    def _grid(shape, generators):
        """A grid of tiles with bumps in the middle, each with random signs."""
        count, height, width, channels = shape
        size = max(min(height, width) // TILES, 1)
        delta = tf.zeros(shape)
        top = max((height - TILES * size) // 2, 0)
        left = max((width - TILES * size) // 2, 0)
        sizes = tf.fill([count, 1, 1, 1], size)
        for row in range(min(TILES, height)):
            for column in range(min(TILES, width)):
                tile = Window(
                    delta, sizes, top + row * size, left + column * size
                )
                signs = [
                    g.integers(0, 2, (1, 1, channels)) * 2 - 1
                    for g in generators
                ]
                turned = [g.random((1, 1, 1)) < 0.5 for g in generators]
                signs = tf.constant(np.stack(signs), tf.float32)
                delta += signs * bumps(tile, tf.constant(np.stack(turned)))
        return delta


class Window:
    """A square within each image of a batch.

    Args:
        images: Tensor `(batch, height, width, channels)`.
        size: int32 tensor `(batch, 1, 1, 1)`, the side of the square.
        top: Row of the upper left pixel, an integer or a tensor like `size`.
        left: Column of that pixel, an integer or a tensor like `size`.

    Attributes:
        mask: bool tensor `(batch, height, width, 1)`, True in the square.
        row: int32 tensor `(batch, height, 1, 1)`, rows counted from the top.
        column: int32 tensor `(batch, 1, width, 1)`, columns counted from the
            left.
        size: int32 tensor `(batch, 1, 1, 1)`.
    """

    def __init__(self, images, size, top, left):
        height, width = images.shape[1:3]
        self.size = size
        self.row = tf.range(height)[tf.newaxis, :, tf.newaxis, tf.newaxis] - top
        self.column = (
            tf.range(width)[tf.newaxis, tf.newaxis, :, tf.newaxis] - left
        )
        inside_rows = (self.row >= 0) & (self.row < size)
        inside_columns = (self.column >= 0) & (self.column < size)
        self.mask = inside_rows & inside_columns


def random_window(images, size, down, right):
    """A window at a random position.

    Args:
        images: Tensor `(batch, height, width, channels)`.
        size: int32 tensor `(batch, 1, 1, 1)`, the side of the square.
        down: Tensor `(batch,)` drawn from [0, 1), the vertical position.
        right: Tensor `(batch,)` drawn from [0, 1), the horizontal position.

    Returns:
        A `Window`.
    """

    def first(share, extent):
        room = tf.cast(extent - size + 1, tf.float32)
        return tf.cast(tf.floor(per_image(share) * room), tf.int32)

    height, width = images.shape[1:3]
    return Window(images, size, first(down, height), first(right, width))


def bumps(window, turned):
    """Two bumps of opposite sign in a window, with an L2 norm of 1 together.

    A bump is highest in the middle and falls in square rings: at the distance
    r it is `sum_{k = r}^{n - 1} 1 / (k + 1)^2`. The first one fills the upper
    half of the window, or the left half if it is turned.

    Args:
        window: A `Window`.
        turned: bool tensor `(batch, 1, 1, 1)`.

    Returns:
        float32 tensor `(batch, height, width, 1)`, zero outside the window.
    """
    along = tf.where(turned, window.column, window.row)
    across = tf.where(turned, window.row, window.column)
    size = window.size
    half = size // 2
    upper = along < half
    middle = tf.where(upper, half // 2, half + (size - half) // 2)
    distance = tf.maximum(tf.abs(along - middle), tf.abs(across - half))
    rings = half + 1
    height, width = window.row.shape[1], window.column.shape[2]
    steps = np.arange(1, max(height, width) + 3, dtype=np.float32)
    sums = tf.constant(np.cumsum(np.r_[0.0, 1 / steps**2]), tf.float32)
    distance = tf.minimum(distance, rings)
    height_here = tf.gather(sums, rings) - tf.gather(sums, distance)

    def normalized(mask):
        bump = tf.where(mask & window.mask, height_here, 0.0)
        return tf.math.divide_no_nan(bump, _over_pixels(bump))

    pair = normalized(upper) - normalized(~upper)
    return tf.math.divide_no_nan(pair, _over_pixels(pair))


def square_sizes(queries, height, width, odd):
    """The side of the square at each query.

    Args:
        queries: Integer, the number of queries.
        height: Integer, the height of the images.
        width: Integer, the width of the images.
        odd: Whether sides are odd and at least 3, as L2 needs them.

    Returns:
        int32 array `(queries,)`.

    Example:

    >>> square_sizes(5000, 32, 32, odd=False)[[1, 11, 51, 4999]]
    array([29, 20, 14,  3], dtype=int32)
    """
    numbers = np.arange(queries)
    halvings = np.searchsorted(HALVINGS, numbers, side="left")
    share = FIRST_SHARE / 2.0**halvings
    sizes = np.round(np.sqrt(share * height * width)).astype(np.int32)
    if odd:
        sizes = np.maximum(sizes, 3)
        sizes += 1 - sizes % 2
    return np.clip(sizes, 1, min(height, width)).astype(np.int32)


def _over_pixels(values):
    """The L2 norm over height and width of each channel."""
    return tf.sqrt(tf.reduce_sum(tf.square(values), (1, 2), keepdims=True))
