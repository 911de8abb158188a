"""The model zoo under the name that it has in a clone: `fastbat_tf.models`."""

from models import alias as __alias  # noqa: F401 `models` is that package.
