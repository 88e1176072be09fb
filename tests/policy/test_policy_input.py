import json

import pytest
from policy_documents import FINDING, GOOD, change, document

from tidewaiter.policy.input import json_schema, shipped_schema

jsonschema = pytest.importorskip("jsonschema", reason="jsonschema comes with the dev tools")


def test_shipped_schema_is_that_of_the_struct() -> None:
    """The schema file that packs are checked against describes exactly the document that is sent."""
    assert json.loads(shipped_schema()) == json.loads(json.dumps(json_schema()))


def test_schema_is_a_draft_2020_12_schema_and_accepts_the_document() -> None:
    """A foreign validator takes the schema, and the document by it."""
    schema = json.loads(shipped_schema())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(schema).validate(change(GOOD, {"findings": [FINDING]}))


@pytest.mark.parametrize("path", ["imagee", "image__usr", "settings__x"])
def test_schema_is_closed(path: str) -> None:
    """A field that the schema does not know is refused by a foreign validator too, at every level."""
    validator = jsonschema.Draft202012Validator(json.loads(shipped_schema()))
    with pytest.raises(jsonschema.ValidationError):
        validator.validate(change(GOOD, {path: 1}))


def test_without_times_forgets_now_and_ages_only() -> None:
    """Two documents that differ only by the passing of time are the same without times."""
    feed = {"ecosystem": "PyPI", "as_of": "2026-01-30T00:00:00Z", "age_days": 2}
    later = document(now="2026-02-01T12:00:00Z", advisories__feeds=[feed])
    assert later != document()
    assert later.without_times() == document().without_times()
    assert document(image__user="1").without_times() != document().without_times()
