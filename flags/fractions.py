"""Flags whose values are fractions of the pixel range, such as `8/255`."""

from absl import flags as absl_flags

from fastbat_tf.experiment.config import parse_fraction

# The flags belong to the modules that call `define`, not to this one.
absl_flags.disclaim_key_flags()


class FractionParser(absl_flags.ArgumentParser):
    """Parses `8/255` or `0.0314` as a float."""

    syntactic_help = "a number or a quotient, such as 8/255"

    def parse(self, argument):
        if isinstance(argument, str):
            return parse_fraction(argument)
        return float(argument)

    def flag_type(self):
        return "fraction"


class FractionListParser(FractionParser):
    """Parses `8/255,16/255` as a tuple of floats."""

    def parse(self, argument):
        if isinstance(argument, str):
            return tuple(parse_fraction(part) for part in argument.split(","))
        return tuple(argument)


def define(name, default, help_text, parser=None):
    """Defines a flag whose value is a fraction.

    Args:
        name: String, the name of the flag.
        default: Float, or None.
        help_text: String.
        parser: An `absl.flags.ArgumentParser`. Defaults to a `FractionParser`.
    """
    return absl_flags.DEFINE(
        parser or FractionParser(),
        name,
        default,
        help_text,
        serializer=absl_flags.ArgumentSerializer(),
    )
