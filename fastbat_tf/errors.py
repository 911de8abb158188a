"""Errors that a user can act on: one line, no traceback on the command line."""


class InputError(ValueError):
    """A setting, file or image is not what was expected.

    The message says what, what was expected, and `Received: name=value`.
    """


class NonFiniteError(ArithmeticError):
    """A loss or gradient became infinite or NaN in training."""
