"""Requests that are out to harm: every answer is a clear 4xx or a right one, none is 5xx."""

from typing import Any
from urllib.parse import quote

import pytest
from starlette.testclient import TestClient

from api_sample import Sample
from tidewaiter.web.api import description, routes
from tidewaiter.web.api.route import Route

TEXTS = (
    "<script>alert(1)</script>",
    "' OR 1=1; DROP TABLE artifact; --",
    "%' ESCAPE '",
    "\u202egnp.exe\u202c",
    "long" * 1000,
    "../../../etc/passwd",
    "{{7*7}}${7*7}",
    "-1",
    "9" * 5000,
    "1e309",
    "NaN",
    "\U0001f600" * 50,
    "*" * 40,
    "pkg:pypi/%00",
    "sha256:" + "0" * 64 + "\n",
    "KIND:NAME:TAG@sha256:00",
)
RAW = ("%00", "%ff", "%ed%a0%80", "a%00b", "%c0%ae", "%")
READING = [route for route in routes.every() if route.reads and not route.media_type.startswith("text/event-stream")]


@pytest.fixture(scope="module")
def client(sample: Sample) -> TestClient:
    """A client of whom everything may."""
    return sample.client("admin")


def _fine(client: TestClient, address: str, what: str) -> None:
    answer = client.get(address)
    assert answer.status_code < 500, (what, address[:200], answer.text)
    if answer.status_code >= 400:
        assert answer.headers["content-type"] == "application/problem+json", address[:200]
        problem = answer.json()
        assert problem["detail"]
        assert problem["code"] != "unexpected"


@pytest.mark.parametrize("route", READING, ids=lambda route: str(route.operation))
@pytest.mark.thorough
def test_hostile_text_in_every_place_of_every_route(route: Route, client: TestClient) -> None:
    """Scripts, SQL, marks that turn text around, 4 KB, huge numbers, NUL and bytes that are no UTF-8, everywhere."""
    shown, operation = description.example(route), description.document([route])["paths"][route.path]["get"]
    path, query = shown.get("path", {}), shown.get("query", {})
    hostile = [*(quote(text, safe="") for text in TEXTS), *RAW]
    for parameter in operation["parameters"]:
        for text in hostile:
            parts = {name: quote(str(value), safe=":") for name, value in path.items()}
            asked = {name: quote(str(value), safe="") for name, value in query.items()}
            (parts if parameter["in"] == "path" else asked)[parameter["name"]] = text
            address = route.path.format(**parts) + "?" + "&".join(f"{name}={value}" for name, value in asked.items())
            _fine(client, address, route.operation)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"[" * 100_000, 400),
        (b'{"a":' * 100_000, 400),
        (b'{"kind": "model", "subject": ' + b"[" * 40 + b"]" * 40 + b', "owner": "x"}', 400),
        (b'{"kind": "model", "kind": "model", "subject": "x", "owner": "x"}', 400),
        (b'{"kind": "model", "subject": "x\\u0000", "owner": "x"}', 400),
        (b'{"kind": "model", "subject": "\\ud800", "owner": "x"}', 400),
        (b'{"kind": "model", "subject": "\xff", "owner": "x"}', 400),
        (b'{"kind": "model", "subject": NaN, "owner": "x"}', 400),
        (b'{"kind": "model", "subject": 1e999, "owner": "x"}', 400),
        (b'{"kind": "model", "subject": ' + b"9" * 6000 + b', "owner": "x"}', 400),
        (b"", 400),
        (b"null", 422),
        (b"[]", 422),
        (b'{"kind": "model", "subject": "x", "owner": "x", "admin": true}', 422),
        (b'{"kind": "planet", "subject": "x", "owner": "x"}', 422),
        (b'{"kind": "model", "subject": 5, "owner": "x"}', 422),
    ],
)
def test_hostile_bodies(body: bytes, status: int, client: TestClient) -> None:
    """Depth, keys that stand twice, half characters, numbers that are none, fields that nobody knows: 400 or 422."""
    answer = client.put("/api/v1/owners", content=body, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), answer.text


def test_many_parameters_and_odd_methods(client: TestClient) -> None:
    """A thousand parameters are refused before they are looked at; a method that nobody knows is 405."""
    assert client.get("/api/v1/images?" + "&".join(f"a{number}=1" for number in range(1000))).status_code == 400
    for method in ("TRACE", "OPTIONS", "CONNECT", "BREW", "x" * 200):
        assert client.request(method, "/api/v1/images").status_code == 405


def test_pages_take_no_harm_either(client: TestClient) -> None:
    """The same texts in the addresses of pages: a page or a clear refusal."""
    for text in [*(quote(one, safe="") for one in TEXTS), *RAW]:
        for address in (f"/?search={text}", f"/uses?of={text}", f"/images/{text}", f"/images/x?package={text}"):
            assert client.get(address).status_code < 500, address[:100]


def test_a_name_of_an_image_cannot_break_out_of_a_header(client: TestClient, sample: Sample) -> None:
    """The file name of an SBOM is plain, whatever the repository is called."""
    answer: Any = client.get(f"/api/v1/images/{sample.leaky}/sbom/spdx")
    assert answer.status_code == 200
    assert answer.headers["content-disposition"].count('"') == 2
