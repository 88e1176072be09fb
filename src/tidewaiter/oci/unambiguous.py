"""JSON documents that every reader reads alike.

Runtimes read manifests and configs with Go's `encoding/json`: of a key that stands twice the last counts, objects under
it are merged, and the case of a field's name does not matter. What such a reader and this one would understand
differently is refused.
"""

from collections.abc import Iterator
from functools import cache
from typing import Any, get_args

import msgspec


def _written(data: bytes) -> int:
    """How many keys stand in a JSON document: outside of texts, a colon follows each, and nothing else."""
    bare = data.replace(b"\\\\", b"").replace(b'\\"', b"") if b"\\" in data else data
    return sum(part.count(b":") for part in bare.split(b'"')[::2])


def _kept(document: object) -> int:
    """How many keys are left of them, once of two alike in one object one is dropped."""
    count, waiting = 0, [document]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            count += len(value)
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value
    return count


def _structs(annotation: Any) -> Iterator[type[msgspec.Struct]]:  # noqa: ANN401  an annotation may be anything
    """The structs that values of a field consist of."""
    if isinstance(annotation, type) and issubclass(annotation, msgspec.Struct):
        yield annotation
    for argument in get_args(annotation):
        yield from _structs(argument)


@cache
def _fields(kind: type[msgspec.Struct]) -> dict[str, tuple[str, tuple[type[msgspec.Struct], ...]]]:
    """By folded name of each field: its name as written in documents, and what its values consist of."""
    return {
        field.encode_name.casefold(): (field.encode_name, tuple(_structs(field.type)))
        for field in msgspec.structs.fields(kind)
    }


def _check(value: object, kind: type[msgspec.Struct]) -> None:
    if isinstance(value, list):
        for item in value:
            _check(item, kind)
    if not isinstance(value, dict):
        return
    fields = _fields(kind)
    for key, item in value.items():
        name, kinds = fields.get(key.casefold(), (key, ()))
        if name != key:
            raise ValueError(f"the key {key[:80]!r} is {name!r} to some readers")
        for inner in kinds:
            _check(item, inner)


def read(data: bytes, *kinds: type[msgspec.Struct]) -> Any:  # noqa: ANN401  # whatever JSON may be
    """What `data`, a document of any of `kinds`, says.

    Keys of maps, such as annotations, may differ in case alone.

    Raises:
        ValueError: it may be read in two ways, or is no JSON.
        RecursionError: it is nested too deep.
    """
    document = msgspec.json.decode(data)
    if _kept(document) != _written(data):
        raise ValueError("a key stands twice in one object")
    for kind in kinds:
        _check(document, kind)
    return document
