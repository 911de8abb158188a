"""The command line: flags, their checks, and the Config that they make.

This is the only package that imports `absl.flags`. It imports no TensorFlow.
Once installed, it is `fastbat_tf.flags`.
"""

import lazy_loader

# Imported at their first use: `start` comes before all other modules.
__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=["command"],
    submod_attrs={"command": ["Command", "fail", "get_command", "parse"]},
)
