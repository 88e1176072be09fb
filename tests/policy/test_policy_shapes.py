import json

import pytest

from tidewaiter.policy.input import shipped_schema
from tidewaiter.policy.shapes import NEVER, SCALAR, UNKNOWN, Fields, Many, Scalar, element, merge, of_schema, of_value


def test_schema_of_the_input_is_understood_whole() -> None:
    """Nothing of the shipped schema is unknown to the checker, else it would accept anything there."""
    shape = of_schema(json.loads(shipped_schema()))
    assert "Unknown" not in repr(shape)
    assert isinstance(shape, Fields)
    assert shape.rest is None
    findings = shape.fields["findings"]
    assert isinstance(findings, Many)
    assert isinstance(findings.items, Fields)
    assert findings.items.fields["severity"] == Scalar(
        frozenset({"critical", "high", "medium", "low", "none", "unknown"})
    )


@pytest.mark.parametrize("schema", [{"anyOf": []}, {}, {"type": "array", "items": {"not": {}}}])
def test_schema_keywords_that_are_not_understood_are_errors(schema: dict[str, object]) -> None:
    """A keyword that the reader does not know is never taken for "anything goes"."""
    with pytest.raises(ValueError, match="unknown kind of schema"):
        of_schema(schema)


def test_merge_keeps_what_both_know() -> None:
    """Either of two objects may be meant; single values and empty collections add no fields."""
    one, other = Fields({"a": SCALAR}), Fields({"b": SCALAR})
    assert merge(one, other) == Fields({"a": SCALAR, "b": SCALAR})
    assert merge(SCALAR, one) == merge(one, SCALAR) == one
    assert merge(Many(NEVER), Many(one)) == Many(one)
    assert merge(Many(one), one) == UNKNOWN
    assert merge(Scalar(frozenset("a")), Scalar(frozenset("b"))) == Scalar(frozenset("ab"))
    assert merge(Scalar(frozenset("a")), SCALAR) == SCALAR


def test_element_of_named_fields_cannot_be_told() -> None:
    """Iterating over an object with named fields gives values of different kinds."""
    assert element(Many(SCALAR)) == SCALAR
    assert element(Fields({}, SCALAR)) == SCALAR
    assert element(Fields({"a": SCALAR})) is None


def test_shape_of_a_value() -> None:
    """Data of a pack is closed: what is not there cannot be named."""
    assert of_value({"a": [{"b": 1}, {"c": 2}]}) == Fields({"a": Many(Fields({"b": SCALAR, "c": SCALAR}))})
    assert of_value([]) == Many(NEVER)
