"""The description of the API: valid, complete, and the source of the reference page."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import validate

from tidewaiter.web.api import description, reference, routes
from tidewaiter.web.api.route import JSON, Route

ROOT = Path(__file__).resolve().parent.parent.parent
ROUTES = routes.every()
DOCUMENT: dict[str, Any] = json.loads(msgspec.json.encode(description.document(ROUTES)))


def _operation(route: Route) -> dict[str, Any]:
    found: dict[str, Any] = DOCUMENT["paths"][route.path][route.method.lower()]
    return found


def _check(value: object, schema: dict[str, Any]) -> None:
    whole = {**schema, "components": DOCUMENT["components"]}
    OAS31Validator(whole, format_checker=OAS31Validator.FORMAT_CHECKER).validate(value)


def test_the_document_is_openapi_3_1() -> None:
    """The validator of the OpenAPI specification finds nothing, and every operation has a name of its own."""
    validate(DOCUMENT)
    names = [route.operation for route in ROUTES]
    assert len(names) == len(set(names)) > 40


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: str(route.operation))
def test_every_operation_has_an_example_that_fits(route: Route) -> None:
    """Path, query, body and answer of the example fit the schemas of the document and the types of the route."""
    shown, operation = description.example(route), _operation(route)
    for where in ("path", "query"):
        kind = route.takes.get(where)
        required = [] if kind is None else [one.encode_name for one in msgspec.structs.fields(kind) if one.required]
        assert set(required) <= set(shown.get(where, {})), f"{route.operation}: an example of {where} is missing"
        if kind is not None:
            msgspec.convert(shown.get(where, {}), kind, strict=False)
        for name, value in shown.get(where, {}).items():
            (one,) = (one for one in operation["parameters"] if one["in"] == where and one["name"] == name)
            _check(value, one["schema"])
    if "body" in route.takes:
        _check(shown["body"], operation["requestBody"]["content"][JSON]["schema"])
        msgspec.convert(shown["body"], route.takes["body"])
    if route.gives is not None:
        _check(shown["answer"], operation["responses"][str(route.status)]["content"][JSON]["schema"])
        msgspec.convert(shown["answer"], route.gives)


def test_examples_are_of_operations_that_there_are() -> None:
    """No example is left of an operation that is gone."""
    folder = Path(description.__file__).parent / "examples"
    for file in folder.glob("*.json"):
        known = {route.operation for route in ROUTES if route.tag == file.stem}
        assert set(description.examples(file.stem)) <= known, file.name


def test_the_reference_page_is_the_one_that_is_written() -> None:
    """`docs/reference/api.md` is what the command makes of the description."""
    written = (ROOT / "docs" / "reference" / "api.md").read_text(encoding="utf-8")
    assert written == reference.page(description.document(ROUTES)), (
        "write it anew: python -m tidewaiter.web.api.reference > docs/reference/api.md"
    )
