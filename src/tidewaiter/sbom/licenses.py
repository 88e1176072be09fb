"""Licence texts: which are SPDX expressions, and which are only what somebody wrote."""

import re
from functools import cache, lru_cache
from pathlib import Path

import msgspec
from license_expression import Licensing, build_spdx_licensing, vendored_scancode_licensedb_index_location

# An expression is short and plain; anything else is prose and never reaches the parser.
_PLAIN = re.compile(r"[A-Za-z0-9.+()\- ]{1,300}")
_NESTING = 10


@cache
def load() -> bytes:
    """The list of SPDX, read from its file. A process that can open none later calls this before."""
    return Path(vendored_scancode_licensedb_index_location).read_bytes()


@cache
def _licensing() -> Licensing:
    return build_spdx_licensing(msgspec.json.decode(load()))


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
