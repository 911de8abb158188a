"""An attack on one network."""

import functools

import numpy as np

from fastbat_tf.attacks import mean_logits, targets
from fastbat_tf.attacks.classifier import Classifier, check_gradient, is_numpy
from fastbat_tf.attacks.inputs import check_radius
from fastbat_tf.attacks.loop import AttackLoop, Strides
from fastbat_tf.attacks.records import AttackResult, Record
from fastbat_tf.attacks.sharding import Sharding


class BoundAttack:
    """An attack on one network, which is traced once.

    `fastbat_tf.attacks.get` and the method `on` of an attack make it.

    Args:
        attack: An `Attack`.
        network: Any callable from float32 images `(batch, height, width,
            channels)` in [0, 1] to logits `(batch, classes)`.

    Attributes:
        attack: The `Attack`.
        classify: The `Classifier` of the network.

    Raises:
        InputError: If the network is a `RobustClassifier` with a pixel range
            other than [0, 1], or a function of NumPy arrays, of which the
            attack needs gradients.
    """

    def __init__(self, attack, network):
        self.attack = attack
        self.classify = Classifier(network, attack.batch_size)
        self._sharding = Sharding()
        self._stages = []
        self._strides = {}  # By device.
        self._is_checked = False
        self._refuse_numpy()

    @property
    def network(self):
        """The network, as `Classifier.network`."""
        return self.classify.network

    @property
    def name(self):
        """The kind of attack."""
        return self.attack.name

    @property
    def title(self):
        """The name by which it was built, or None."""
        return self.attack.title

    @property
    def norm(self):
        """The norm, a class of `fastbat_tf.attacks.norms`."""
        return self.attack.norm

    @property
    def white_box(self):
        """Whether it uses gradients of the attacked network."""
        return self.attack.white_box

    @property
    def loss_name(self):
        """The loss that it maximizes, or None."""
        return self.attack.loss_name

    def rounds(self, classes):
        """The largest number of rounds per example, given the classes."""
        return self.attack.rounds(classes)

    def over(self, sharding):
        """Shares examples among devices and workers.

        Args:
            sharding: A `Sharding`. All of its workers must call this attack
                with the same arguments.

        Returns:
            This attack.
        """
        self._sharding = self.classify.sharding = sharding
        self._stages = []
        return self

    def stages(self):
        """The single attacks that it consists of, in order, all bound."""
        if not self._stages:
            parts = self.attack.stages()
            self._stages = [
                self
                if part is self.attack
                else part.on(self.network).over(self._sharding)
                for part in parts
            ]
        return self._stages

    def __call__(self, images, labels, epsilon, seed=0, listener=None):
        """Attacks a whole data set.

        Args:
            images: uint8 array, or float array in [0, 1], of shape
                `(examples, height, width, channels)`.
            labels: Integer array `(examples,)`.
            epsilon: Float, the radius, in [0, 1] for L-infinity.
            seed: Integer. Defaults to 0.
            listener: Function of two integers, called after every few steps
                with the number of decided examples and the number of all
                examples. Defaults to None.

        Returns:
            An `AttackResult`.

        Raises:
            InputError: If the images are not pixels, the labels are not
                classes, epsilon is out of range, or the network does not
                return logits.
        """
        check_radius(epsilon, self.norm)
        clean = self.classify(images, labels)
        return self.attack_clean(clean, epsilon, seed=seed, listener=listener)

    def attack_clean(self, clean, epsilon, *, seed=0, listener=None):
        """Attacks examples that are classified already.

        Args:
            clean: A `Clean`, what `classify` returned.
            epsilon: Float, the radius.
            seed: Integer. Defaults to 0.
            listener: As for `__call__`. Defaults to None.

        Returns:
            An `AttackResult`.

        Raises:
            InputError: If the network is a function of NumPy arrays, of which
                the attack needs gradients.
        """
        self._refuse_numpy()
        robust, found = clean.correct, np.zeros_like(clean.images)
        for stage in self.stages():
            attack = stage.attack
            start = targets.attacked(attack, clean, robust)
            record = Record.start(start, clean)
            hear = listener and functools.partial(
                _count, listener, record, stage.rounds(clean.logits.shape[-1])
            )
            stage.run(clean, record, epsilon, seed=seed, listener=hear)
            record.update(perturbation=found)
            robust = targets.left(attack, clean, robust, record)
        return AttackResult(clean.correct, robust, found)

    def run(self, clean, record, epsilon, *, seed=0, listener=None):
        """Attacks the robust examples of a record, and updates the record.

        Args:
            clean: A `Clean`.
            record: A `Record`, new or from an interrupted run.
            epsilon: Float, the radius.
            seed: Integer. Defaults to 0.
            listener: Function without arguments, called after every few steps,
                when the record is up to date. Defaults to None.
        """
        open_ones = np.flatnonzero(
            record.robust
            & (record.rounds < self.rounds(clean.logits.shape[-1]))
        )
        size = min(self.attack.batch_size, len(clean.images))

        def attack(device, examples, lock, hear):
            if device not in self._strides:
                self._strides[device] = Strides(self.attack, self.network)
            loop = AttackLoop(
                self.attack,
                self._strides[device],
                clean,
                epsilon,
                seed=seed,
                size=size,
                lock=lock,
            )
            loop.run(record, examples, hear)

        self._sharding.attack(
            attack,
            record,
            open_ones,
            listener=listener,
            one_by_one=is_numpy(self.network),
        )

    def check_gradient(self, clean):
        """Raises an `InputError` if a gradient that is needed does not exist.

        So it does if the target is not one of the classes.

        Args:
            clean: A `Clean`, the examples that were classified.
        """
        for stage in self.attack.stages():
            targets.of(stage, clean)
        if not self._is_checked:
            for network in self._differentiated():
                check_gradient(network, clean.images[:1])
            self._is_checked = True

    def _refuse_numpy(self):
        for network in self._differentiated():
            if is_numpy(network):
                check_gradient(network, None)

    def _differentiated(self):
        """The networks whose gradients the attack uses."""
        found = [
            stage.differentiates(self.network) for stage in self.attack.stages()
        ]
        return [
            member
            for network in found
            if network is not None
            for member in mean_logits.members(network)
        ]


def _count(listener, record, rounds):
    decided = ~record.robust | (record.rounds >= rounds)
    listener(int(decided.sum()), len(decided))
