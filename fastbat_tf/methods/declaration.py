"""Makes the constructor of a method of the options that its class declares."""

import dataclasses
import functools
import inspect

from fastbat_tf.errors import InputError
from fastbat_tf.methods import options, registry
from fastbat_tf.methods.options import Option


def make_dataclass(cls, method):
    """Makes the constructor of a method from its declared options.

    Args:
        cls: The class of the method.
        method: The class `Method`.
    """
    annotations = inspect.get_annotations(cls)
    declared = _find_declared(cls, method)
    _check_declaration(cls, declared, method)
    for name, declaration in declared.items():
        default = declaration.default
        if declaration.formula is not None or declaration.applies is not None:
            # Tells what was given from what was not.
            default = options.Shown(declaration.shown_default)
        metadata = {"option": declaration}
        field = dataclasses.field(default=default, metadata=metadata)
        setattr(cls, name, field)
    # Annotations of other attributes declare no option.
    cls.__annotations__ = {
        name: _find_type(annotations.get(name), option)
        for name, option in declared.items()
    }
    is_generated = not has_own_init(cls)
    dataclasses.dataclass(eq=False, repr=False, init=is_generated)(cls)
    if is_generated:
        cls.__init__.is_generated = True
        cls.__init__ = registry.refusing(cls.__init__)
    cls.__annotations__ = {**cls.__annotations__, **annotations}
    fields = dataclasses.fields(cls)
    cls.options = {field.name: field.metadata["option"] for field in fields}
    try:
        options.resolve(cls.options, {})
    except (NameError, SyntaxError, TypeError, ValueError) as error:
        raise InputError(
            f"The defaults of {cls.__name__} are expected to be allowed, and "
            f"to use options declared before: {error}"
        ) from None
    _resolve_first(cls, method)
    _describe_options(cls)


def _find_declared(cls, method):
    """Returns the options that a class and its mixins declare or change.

    A mixin is a base that is not a `Method`. As in any class, the first class
    in the method resolution order that has an attribute decides its value.
    """
    inherited, declared = cls.options, {}
    for base in reversed(cls.__mro__):
        if base is not cls and issubclass(base, method):
            continue
        for name, value in vars(base).items():
            if base is not next(c for c in cls.__mro__ if name in vars(c)):
                continue
            if name in inherited and not isinstance(value, Option):
                # A plain value is another default of an inherited option.
                value = inherited[name]._replace(
                    default=value, formula=None, shown=None
                )
            if isinstance(value, Option):
                declared[name] = value
    return declared


def _resolve_first(cls, method):
    """Resolves the options before a `__post_init__` that a class defines."""
    own = cls.__post_init__
    if own is method.__post_init__ or hasattr(own, "__wrapped__"):
        return

    @functools.wraps(own)
    def __post_init__(self):
        method.__post_init__(self)
        own(self)

    cls.__post_init__ = __post_init__


def _check_declaration(cls, declared, method):
    name = cls.__name__
    taken = sorted(_reserved(method) & set(declared))
    if taken:
        raise InputError(
            f"An option of {name} is expected to have a name that Method does "
            f"not use itself. Received: option={taken[0]}"
        )
    if has_own_init(cls) and cls.get_config is method.get_config:
        raise InputError(
            f"{name} is expected to declare its options, such as `epsilon: "
            "float = option(8 / 255)`, or to have a `get_config` beside its "
            "`__init__`. Received: __init__"
        )
    for attribute, annotation in inspect.get_annotations(cls).items():
        is_plain = attribute in vars(cls) and attribute not in declared
        if not is_plain or attribute in dir(method):
            continue
        if "ClassVar" not in str(annotation):
            raise InputError(
                f"`{attribute}` of {name} has an annotation, but is no option; "
                f"expected `{attribute}: ... = option(...)`, or no annotation. "
                f"Received: {attribute}={vars(cls)[attribute]}"
            )


def _reserved(method):
    # `replays` is the only attribute that an option may replace.
    return set(dir(method)) - {"replays"}


def _find_type(annotation, option):
    """Returns the type of an argument: its annotation, or the option's type."""
    # A dataclass would make no argument of a `ClassVar`.
    has_type = annotation is not None and "ClassVar" not in str(annotation)
    return annotation if has_type else option.type


def has_own_init(cls):
    """Whether the constructor, perhaps of a base, was written by hand."""
    init = cls.__init__
    return init is not object.__init__ and not hasattr(init, "is_generated")


def _describe_options(cls):
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
