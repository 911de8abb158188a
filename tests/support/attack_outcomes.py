"""Compares the attacks with the original programs, example by example.

    python -m tests.support.attack_outcomes [--attacks=square] FILE.npz...

Each file holds a network, images, labels, and the images that are robust under
the original attacks (`tests/golden/README.md`). The same attacks are run on
the same weights and images. One line per attack gives our robust accuracy and
the original's, the share of examples with the same outcome, and the tolerance.

The exit status is 1 if a tolerance is exceeded, and 2 if a file cannot be read.
"""

import argparse
import functools
import re
import sys
import time
from typing import NamedTuple

import numpy as np

from fastbat_tf import attacks
from fastbat_tf.attacks.classifier import Classifier
from fastbat_tf.experiment.config import parse_fraction
from tests.support import golden_network, golden_steps

EQUAL_SHARE = 0.97
# Attacks with random draws may differ by one more example.
EXAMPLES, EXAMPLES_AT_RANDOM = 1, 2
EXACT = ("pgd-50-10", "apgd-ce", "apgd-dlr", "apgd-t", "autoattack")
CLEAN_LOGITS = 1e-3
OTHER_KEYS = ("images", "labels", "logits", "clean")


class Comparison(NamedTuple):
    """The comparison of one attack.

    Attributes:
        name: Name of the attack.
        ours: bool array, still correct.
        originals: bool array, still correct.
        allowed: Integer, the number of examples that may differ.
        seconds: Float, of ours.
    """

    name: str
    ours: np.ndarray
    originals: np.ndarray
    allowed: int
    seconds: float

    @property
    def passed(self):
        """Whether both tolerances hold."""
        difference = abs(int(self.ours.sum()) - int(self.originals.sum()))
        equal = (self.ours == self.originals).mean()
        return difference <= self.allowed and equal >= EQUAL_SHARE

    def __str__(self):
        equal = (self.ours == self.originals).mean()
        return (
            f"{self.name}: {'ok' if self.passed else 'EXCEEDED'}: "
            f"ours {self.ours.mean():.2%}, original "
            f"{self.originals.mean():.2%}, same outcome {equal:.1%}; tolerance "
            f"{self.allowed} of {len(self.ours)} examples, "
            f"{EQUAL_SHARE:.0%}; {self.seconds:.0f} s"
        )


def recorded_attacks(recording):
    """The names of the attacks in a file, by its keys."""
    names = {}
    for key in recording.arrays:
        if key in OTHER_KEYS or key.startswith("weights/"):
            continue
        name = re.sub("_standard$", "", key)
        if key.startswith("pgd_"):
            name = key.replace("_", "-")
        attacks.parse(name)  # Nothing is skipped silently.
        names[key] = name
    return names


def build_network(recording):
    """The network of a file, as a callable."""
    classifier = golden_network.build_classifier(recording, "weights", "images")
    return functools.partial(classifier, training=False)


def compare(recording, only=None, count=None, batch_size=64):
    """Runs the attacks of a file.

    Args:
        recording: A `golden_network.Recording`.
        only: Names of attacks. Defaults to None, all of the file.
        count: Integer, the number of images. Defaults to None, all images.
        batch_size: Integer.

    Yields:
        A `Comparison` for each attack.
    """
    arrays, names = recording.arrays, recorded_attacks(recording)
    unknown = sorted({*(only or ())} - {*names.values()})
    if unknown:
        raise ValueError(
            f"Expected attacks of the file: {', '.join(names.values())}. "
            f"Received: attacks={','.join(unknown)}"
        )
    network = build_network(recording)
    images, labels = arrays["images"][:count], arrays["labels"][:count]
    clean = Classifier(network, batch_size)(images, labels)
    difference = np.abs(clean.logits - arrays["logits"][:count]).max()
    if difference > CLEAN_LOGITS:
        raise ValueError(
            f"The network is another: its clean logits differ by {difference}"
        )
    yield Comparison("clean", clean.correct, arrays["clean"][:count], 0, 0.0)
    epsilon = parse_fraction(str(recording.meta["epsilon"]))
    for key, name in names.items():
        if only and name not in only:
            continue
        start = time.perf_counter()
        attack = attacks.get(
            name,
            network,
            norm=recording.meta.get("norm", "linf").lower(),
            batch_size=batch_size,
        )
        ours = attack(images, labels, epsilon).robust
        yield Comparison(
            name,
            ours,
            arrays[key][:count],
            EXAMPLES if name in EXACT else EXAMPLES_AT_RANDOM,
            time.perf_counter() - start,
        )


def main(arguments=None):
    """Compares the files of the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", metavar="FILE")
    parser.add_argument(
        "--attacks", help="names, with commas between; all of the file if none"
    )
    parser.add_argument("--batch_size", type=int, default=64)
    options = parser.parse_args(arguments)
    only = options.attacks.split(",") if options.attacks else None

    def verify(recording):
        for line in compare(recording, only, batch_size=options.batch_size):
            yield line.passed, f"{recording.name}: {line}"

    return golden_steps.verify_files(options.files, verify)


if __name__ == "__main__":
    sys.exit(main())
