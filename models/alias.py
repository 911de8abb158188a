"""Makes `models` and its modules other names of `fastbat_tf.models`.

`import models.registry` and `import fastbat_tf.models.registry` give the same
module, so that Keras knows each function of the zoo once.
"""

import importlib
import importlib.machinery
import sys

from fastbat_tf import models


class _Finder:
    """Finds `models.<name>`, which its loader takes from `fastbat_tf`."""

    @staticmethod
    def find_spec(fullname, path=None, target=None):
        del path, target
        if not fullname.startswith("models."):
            return None
        return importlib.machinery.ModuleSpec(fullname, _Loader())


class _Loader:
    """Puts the module of `fastbat_tf.models` in the place of a new one."""

    @staticmethod
    def create_module(spec):
        del spec

    @staticmethod
    def exec_module(module):
        name = module.__name__
        sys.modules[name] = importlib.import_module(f"fastbat_tf.{name}")


for _name in [name for name in sys.modules if name.startswith(models.__name__)]:
    sys.modules[_name.removeprefix("fastbat_tf.")] = sys.modules[_name]
sys.meta_path.insert(0, _Finder())
