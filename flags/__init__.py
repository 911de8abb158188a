"""The command line: flags, their checks, and the Config that they make.

This is the only package that imports `absl.flags`. It imports no TensorFlow.
"""

from flags.command import Command, fail, get_command, parse

__all__ = ["Command", "fail", "get_command", "parse"]
