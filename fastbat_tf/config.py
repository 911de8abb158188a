"""The settings of a run, resolved once."""


def parse_fraction(text):
    """`8/255` or `0.0314` as a float."""
    numerator, _, denominator = text.partition("/")
    return float(numerator) / float(denominator or 1)
