"""The attacks that can lead toward a class of the user's choice."""

import copy

from fastbat_tf.attacks import losses
from fastbat_tf.attacks.base import SteppedAttack
from fastbat_tf.attacks.inputs import as_count
from fastbat_tf.errors import InputError


class TargetableAttack(SteppedAttack):
    """A single attack that can lead toward a class of the user's choice.

    Without a target it maximizes a loss L of the label y, and succeeds when the
    model predicts any other class. With a target t it maximizes

    ```
    ce      log softmax(z)_t, so that it minimizes the cross-entropy of t
    margin  z_t - max_{i != t} z_i
    dlr     (z_t - z_y) / (z_pi1 - (z_pi3 + z_pi4) / 2)
    ```

    in the same ball, and succeeds when the model predicts t. Examples of the
    class t are not attacked. The reported image is the first that reaches the
    target; otherwise a misclassified one, if a round ended with one; otherwise
    that of the highest loss. `robust` says, as without a target, whether it is
    classified correctly, so a third class counts as broken. This robust
    accuracy is an upper bound: an attack without a target is free to take the
    nearest class.

    A subclass calls `choose` in its constructor. To give each image its own
    target, pass `targets` to the call instead.

    Reference: Kurakin et al., ICLR 2017 (arXiv 1611.01236), section 2; Carlini
    & Wagner, S&P 2017 (arXiv 1608.04644), for the margin.

    Attributes:
        target: Integer, the class to reach. None without one, and if the call
            gives the targets.
        is_targeted: Whether there are targets.
        loss_name: The name of the loss that is maximized.
        loss: The loss, a function of `fastbat_tf.attacks.losses`.

    Example:

    ```python
    attack = fb.attacks.PGD(8 / 255, steps=20, target=3)
    reached = attack(model, images, labels).predictions == 3
    attack = fb.attacks.PGD(8 / 255, steps=20)
    found = attack(model, images, labels, targets=(labels + 1) % 10)
    ```
    """

    def choose(self, loss: str, target: int | None) -> None:
        """Sets the loss and the target.

        Args:
            loss: A key of `losses.LOSSES`.
            target: Integer of at least 0, or None.

        Raises:
            InputError: If there is no such loss, or class.
        """
        self.loss = losses.get(loss)
        self.loss_name = loss
        self._loss_of_label = loss
        if target is not None:
            self.target = as_count("target", target, lowest=0)
            self._use_targets()

    def toward_each(self) -> "TargetableAttack":
        """Returns this attack for calls that give the targets."""
        if self.is_targeted:
            raise InputError(
                "`targets` are expected for an attack without a target of its "
                f"own. Received: target={self.target}"
            )
        attack = copy.copy(self)
        attack._use_targets()
        return attack

    def ask(self, network, loss, problem, point, *, samples=1):
        """Evaluates the network; with targets, they decide on success."""
        answer = super().ask(network, loss, problem, point, samples=samples)
        if not (self.is_targeted and self.stops):
            return answer
        reached = answer.prediction["predicted"] == problem["targets"]
        return answer._replace(correct=~reached)

    def _use_targets(self):
        self.is_targeted = True
        self.loss_name = losses.toward(self._loss_of_label)
        self.loss = losses.get(self.loss_name)
