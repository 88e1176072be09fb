"""Shapes of values, as far as they can be told without running a rule: what fields a reference may name."""

from typing import NamedTuple


class Unknown(NamedTuple):
    """Nothing is known; every reference into it is accepted."""


class Scalar(NamedTuple):
    """A string, number, boolean or null; `choices` when only certain strings can stand here."""

    choices: frozenset[str] | None = None


class Many(NamedTuple):
    """An array or a set."""

    items: "Shape"


class Fields(NamedTuple):
    """An object: its fields, and the shape of any other field (None: there is no other)."""

    fields: dict[str, "Shape"]
    rest: "Shape | None" = None


class Never(NamedTuple):
    """No value at all: what an empty collection holds."""


Shape = Unknown | Never | Scalar | Many | Fields

UNKNOWN = Unknown()
NEVER = Never()
SCALAR = Scalar()


def merge(left: Shape, right: Shape) -> Shape:
    """The shape of a value that is one or the other, for telling which fields it may have."""
    if isinstance(left, Scalar) and isinstance(right, Scalar):
        return Scalar(left.choices | right.choices if left.choices and right.choices else None)
    for one, other in ((left, right), (right, left)):
        # A single value has no fields, so the other shape says all (`default found := false`).
        if isinstance(one, Never) or (isinstance(one, Scalar) and isinstance(other, (Many, Fields))):
            return other
    if isinstance(left, Many) and isinstance(right, Many):
        return Many(merge(left.items, right.items))
    if isinstance(left, Fields) and isinstance(right, Fields):
        fields = {
            name: merge(left.fields[name], right.fields[name])
            if name in left.fields and name in right.fields
            else left.fields.get(name, right.fields.get(name, UNKNOWN))
            for name in [*left.fields, *(name for name in right.fields if name not in left.fields)]
        }
        rests = [rest for rest in (left.rest, right.rest) if rest is not None]
        return Fields(fields, merge_all(rests) if rests else None)
    return UNKNOWN


def merge_all(shapes: list[Shape]) -> Shape:
    """The shape of a value that is any one of `shapes`; no value when there are none."""
    result: Shape = NEVER
    for shape in shapes:
        result = merge(result, shape)
    return result


def element(shape: Shape) -> Shape | None:
    """Shape of what `some x in shape` gives; None when the fields differ, so that nothing can be checked."""
    if isinstance(shape, Many):
        return shape.items
    if isinstance(shape, Fields):
        if shape.fields:
            return None
        return UNKNOWN if shape.rest is None else shape.rest
    return UNKNOWN


def of_value(value: object) -> Shape:
    """Shape of a JSON value."""
    if isinstance(value, dict):
        return Fields({str(name): of_value(field) for name, field in value.items()})
    if isinstance(value, list):
        return Many(merge_all([of_value(item) for item in value]))
    return SCALAR


def of_schema(schema: dict[str, object]) -> Shape:
    """Shape that a JSON schema describes; raises `ValueError` or `TypeError` for what this reader does not know."""
    definitions = schema.get("$defs", {})
    if not isinstance(definitions, dict):
        raise TypeError("$defs is not an object")
    return _of_schema(schema, definitions)


def _of_schema(schema: object, definitions: dict[str, object]) -> Shape:
    if not isinstance(schema, dict):
        raise TypeError(f"not a schema: {schema!r}")
    reference = schema.get("$ref")
    if isinstance(reference, str):
        return _of_schema(definitions[reference.removeprefix("#/$defs/")], definitions)
    if "enum" in schema:
        return Scalar(frozenset(schema["enum"]))
    if schema.get("anyOf"):
        return merge_all([_of_schema(option, definitions) for option in schema["anyOf"]])
    kind = schema.get("type")
    if kind == "array":
        return Many(_of_schema(schema["items"], definitions))
    if kind == "object":
        fields = {name: _of_schema(field, definitions) for name, field in schema.get("properties", {}).items()}
        rest = schema.get("additionalProperties", True)
        return Fields(fields, None if rest is False else UNKNOWN if rest is True else _of_schema(rest, definitions))
    if kind in {"string", "number", "integer", "boolean", "null"}:
        return SCALAR
    raise ValueError(f"unknown kind of schema: {schema!r}")
