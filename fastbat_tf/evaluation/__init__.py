"""Measures the robustness of any classifier; needs no run directory.

The names are listed in `__init__.pyi`. They are imported when they are first
used: the modules that draw and summarize need no TensorFlow.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
