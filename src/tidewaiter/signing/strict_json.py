"""JSON of signed documents: what two parsers could read differently is refused."""

import json
import math
import re
from typing import Any, NoReturn

from tidewaiter.core import limits
from tidewaiter.core.errors import InputError, LimitError

_REFUSE = "Refuse this document: it is broken or made to be read in two ways."

_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key occurs twice")
    return found


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"{text[:20]} is too large a number")
    return number


def loads(data: bytes, *, limit: int = limits.PAYLOAD_BYTES) -> dict[str, Any]:
    """The JSON object in `data`.

    Raises:
        LimitError: it is over `limit` bytes.
        InputError: it is not UTF-8, not one JSON object, nested too deep, has a key twice, half a character, or a
            number that is infinite to some.
    """
    if len(data) > limit:
        raise LimitError(f"the signed document has {len(data)} bytes, over {limit}", next_step=_REFUSE)
    try:
        document = json.loads(
            data.decode(), object_pairs_hook=_unique, parse_constant=_no_constant, parse_float=_finite
        )
        if _SURROGATE.search(data):
            json.dumps(document, ensure_ascii=False).encode()  # fails for one without its other half
    except (ValueError, RecursionError) as error:
        raise InputError(f"the signed document is malformed: {error}", next_step=_REFUSE) from error
    if not isinstance(document, dict):
        raise InputError("the signed document is not a JSON object", next_step=_REFUSE)
    return document
