"""Lists in parts, filters, entity tags, and what HTTP asks of every route."""

import datetime as dt
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import web_sample
from msgspec import Struct
from starlette.testclient import TestClient

from api_sample import Sample
from tidewaiter.catalog.catalog import Catalog
from tidewaiter.catalog.workloads import Sighting
from tidewaiter.core import clock, limits
from tidewaiter.core import settings as all_settings
from tidewaiter.pipelines import tracing
from tidewaiter.web.api import description, routes
from tidewaiter.web.api.paging import Paging
from tidewaiter.web.app import create

LISTS = [
    route.operation
    for route in routes.every()
    # Events have no end: their cursor is where the next one will be. Webhooks are told to those who made them.
    if route.reads and route.tag not in {"events", "webhooks"} and issubclass(route.takes.get("query", Struct), Paging)
]


@pytest.fixture(scope="module")
def client(sample: Sample) -> TestClient:
    """A client of whom everything may."""
    return sample.client("admin")


def _whole(client: TestClient, path: str, *, limit: int, **query: Any) -> list[Any]:
    """All items of a list, part by part."""
    found: list[Any] = []
    after = ""
    for _ in range(200):
        answer = client.get(path, params={**query, "limit": limit, "after": after})
        assert answer.status_code == 200, answer.text
        part = answer.json()
        assert len(part["items"]) <= limit
        found += part["items"]
        after = part["next"]
        if after is None:
            return found
    raise AssertionError(f"{path} does not end")


@pytest.mark.parametrize("operation", LISTS)
def test_parts_of_a_list_make_the_whole(operation: str, client: TestClient, sample: Sample) -> None:
    """One at a time or all at once: the same items in the same order, none twice; a made-up cursor is 400."""
    (route,) = (one for one in routes.every() if one.operation == operation)
    shown = description.example(route)
    path = route.path.format(
        **{**shown.get("path", {}), **({"digest": sample.leaky} if "{digest}" in route.path else {})}
    )
    query = {name: value for name, value in shown.get("query", {}).items() if name not in {"limit", "after"}}
    whole = _whole(client, path, limit=200, **query)
    assert _whole(client, path, limit=1, **query) == whole
    assert len({repr(one) for one in whole}) == len(whole)
    for made_up in ("x", "AAAA", "W10", "WyJcdTAwMDAiXQ", "WzFlMzA4XQ", "é"):
        answer = client.get(path, params={**query, "after": made_up})
        assert (answer.status_code, answer.json()["code"]) == (400, "bad_input"), made_up


def test_rows_that_are_added_meanwhile_neither_repeat_nor_hide_any(tmp_path: Path) -> None:
    """While somebody reads images part by part, new ones come: every old one is told once."""
    settings = all_settings.load({"TIDEWAITER_HOME": str(tmp_path)})
    web_sample.fill(settings)
    with TestClient(create(settings)) as client, Catalog.open(settings) as catalog:
        before = [(one["name"], one["digest"]) for one in _whole(client, "/api/v1/images", limit=200)]
        read: list[tuple[str, str]] = []
        after: str | None = ""
        for number in count():
            if after is None:
                break
            part = client.get("/api/v1/images", params={"limit": 2, "after": after}).json()
            read += [(one["name"], one["digest"]) for one in part["items"]]
            after = part["next"]
            image, stack = web_sample.digest(f"new {number}"), web_sample.layers(f"new {number}")
            catalog.record_facts(
                web_sample.facts("new/one", image, stack, web_sample.components(stack)), repository=f"new/one-{number}"
            )
        assert read == before


