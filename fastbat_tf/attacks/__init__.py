"""Attacks that measure robustness: as functions, and by name.

>>> attack = fastbat_tf.attacks.PGD(epsilon=8 / 255, steps=20)
>>> adversarial = attack(model, images, labels)

The names are listed in `__init__.pyi`. The classes are imported when they are
first used: the names of attacks are read without TensorFlow.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
