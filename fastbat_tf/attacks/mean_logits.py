"""Several networks, attacked as one."""

import tensorflow as tf

from fastbat_tf.errors import InputError


class Ensemble:
    """The mean of the logits of several networks, with equal weights.

    ```
    l(x) = (l_1(x) + ... + l_K(x)) / K
    ```

    Reference: Dong et al., CVPR 2018 (arXiv 1710.06081), section 3.3: of their
    ensembles, in logits, in probabilities (as Liu et al., ICLR 2017, arXiv
    1611.02770) and in losses, this one transfers best.

    Args:
        members: Sequence of callables from images to logits `(batch,
            classes)`.

    Attributes:
        members: Tuple of these.

    Raises:
        InputError: When it is called, if the numbers of classes differ.
    """

    def __init__(self, members):
        self.members = tuple(members)

    def __call__(self, images):
        """Returns the mean of the logits, a float32 tensor."""
        logits = [
            tf.cast(member(images), tf.float32) for member in self.members
        ]
        classes = [each.shape[-1] for each in logits]
        if len({count for count in classes if count is not None}) > 1:
            raise InputError(
                "The surrogates are expected to have the same classes. "
                f"Received: classes={', '.join(map(str, classes))}"
            )
        return tf.add_n(logits) / len(logits)


def together(networks):
    """Returns the only network, or the `Ensemble` of several."""
    return networks[0] if len(networks) == 1 else Ensemble(networks)


def members(network):
    """Returns the networks of an `Ensemble`, or the network alone."""
    return network.members if isinstance(network, Ensemble) else (network,)