def test_workloads_are_read_part_by_part_while_others_come_and_go(tmp_path: Path) -> None:
    """Every workload that was there is told once, in order, whatever is recorded meanwhile; filters fill each part."""
    settings = all_settings.load({"TIDEWAITER_HOME": str(tmp_path)})
    image, now = web_sample.digest("some image"), clock.now()

    def sighting(name: str, owner: str = "") -> Sighting:
        return Sighting(cluster="east", namespace="shop", name=name, digest=image, seen_at=now, owner=owner)

    names = [f"w{number:02}" for number in range(30)]
    with TestClient(create(settings)) as client, Catalog.open(settings) as catalog:
        tracing.record_workloads(
            catalog, [sighting(name, "team-a" if name.endswith("7") else "team-b") for name in names]
        )
        read: list[str] = []
        after: str | None = ""
        while after is not None:
            part = client.get("/api/v1/workloads", params={"limit": 4, "after": after}).json()
            read += [one["name"] for one in part["items"]]
            after = part["next"]
            tracing.record_workload(catalog, sighting(f"{read[-1]}-new"))
            tracing.record_workload(catalog, sighting("a-new"))
        assert [name for name in read if name in names] == names
        assert len(set(read)) == len(read)
        assert _names(client, owner="team-a", limit=2) == ["w07", "w17", "w27"]
        assert _names(client, owner="nobody", limit=1) == []


def _names(client: TestClient, **query: Any) -> list[str]:
    return [one["name"] for one in _whole(client, "/api/v1/workloads", **query)]


def test_filters_are_combined(client: TestClient, sample: Sample) -> None:
    """Each filter alone finds what it should, two that do not fit together find nothing."""

    def names(**query: Any) -> set[str]:
        return {
            one["name"]
            for one in _whole(client, "/api/v1/images", limit=200, **query)
            if not one["name"].startswith("oci:")
        }

    tomorrow = str((clock.now() + dt.timedelta(days=1)).date())
    assert names() == {"vision/leaky", "speech/clean"} == names(environment="staging")
    for query in (
        {"search": "leaky"},
        {"package": "pkg:pypi/leaky"},
        {"package": "pkg:pypi/leaky@1.4.0"},
        {"finding": "CVE-2026-10001"},
        {"finding": "critical"},
        {"owner": "team-vision"},
        {"running": True},
        {"verdict": "deny", "package": "pkg:pypi/leaky"},
    ):
        assert names(**query) == {"vision/leaky"}, query
        assert names(**{**query, "repository": "speech"}) == set(), query
    assert names(repository="vision") == names(tag="1.*", repository="*/leaky") == {"vision/leaky"}
    for query in (
        {"package": "pkg:pypi/leak"},
        {"owner": "team-speech"},
        {"base": "no-such-base"},
        {"since": tomorrow},
        {"verdict": "allow", "environment": "production"},
        {"owner": "team-vision", "search": "clean"},
    ):
        assert names(**query) == set(), query
    assert names(unbuilt=True) == {"vision/leaky", "speech/clean"}


def test_every_answer_has_an_entity_tag(client: TestClient) -> None:
    """GET and HEAD give the same strong tag; naming it gives 304 without a body, another one gives the answer."""
    for path in ("/api/v1/images", "/api/v1/policy", "/api/v1/openapi.json"):
        answer = client.get(path)
        tag = answer.headers["etag"]
        assert tag.startswith('"')
        head = client.head(path)
        assert (head.status_code, head.headers["etag"], head.content) == (200, tag, b"")
        for named in (tag, f'"other", {tag}', f"W/{tag}", "*"):
            unchanged = client.get(path, headers={"If-None-Match": named})
            assert (unchanged.status_code, unchanged.content, unchanged.headers["etag"]) == (304, b"", tag)
        assert client.get(path, headers={"If-None-Match": '"other"'}).content == answer.content
    assert client.get("/api/v1/images?limit=1").headers["etag"] != client.get("/api/v1/images").headers["etag"]


