"""Licences as Hugging Face names them."""

import re
from typing import NamedTuple

# Of models and data in general; those of one vendor's models are `other`.
IDENTIFIERS = frozenset(
    """
    afl-3.0 agpl-3.0 apache-2.0 artistic-2.0 bsd bsd-2-clause bsd-3-clause
    bsd-3-clause-clear bsl-1.0 c-uda cc cc-by-2.0 cc-by-2.5 cc-by-3.0 cc-by-4.0
    cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0
    cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cc-by-nd-4.0 cc-by-sa-3.0
    cc-by-sa-4.0 cc0-1.0 cdla-permissive-1.0 cdla-permissive-2.0
    cdla-sharing-1.0 ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 eupl-1.2 gfdl
    gpl gpl-2.0 gpl-3.0 isc lgpl lgpl-2.1 lgpl-3.0 lgpl-lr lppl-1.3c mit mpl-2.0
    ms-pl ncsa odbl odc-by ofl-1.1 openrail openrail++ osl-3.0 pddl postgresql
    unknown unlicense wtfpl zlib
    """.split()
)
OTHER = "other"


class License(NamedTuple):
    """A licence.

    Attributes:
        identifier: One of `IDENTIFIERS`, or `"other"`.
        name: String, the name of another one in lower case; else None.
    """

    identifier: str
    name: str | None = None


def parse(text: str) -> License:
    """Finds a licence by its name.

    Args:
        text: String, such as `"Apache-2.0"`.

    Example:

    >>> parse("Apache 2.0"), parse("Our Terms, v1")
    (License(identifier='apache-2.0', name=None), License(identifier='other', name='our-terms-v1'))
    """  # noqa: E501
    words = "-".join(text.lower().split())
    if words in IDENTIFIERS:
        return License(words)
    name = re.sub("[^a-z0-9.]+", "-", words).strip("-.")
    return License(OTHER, name if name not in ("", OTHER) else None)
