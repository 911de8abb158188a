"""The distance of the nearest adversarial image, as FAB finds it."""

from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from fastbat_tf.attacks.fab import FAB
from fastbat_tf.attacks.inputs import as_images
from fastbat_tf.attacks.norms import per_image
from fastbat_tf.attacks.records import Record


class NearestExamples(NamedTuple):
    """What `nearest_adversarial` returns, three NumPy arrays.

    Attributes:
        images: float32 array `(examples, height, width, channels)` in the
            pixel range of the model: the nearest misclassified image that was
            found; the image itself, if it is misclassified already, or if none
            was found.
        predictions: int32 array `(examples,)`, the class of each of these
            images.
        distances: float32 array `(examples,)`, in the norm of images in [0, 1]:
            0 for an image that is misclassified already, infinite if no
            misclassified image was found.

    Example:

    ```python
    found = fb.nearest_adversarial(model, images, labels)
    robust_accuracy = (found.distances > 8 / 255).mean()
    ```
    """

    images: np.ndarray
    predictions: np.ndarray
    distances: np.ndarray

    def __repr__(self) -> str:
        # A shell shows what a call returns: not millions of pixels.
        found = int(np.isfinite(self.distances).sum())
        return (
            f"<NearestExamples: images {self.images.shape}, {found} of "
            f"{len(self.distances)} misclassified>"
        )


class NearestFAB(FAB):
    """FAB that does not stop: it keeps the nearest misclassified point.

    The path of FAB depends on neither epsilon nor chance. So `fab-t` breaks an
    image within epsilon if, and only if, the distance that this finds is at
    most epsilon: one run has the robust accuracy at every radius.

    In the loop, the loss of a round is the distance with the opposite sign, so
    that the round of the highest loss is that of the nearest point. No example
    is ever decided before its last target class.
    """

    stops = False

    def step(self, network, problem, state, epsilon):
        """Takes a step of FAB within the smallest distance so far."""
        del epsilon  # The distance is what is asked for.
        moved = super().step(network, problem, state, -state["loss"])
        is_nearer = moved["fooled"]
        found = tf.where(per_image(is_nearer), moved["found"], state["found"])
        size = tf.reshape(self.norm.size(found - problem["images"]), [-1])
        return {
            **moved,
            "fooled": tf.zeros_like(is_nearer),
            "found": found,
            "loss": tf.where(is_nearer, -size, state["loss"]),
        }


def distances(clean, record):
    """Returns the distances that `NearestFAB` has found.

    Args:
        clean: A `Clean`.
        record: The `Record` of the attack on it.

    Returns:
        float32 array `(examples,)`, as in `NearestExamples`.
    """
    return np.where(clean.correct, -record.loss, np.float32(0))


def nearest_adversarial(
    model: Any,
    images: Any,
    labels: Any,
    *,
    norm: str | float = "linf",
    steps: int = 100,
    target_classes: int = 9,
    batch_size: int = 250,
    jit_compile: bool | str = "auto",
    pixel_range: Any = None,
) -> NearestExamples:
    """Searches for the nearest misclassified image of each image, by FAB-T.

    It approximates from above

    ```
    min ||delta||   subject to   argmax f(x + delta) != y,  0 <= x + delta <= 1
    ```

    It walks along the boundary between the label and each target class, as
    the attack `fab-t` does, but takes all steps toward all target classes, and
    keeps the nearest misclassified point. `fab-t` breaks exactly the images
    whose distance is at most epsilon. Nothing is drawn at random.

    Reference: Croce & Hein, ICML 2020 (arXiv 1907.02044).

    Args:
        model: A `keras.Model` or any other callable, as an attack takes it,
            with gradients.
        images: Array or tensor `(examples, height, width, channels)` in
            `pixel_range`: floats, or uint8 gray levels.
        labels: Integers `(examples,)` or `(examples, 1)`, or one-hot labels
            `(examples, classes)`.
        norm: `"linf"` or `"l2"`, in any usual spelling. Defaults to `"linf"`.
        steps: Integer of at least 1, the steps toward each target class.
            Defaults to 100.
        target_classes: Integer of at least 1, the number of target classes; at
            most all wrong classes are tried. Defaults to 9.
        batch_size: Integer, images per call of the model. Defaults to 250.
        jit_compile: Whether XLA compiles the loop. Defaults to `"auto"`, which
            compiles on GPUs.
        pixel_range: Pair of floats, the range of the pixels that the model
            takes, such as `(0, 255)`. Distances are those of images mapped to
            [0, 1]. Defaults to None, the range of a `RobustClassifier`, and
            `(0, 1)` for any other model.

    Returns:
        `NearestExamples`: `images`, `predictions` and `distances`.

    Raises:
        InputError: If an argument is not as described, or if the model has no
            gradients.

    Example:

    ```python
    found = fb.nearest_adversarial(model, images, labels, norm="l2", steps=20)
    print(np.median(found.distances))
    ```
    """
    attack = NearestFAB(
        steps=steps,
        target_classes=target_classes,
        norm=norm,
        batch_size=batch_size,
        jit_compile=jit_compile,
    )
    shape = tuple(getattr(images, "shape", ()))[1:]
    bound, pixels = attack._bindings.get(attack, model, pixel_range, shape)
    clean = bound.classify(pixels.to_unit_array(as_images(images)), labels)
    bound.check_gradient(clean)
    record = Record.start(clean.correct, clean)
    bound.run(clean, record, np.inf)
    found = np.clip(clean.images + record.perturbation, 0.0, 1.0)
    logits = bound.classify(found, clean.labels).logits
    return NearestExamples(
        np.asarray(pixels.from_unit(found), np.float32),
        logits.argmax(axis=-1).astype(np.int32),
        distances(clean, record),
    )