def test_what_http_asks_for_is_a_problem_document(client: TestClient) -> None:
    """405 names what is allowed, 406, 413, 414, 415 and 431 say what is in the way; all are problem documents."""
    too_long = "x" * limits.REQUEST_TARGET_BYTES
    for method, path, options, status in (
        ("POST", "/api/v1/policy", {}, 405),
        ("PATCH", "/api/v1/images", {}, 405),
        ("GET", "/api/v1/images", {"headers": {"Accept": "text/html"}}, 406),
        ("GET", "/api/v1/images", {"headers": {"Accept": "application/json;q=0, */*"}}, 406),
        ("GET", f"/api/v1/images?search={too_long}", {}, 414),
        ("GET", "/api/v1/images", {"headers": {"X-Long": "x" * limits.REQUEST_HEADER_BYTES}}, 431),
        ("PUT", "/api/v1/owners", {"content": b"{}", "headers": {"Content-Type": "text/plain"}}, 415),
        ("PUT", "/api/v1/owners", {"content": b"{}"}, 415),
        ("PUT", "/api/v1/owners", {"content": b" " * (limits.API_BODY_BYTES + 1)}, 413),
        ("GET", "/api/v1/no/such/route", {}, 404),
    ):
        answer = client.request(method, path, **options)
        assert answer.status_code == status, (method, path[:60], answer.text)
        assert answer.headers["content-type"] == "application/problem+json"
        problem = answer.json()
        assert (problem["status"], bool(problem["detail"]), bool(problem["next"])) == (status, True, True)
    assert client.post("/api/v1/policy").headers["allow"] == "GET, HEAD"
    for accepted in ("*/*", "application/*", "text/html, application/json;q=0.1", ""):
        assert client.get("/api/v1/version", headers={"Accept": accepted}).status_code == 200


def test_a_parameter_that_nobody_knows_is_an_error(client: TestClient) -> None:
    """A typing mistake in a filter is not taken for "no filter": 422 names it and what is accepted."""
    answer = client.get("/api/v1/images?repositry=vision")
    assert answer.status_code == 422
    assert "'repositry'" in answer.json()["detail"]
    assert "repository" in answer.json()["next"]
    for query in ("limit=0", "limit=201", "limit=x", "running=maybe", "verdict=perhaps", "limit=1&limit=2"):
        assert client.get(f"/api/v1/images?{query}").status_code == 422, query


def test_what_is_not_known_here_is_not_answered(client: TestClient, sample: Sample) -> None:
    """An advisory that nobody imported is 404, never an empty list of images."""
    answer = client.get("/api/v1/affected?of=CVE-1999-0001")
    assert (answer.status_code, answer.json()["code"]) == (404, "advisory_unknown")
    found = client.get("/api/v1/affected?of=CVE-2026-10001&running=true").json()
    assert {one["digest"] for one in found["images"]} == {sample.leaky}
    assert found["workloads"][0]["name"] == "recommender"


def test_a_trace_goes_one_way_when_that_is_asked_for(client: TestClient) -> None:
    """Up there are the layers, down what runs; together they are the trace both ways."""

    def edges(direction: str) -> dict[tuple[str, str], str]:
        answer = client.get("/api/v1/trace", params={"of": "vision/leaky:1.0.0", "direction": direction})
        return {(one["source"], one["target"]): one["relation"] for one in answer.json()["edges"]}

    def kinds(found: dict[tuple[str, str], str]) -> set[str]:
        return {name.partition(":")[0] for pair in found for name in pair}

    up, down = edges("up"), edges("down")
    assert up | down == edges("both")
    assert "layer" in kinds(up) - kinds(down)
    assert {"workload", "model"} <= kinds(down) - kinds(up)


def test_an_audit_entry_is_proven(client: TestClient) -> None:
    """The proof and the tiles are of the same log: the hash of the entry stands in the tile, at its position."""
    entry = client.get("/api/v1/audit/entries?action=workload.&limit=1").json()["items"][0]
    assert (entry["action"], entry["subject"]) == ("workload.record", "east/shop/recommender")
    proof = client.get(f"/api/v1/audit/entries/{entry['position']}/proof").json()
    width = entry["position"] + 1
    tile = client.get(f"/api/v1/audit/tiles/0/0?width={width}").content
    assert tile[-32:].hex() == proof["leaf_hash"]
    bundle = client.get(f"/api/v1/audit/tiles/entries/0?width={width}").content
    assert b"east/shop/recommender" in bundle
    assert client.get("/api/v1/audit/checkpoint").text.split("\n")[0] == proof["checkpoint"].split("\n")[0]
    assert client.get("/api/v1/audit/tiles/0/99?width=256").status_code == 404
