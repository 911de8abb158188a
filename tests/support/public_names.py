"""The public names of the library, as `fastbat_tf/__init__.pyi` lists them."""

import types

import fastbat_tf


def public_names():
    """Returns the public objects by name, such as `attacks.PGD`.

    A listed package stands for what it lists itself.
    """
    found = {}
    for name in fastbat_tf.__all__:
        value = getattr(fastbat_tf, name)
        if isinstance(value, types.ModuleType):
            found |= {
                f"{name}.{inner}": getattr(value, inner)
                for inner in value.__all__
            }
        else:
            found[name] = value
    return found
