"""JSON from outside, as values of declared shape: bounded in size, depth and number, and without duplicate keys."""

import json
from itertools import pairwise
from typing import TypeVar

import msgspec

from tidewaiter.core import limits
from tidewaiter.core.errors import InputError, LimitError

_T = TypeVar("_T")
_BRACKETS = bytes.maketrans(b"[]", b"{}")
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_NEXT = "Write the document again with the tool that made it, as CycloneDX, SPDX or Syft JSON."


def refused(where: str, what: str) -> InputError:
    """An error that says what is wrong with the document `where`."""
    return InputError(f"{where}: {what}", next_step=_NEXT)


def over(where: str, what: str) -> LimitError:
    """An error that says over which bound the document `where` is."""
    return LimitError(f"{where}: {what}", next_step="Do not use this document, or split it.")


class _TwiceError(ValueError):
    pass


def _once(pairs: list[tuple[str, object]]) -> None:
    """Nothing at all, so that checking a document keeps none of it."""
    if len({key for key, _ in pairs}) != len(pairs):
        twice = next(one for one, other in pairwise(sorted(key for key, _ in pairs)) if one == other)
        raise _TwiceError(f"it has the key {twice[:60]!r} twice in one object")


def _constant(name: str) -> None:
    raise ValueError(f"it holds {name}, which is no JSON")


def check(data: bytes, where: str) -> None:
    """Nothing for a JSON text within the bounds.

    Raises:
        InputError: it is no JSON, or names a key twice in one object, which readers would understand differently.
        LimitError: it is too large, too deep, or holds too many values.
    """
    if len(data) > limits.SBOM_BYTES:
        raise over(where, f"it has more than {limits.SBOM_BYTES} bytes")
    if data.count(b",") + data.count(b"[") + data.count(b"{") > limits.SBOM_VALUES:
        raise over(where, f"it holds more than {limits.SBOM_VALUES} values")
    try:
        json.loads(data.decode(), object_pairs_hook=_once, parse_int=len, parse_constant=_constant)
    except _TwiceError as error:
        raise refused(where, str(error)) from error
    except RecursionError as error:
        raise over(where, f"it is nested deeper than {limits.JSON_DEPTH}") from error
    except ValueError as error:  # JSONDecodeError and UnicodeDecodeError among them
        raise refused(where, f"it is no JSON: {str(error)[:100]}") from error
    # Without escapes every second piece between quotes is a string.
    outside = data.replace(rb"\\", b"").replace(rb"\"", b"").split(b'"')[::2]
    brackets = b"".join(outside).translate(_BRACKETS, _NO_BRACKETS)
    for _ in range(limits.JSON_DEPTH):
        if not brackets:
            return
        brackets = brackets.replace(b"{}", b"")  # one level of all of them
    if brackets:
        raise over(where, f"it is nested deeper than {limits.JSON_DEPTH}")


def decode(data: bytes | msgspec.Raw, shape: type[_T], where: str) -> _T:
    """The part of a checked document that `shape` declares; raises `InputError` when it has another shape."""
    try:
        return msgspec.json.decode(data, type=shape)
    except (ValueError, RecursionError) as error:
        raise refused(where, f"it is not what its format allows: {str(error)[:150]}") from error
