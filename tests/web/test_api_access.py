"""Who may what: every route of the application, asked with every role, against `docs/reference/api-access.md`."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, get_args

import pytest
from fastapi import FastAPI
from starlette.routing import Mount
from starlette.testclient import TestClient

from api_sample import Sample
from tidewaiter.access import tokens, users
from tidewaiter.access.roles import Role
from tidewaiter.catalog.catalog import Catalog
from tidewaiter.web.api import description, routes
from tidewaiter.web.app import create

TABLE = Path(__file__).resolve().parent.parent.parent / "docs" / "reference" / "api-access.md"
ROLES: tuple[Role, ...] = get_args(Role)
ASKERS = (*ROLES, "anonymous", "nobody")
"""`anonymous`: who gives no name where those may read; `nobody`: where they may not."""
_ROW = re.compile(r"^\| `([A-Z]+) ([^`]+)` \| ([^|]*) \|(.*)\|$", re.MULTILINE)


class Asked(NamedTuple):
    """A route and a request that it answers."""

    method: str
    path: str
    """As it is declared."""
    address: str
    query: dict[str, Any]


def _api() -> Iterator[Asked]:
    for route in routes.every():
        shown = description.example(route)
        address = route.path.format(**shown.get("path", {}))
        query = shown.get("query", {})
        if route.operation == "stream_events":
            query = {**query, "no_such_parameter": "so that the answer ends"}
        yield Asked(route.method, route.path, address, query)


def _others(app: FastAPI) -> Iterator[Asked]:
    """Pages, health and mounted folders: every route of the application that is not of the API."""
    known = {route.path for route in routes.every()}
    for one in app.router.routes:
        if isinstance(one, Mount):
            yield Asked(
                "GET", f"{one.path}/…", f"{one.path}/style.css" if one.path == "/static" else f"{one.path}/", {}
            )
            continue
        inner = getattr(one, "original_router", None)
        listed: list[Any] = [one] if inner is None else inner.routes
        for route in listed:
            if route.path not in known:
                for method in sorted(set(route.methods) - {"HEAD"}):
                    yield Asked(method, route.path, route.path.replace("{name:path}", "vision/leaky:1.0.0"), {})


def _allowed(client: TestClient, asked: Asked) -> bool:
    """Whether who asks gets past the question who it is and what it may."""
    body: dict[str, Any] = {}
    if asked.method not in {"GET", "DELETE"}:
        body = {"json" if asked.path.startswith("/api/") else "data": {"no_such_field": "1"}}
    answer = client.request(asked.method, asked.address, params=asked.query, follow_redirects=False, **body)
    if answer.status_code == 401 or answer.headers.get("location", "").startswith("/login"):
        return False
    return answer.status_code != 403


def _written() -> dict[tuple[str, str], tuple[bool, ...]]:
    rows = _ROW.findall(TABLE.read_text(encoding="utf-8"))
    found = {
        (method, path): tuple(cell.strip() == "yes" for cell in cells.split("|")) for method, path, _, cells in rows
    }
    assert len(found) == len(rows), "a route stands twice"
    return found


@pytest.fixture(scope="module")
def clients(sample: Sample) -> dict[str, TestClient]:
    """A client for each who asks."""
    made: dict[str, TestClient] = {role: sample.client(role, anonymous=False) for role in ROLES}
    return {**made, "anonymous": sample.client(), "nobody": sample.client(anonymous=False)}


@pytest.fixture(scope="module")
def every(sample: Sample) -> list[Asked]:
    """Every route of the application."""
    return [*_api(), *_others(create(sample.settings))]


def test_every_route_stands_in_the_table(every: list[Asked]) -> None:
    """No route is without a row, no row without a route, and each names the permission that is declared."""
    written = _ROW.findall(TABLE.read_text(encoding="utf-8"))
    assert {(method, path) for method, path, _, _ in written} == {(one.method, one.path) for one in every}
    needs = {(method, path): need.strip() for method, path, need, _ in written}
    for route in routes.every():
        told = "nothing" if route.permission is None else f"`{route.permission}`"
        assert needs[route.method, route.path] == told + (" in the project" if route.in_project else "")


def test_every_route_answers_every_role_as_the_table_says(every: list[Asked], clients: dict[str, TestClient]) -> None:
    """Each role, anonymous readers and nobody get through exactly where the table says so."""
    written = _written()
    wrong = []
    for asked in every:
        expected = dict(zip(ASKERS, written[asked.method, asked.path], strict=True))
        found = {asker: _allowed(client, asked) for asker, client in clients.items()}
        wrong += [
            (asked.method, asked.path, asker, found[asker]) for asker in ASKERS if found[asker] != expected[asker]
        ]
    assert wrong == []


def test_a_token_without_scope_and_a_disabled_user_may_nothing(every: list[Asked], sample: Sample) -> None:
    """A token that is limited to no permission gets as far as nobody; one of a disabled user is not taken at all."""
    with Catalog.open(sample.settings) as catalog:
        users.add(catalog, "gone", with_password=False, given={"*": frozenset({"admin"})})
        gone = tokens.create(catalog, "test", days=7, most_days=7, user="gone").secret
        users.set_disabled(catalog, "gone", disabled=True)
        bare = tokens.create(catalog, "bare", days=7, most_days=7, only_role="admin", permissions=()).secret
    app = create(sample.settings, anonymous=True)
    written = _written()
    with_bare = TestClient(app, headers={"Authorization": f"Bearer {bare}"}, raise_server_exceptions=False)
    of_gone = TestClient(app, headers={"Authorization": f"Bearer {gone}"}, raise_server_exceptions=False)
    for asked in every:
        # `/v2/` tells a registry's clients that their token is taken; what they may is asked for each image.
        nobody = written[asked.method, asked.path][ASKERS.index("nobody")] or asked.path == "/v2/…"
        assert _allowed(with_bare, asked) == nobody, asked
        if not asked.path.startswith(("/healthz", "/readyz", "/static")):
            assert of_gone.request(asked.method, asked.address, params=asked.query).status_code == 401, asked


def test_roles_in_one_project_do_not_count_in_another(sample: Sample) -> None:
    """Bytes of images are told where the role is; what needs a role everywhere is refused; what is known is told."""
    with Catalog.open(sample.settings) as catalog:
        users.add(catalog, "of-speech", with_password=False, given={"speech": frozenset({"admin"})})
        secret = tokens.create(catalog, "test", days=7, most_days=7, user="of-speech").secret
    client = TestClient(create(sample.settings, anonymous=False), headers={"Authorization": f"Bearer {secret}"})
    assert client.get(f"/api/v1/images/{sample.clean}/contents").status_code == 200
    assert client.get(f"/api/v1/images/{sample.leaky}/contents").status_code == 403
    assert client.get(f"/api/v1/images/{sample.leaky}").status_code == 200
    assert client.get("/api/v1/audit/entries").status_code == 403
