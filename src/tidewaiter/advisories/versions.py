"""How version numbers of an ecosystem compare."""

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from packaging.version import InvalidVersion, Version

from tidewaiter.advisories.advisory import RangeKind
from tidewaiter.core.errors import InputError
from tidewaiter.sbom.versions import dpkg

Key = Any
"""Something that compares with other keys of the same order: a `Version`, or tuples of one shape."""

Order = Callable[[str], Key]
"""Key of a version text; raises `ValueError` when the text is no version of this order."""

_REMEMBERED = 100_000

# https://semver.org, section 9 to 11; advisories of ecosystems that allow it leave the minor or patch number out.
_SEMVER = re.compile(
    r"(0|[1-9]\d*)(?:\.(0|[1-9]\d*))?(?:\.(0|[1-9]\d*))?(?:-([0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?"
    r"(?:\+[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?",
    re.ASCII,
)


@lru_cache(_REMEMBERED)
def pep440(text: str) -> Key:
    """Key by PEP 440 (packaging's)."""
    try:
        return Version(text)
    except InvalidVersion as error:
        raise ValueError(f"{text[:100]!r} is no PEP 440 version") from error


@lru_cache(_REMEMBERED)
def debian(text: str) -> Key:
    """Key by deb-version(7)."""
    try:
        return dpkg.key(text)
    except InputError as error:
        raise ValueError(error.message) from error


@lru_cache(_REMEMBERED)
def semver(text: str) -> Key:
    """Key by the precedence of SemVer 2.0, section 11; build metadata does not count."""
    match = _SEMVER.fullmatch(text)
    if match is None:
        raise ValueError(f"{text[:100]!r} is no semantic version")
    numbers = tuple(int(match[group] or 0) for group in (1, 2, 3))
    if match[4] is None:
        return numbers, (1,)
    # A number is lower than any word; a version with a pre-release is lower than the one without.
    parts = tuple((0, int(part), "") if part.isdecimal() else (1, 0, part) for part in match[4].split("."))
    return numbers, (0, parts)


_ORDERS: dict[str, Order] = {"PyPI": pep440, "Debian": debian, "Ubuntu": debian}


def order_of(family: str, kind: RangeKind) -> Order | None:
    """The order that a range of `kind` uses in the ecosystem `family`; None when it is not known here."""
    return semver if kind == "SEMVER" else _ORDERS.get(family)


def release_of(family: str, text: str) -> str:
    """The release that a rebuild carries: `2.11.0` for PyPI's `2.11.0+cpu` (a local version), else `text`."""
    return text.partition("+")[0] if family == "PyPI" else text
