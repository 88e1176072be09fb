"""JSON of signed documents: what two parsers could read differently is refused."""

import json
from typing import Any, NoReturn

from tidewaiter.core import limits
from tidewaiter.core.errors import InputError, LimitError

_REFUSE = "Refuse this document: it is broken or made to be read in two ways."


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key occurs twice")
    return found


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def loads(data: bytes, *, limit: int = limits.PAYLOAD_BYTES) -> dict[str, Any]:
    """The JSON object in `data`.

    Raises:
        LimitError: it is over `limit` bytes.
        InputError: it is not UTF-8, not one JSON object, nested too deep, or has a key twice.
    """
    if len(data) > limit:
        raise LimitError(f"the signed document has {len(data)} bytes, over {limit}", next_step=_REFUSE)
    try:
        document = json.loads(data.decode(), object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise InputError(f"the signed document is malformed: {error}", next_step=_REFUSE) from error
    if not isinstance(document, dict):
        raise InputError("the signed document is not a JSON object", next_step=_REFUSE)
    return document
