"""The model zoo under the name that it has in a clone: `fastbat_tf.models`."""

from fastbat_tf.models import *  # noqa: F403  For editors and type checkers.
from models import alias as __alias  # noqa: F401  Replaces this module.
