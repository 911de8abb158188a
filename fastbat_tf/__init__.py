"""Fast adversarial training for Keras 3 classifiers on TensorFlow.

>>> import fastbat_tf
>>> robust = fastbat_tf.RobustClassifier(model, fastbat_tf.FastBAT(8 / 255))

The public names are listed in `__init__.pyi`. Each is imported when it is first
used, so that importing the package, or one of its modules that do not need
TensorFlow, stays fast.
"""

import lazy_loader

from fastbat_tf.saving import registration  # noqa: F401  Keras finds us.

__version__ = "0.1.0"
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
