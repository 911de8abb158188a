"""Training on pixels of other ranges than [0, 1], for tests."""

import keras
import numpy as np

from fastbat_tf import (
    Plan,
    RobustClassifier,
)
from tests.support import testing


def ranged_network(low, high):
    """`testing.small_network`, after a layer that undoes a range."""
    scale = 1 / (high - low)
    first = keras.layers.Rescaling(scale, offset=-low * scale)
    layers = testing.small_network().layers
    return keras.Sequential([layers[0], first, *layers[1:]])


class RecordingClassifier(RobustClassifier):
    """Records what a method sees and finds in each step."""

    def compute_gradients(self, images, *args, **kwargs):
        outcome = super().compute_gradients(images, *args, **kwargs)
        self.seen.append((images, outcome.solution.perturbation))
        return outcome


def train(network, method, images, labels, eager=False, **kwargs):
    """Trains for three steps; records them if eager."""
    robust = RecordingClassifier(network, method, **kwargs)
    robust.seen = []
    robust.compile(
        keras.optimizers.SGD(0.1),
        plan=Plan(1, 3, 4, 12),
        run_eagerly=eager,
        jit_compile=False,
    )
    images = {"images": images, "index": np.arange(12)}
    robust.fit(images, labels, batch_size=4, shuffle=False, verbose=0)
    return robust
