"""Sizes as people write them."""

import re

from tidewaiter.core.errors import InputError

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_BINARY = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_SIZE = r"(\d{1,18}(?:\.\d{1,6})?)\s*([KMGT]?)(i?)B?"


def parse(text: str, *, what: str) -> int:
    """Bytes of `512`, `20GB` (powers of ten) or `1.5GiB` (powers of two).

    Raises:
        InputError: it is none of these; `what` says in the message what it was to be.
    """
    found = re.fullmatch(_SIZE, text.strip(), re.IGNORECASE)
    if found is None or (found[3] and not found[2]):
        raise InputError(f"{what} is {text[:40]!r}", next_step="Write a size, for example 20GB, 512MiB or 0.")
    return int(float(found[1]) * (_BINARY if found[3] else _UNITS)[found[2].upper()])
