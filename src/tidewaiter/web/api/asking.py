"""A request read into the structs that its route takes: 422 for what the description rules out, 400 for what it cannot.

Every part is bounded before it is parsed (the address by `bounds`). What two readers could understand differently (a
parameter or a key that stands twice) is refused, and so is what databases do not store (NUL).
"""

import json
import math
from collections.abc import AsyncIterator
from typing import Annotated, Any, NoReturn, get_args, get_origin
from urllib.parse import parse_qsl

import msgspec
from starlette.types import Receive, Scope

from tidewaiter.core import limits
from tidewaiter.web import problems
from tidewaiter.web.problems import HttpError


def path(scope: Scope, kind: type[msgspec.Struct]) -> msgspec.Struct:
    """The parts of the path."""
    return _converted(dict(scope.get("path_params", {})), kind, "path", strict=False)


def query(scope: Scope, kind: type[msgspec.Struct] | None) -> msgspec.Struct | None:
    """The parameters behind the question mark; a name that the route does not know is an error."""
    raw: bytes = scope.get("query_string", b"")
    try:
        pairs = parse_qsl(
            raw.decode(), keep_blank_values=True, errors="strict", max_num_fields=limits.API_PARAMETERS, separator="&"
        )
    except ValueError as error:
        raise problems.malformed(f"more than {limits.API_PARAMETERS} parameters are given") from error
    fields = {} if kind is None else {one.encode_name: one for one in msgspec.structs.fields(kind)}
    unknown = sorted({name for name, _ in pairs} - set(fields))
    if unknown:
        accepted = ", ".join(sorted(fields)) or "none"
        named = ", ".join(repr(name[:80]) for name in unknown[:10])
        raise problems.invalid(f"unknown query parameter {named}", f"Accepted are: {accepted}.")
    if kind is None:
        return None
    values: dict[str, Any] = {}
    for name, value in pairs:
        if _many(fields[name].type):
            values.setdefault(name, []).append(value)
        elif name in values:
            raise problems.invalid(f"the parameter {name} is given twice", "Give it once.")
        else:
            values[name] = value
    return _converted(values, kind, "query", strict=False)


def _many(kind: Any) -> bool:  # noqa: ANN401 - an annotation may be anything
    if get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    return get_origin(kind) is tuple


async def read(scope: Scope, receive: Receive, limit: int) -> bytes:
    """The body; 413 when it is longer than `limit`."""
    return b"".join([part async for part in parts(scope, receive, limit)])


async def parts(scope: Scope, receive: Receive, limit: int) -> AsyncIterator[bytes]:
    """The body as it arrives; 413 when it is longer than `limit`."""
    too_long = HttpError(
        413, f"the body is longer than {limit} bytes", next_step="Send less at once.", code="over_limit"
    )
    headers = dict(scope["headers"])
    length = headers.get(b"content-length", b"")
    if length.isdigit() and (len(length) > 18 or int(length) > limit):
        raise too_long
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise problems.malformed("the connection ended within the body")
        part = message.get("body", b"")
        size += len(part)
        if size > limit:
            raise too_long
        yield part
        if not message.get("more_body", False):
            return


def body(data: bytes, content_type: str, kind: type[msgspec.Struct]) -> msgspec.Struct:
    """The body, which must be JSON of `kind`."""
    media_type, _, parameters = content_type.partition(";")
    charset = parameters.strip().lower().replace('"', "")
    if media_type.strip().lower() != "application/json" or charset not in {"", "charset=utf-8"}:
        raise HttpError(
            415,
            f"the body is {content_type[:100] or 'of no media type'}",
            next_step="Send JSON in UTF-8, with the header `Content-Type: application/json`.",
            code="bad_input",
            headers={"Accept": "application/json"},
        )
    try:
        document = json.loads(data.decode(), object_pairs_hook=_once, parse_constant=_no_number, parse_float=_number)
    except RecursionError as error:
        raise problems.malformed("the body is nested too deeply") from error
    except ValueError as error:
        raise problems.malformed(f"the body is no JSON: {error}"[:300]) from error
    _storable(document)
    return _converted(document, kind, "body", strict=True)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return found


def _number(text: str) -> float:
    """A number with a point or an exponent; `1.0` is a whole one, as JSON Schema has it."""
    found = float(text)
    if not math.isfinite(found):
        _no_number(text[:20])
    return int(found) if found.is_integer() and abs(found) < 2**53 else found


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number of JSON")


def _storable(document: object) -> None:
    """Raise when it is nested too deeply, or a text in it is none that can be stored or sent on."""
    waiting = [(document, 0)]
    while waiting:
        value, depth = waiting.pop()
        if depth > limits.API_DEPTH:
            raise problems.malformed(f"the body is nested deeper than {limits.API_DEPTH}")
        if isinstance(value, dict):
            waiting += [(one, depth + 1) for pair in value.items() for one in pair]
        elif isinstance(value, list):
            waiting += [(one, depth + 1) for one in value]
        elif isinstance(value, str) and ("\0" in value or not _encodable(value)):
            raise problems.malformed("a text in the body has a NUL or half a surrogate pair in it")


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _converted(value: object, kind: type[msgspec.Struct], where: str, *, strict: bool) -> msgspec.Struct:
    try:
        return msgspec.convert(value, kind, strict=strict)
    except msgspec.ValidationError as error:
        told = f"{where}: {error}"[:400]
        # A schema can ask for the form of a moment, and not rule out the 31st of February.
        raise (problems.malformed(told) if "Invalid RFC3339" in told else problems.invalid(told)) from error
