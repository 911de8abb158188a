"""What `help`, an editor and the shell show of an attack; its copies."""

import functools
import inspect
from typing import Any, Self, Unpack, get_origin


class Shown:
    """Keeps and shows arguments: of a class in its signature, and of an object.

    The classes below the first one pass settings on to it as
    `**settings: Unpack[Settings]`. Type checkers see what these are;
    `inspect`, which IPython and `help` ask, does not.
    """

    _given: tuple[tuple, dict[str, Any]]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        first = cls.__mro__[cls.__mro__.index(Shown) - 1]
        signature = inspect.signature(cls.__init__)
        _, *parameters = signature.parameters.values()
        if parameters and get_origin(parameters[-1].annotation) is Unpack:
            own = [parameter.name for parameter in parameters]
            parameters[-1:] = [
                parameter
                for parameter in inspect.signature(first).parameters.values()
                if parameter.kind is parameter.KEYWORD_ONLY
                and parameter.name not in own
            ]
        cls.__signature__ = inspect.Signature(parameters)

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        shown = super().__new__(cls)
        shown._given = args, kwargs
        return shown

    def __reduce__(self) -> tuple:
        """Copies, also to another process, are built from the arguments."""
        args, kwargs = self._given
        build = functools.partial(type(self), **kwargs)
        return build, args, {"title": getattr(self, "title", None)}

    def __repr__(self) -> str:
        args, kwargs = self._given
        listed = [repr(value) for value in args]
        listed += [f"{name}={value!r}" for name, value in kwargs.items()]
        return f"{type(self).__name__}({', '.join(listed)})"
