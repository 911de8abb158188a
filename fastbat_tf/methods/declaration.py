"""What a method's class says of its options, beside their declarations."""

import functools
import inspect

from fastbat_tf.methods import registry


def find_type(annotation, option):
    # A dataclass would make no argument of a `ClassVar`.
    has_type = annotation is not None and "ClassVar" not in str(annotation)
    return annotation if has_type else option.type


def has_own_init(cls):
    """Whether the constructor, perhaps of a base, was written by hand."""
    init = cls.__init__
    return init is not object.__init__ and not hasattr(init, "is_generated")


def refusing(init):
    """Makes a constructor that says which methods have a wrong option."""

    @functools.wraps(init)
    def __init__(self, *args, **kwargs):
        # Python itself refuses what is no option of any method.
        if self.name in registry.METHODS:
            registry.refuse_options_of_others(
                self.name, kwargs, known=self.options
            )
        init(self, *args, **kwargs)

    __init__.is_generated = True  # type: ignore[attr-defined]
    return __init__


def describe_options(cls):
    """Adds the arguments to a docstring that does not describe them."""
    text = inspect.cleandoc(cls.__doc__ or "")
    if not cls.options or has_own_init(cls) or "Args:" in text:
        return
    lines = [
        f"    {name}: {(option.help or option.type.__name__).rstrip('.')}. "
        f"Defaults to `{option.shown_default}`."
        for name, option in cls.options.items()
    ]
    cls.__doc__ = "\n".join([text, "", "Args:", *lines])
