"""Licence texts: which are SPDX expressions, and which are only what somebody wrote."""

import re
from functools import cache, lru_cache

from license_expression import ExpressionError, ExpressionParseError, Licensing, get_spdx_licensing

# An expression is short and plain; anything else is prose and never reaches the parser.
_PLAIN = re.compile(r"[A-Za-z0-9.+()\- ]{1,300}")
_NESTING = 10


@cache
def _licensing() -> Licensing:
    return get_spdx_licensing()


@lru_cache(maxsize=4096)
def expression(text: str) -> str | None:
    """`text` as an SPDX licence expression in its canonical spelling, or None when it is none.

    Only identifiers of the SPDX list count: an expression that names a `LicenseRef-` is None, because its text
    would have to come with it.
    """
    if not _PLAIN.fullmatch(text) or text.count("(") > _NESTING or "licenseref" in text.lower():
        return None
    try:
        parsed = _licensing().parse(text, validate=True, strict=True)
    except Exception:  # noqa: BLE001  besides its own two errors, errors of its code: IndexError, AssertionError
        return None
    if parsed is None:
        return None
    canonical = str(parsed)
    return None if "LicenseRef" in canonical else canonical


def is_single(canonical: str) -> bool:
    """Whether a canonical expression is one licence identifier, without operator or exception."""
    return " " not in canonical and not canonical.endswith("+")


def conjunction(canonicals: list[str]) -> str:
    """One expression that says that all of `canonicals` (at least one) apply."""
    if len(canonicals) == 1:
        return canonicals[0]
    return " AND ".join(f"({text})" if " " in text else text for text in canonicals)
