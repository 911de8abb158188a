"""What a method's class says of its options, beside their declarations."""

import inspect


def find_type(annotation, option):
    """Returns the type of an argument: its annotation, or the option's type."""
    # A dataclass would make no argument of a `ClassVar`.
    has_type = annotation is not None and "ClassVar" not in str(annotation)
    return annotation if has_type else option.type


def has_own_init(cls):
    """Whether the constructor, perhaps of a base, was written by hand."""
    init = cls.__init__
    return init is not object.__init__ and not hasattr(init, "is_generated")


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
