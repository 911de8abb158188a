"""TensorFlow for pyright: every name is there, of any type.

The stubs that come with pyright know a part of TensorFlow, and report as errors
what they do not know.
"""

from typing import Any

def __getattr__(name: str) -> Any: ...
