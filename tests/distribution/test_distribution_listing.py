"""`distribution.listing`: the ways in which registries page."""

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qs, urlsplit

import pytest

from servers import Serve, reply
from tidewaiter.core import limits
from tidewaiter.core.errors import LimitError, NetworkError, NotFoundError
from tidewaiter.distribution import listing
from tidewaiter.distribution.registry import Registry
from tidewaiter.transport.client import Client, Timeouts

NAMES = [f"name-{number}" for number in range(8)]


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    monkeypatch.setattr(limits, "TAG_PAGE", 3)
    with Client(timeouts=Timeouts(connect=2, read=2), pause=lambda _: None) as one:
        yield one


def connect(client: Client, url: str) -> Registry:
    host = url.removeprefix("http://")
    return Registry(client, host, plain_http=frozenset({host}))


@pytest.mark.parametrize("style", ["relative", "absolute", "last", "all", "bare query"])
def test_pages_of_every_style_are_read(serve: Serve, client: Client, style: str) -> None:
    """Links of any form and registries that only know `last` give the whole list, and end."""
    asked: list[str] = []

    def registry(handler: BaseHTTPRequestHandler) -> None:
        asked.append(handler.path)
        query = parse_qs(urlsplit(handler.path).query)
        last = query.get("last", [""])[0]
        after = [name for name in NAMES if name > last]
        page = NAMES if style == "all" else after[:3]
        path = urlsplit(handler.path).path
        key = "tags" if path.endswith("/tags/list") else "repositories"
        headers = {}
        if len(after) > 3 and style not in {"last", "all"}:
            more = f"?n=3&last={page[-1]}"
            target = {"relative": path + more, "absolute": f"http://inner.example:81{path}{more}"}.get(style, more)
            headers["Link"] = f'<{target}>; rel="next"'
        body = json.dumps({key: page}).encode()
        if headers:
            reply(handler, 200, body, Link=headers["Link"])
        else:
            reply(handler, 200, body)

    remote = connect(client, serve(registry))
    assert remote.repository("a/b").tags() == NAMES
    assert len(asked) == {"all": 1, "last": 3}.get(style, 3)
    assert remote.repositories() == NAMES


@pytest.mark.parametrize("body", [b'{"tags":null}', b'{"name":"a/b"}', b'{"tags":[]}'])
def test_no_tags_are_none(serve: Serve, client: Client, body: bytes) -> None:
    """An empty list in each of its forms."""
    assert connect(client, serve(lambda h: reply(h, 200, body))).repository("a/b").tags() == []


def test_the_number_of_names_is_bounded(serve: Serve, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """REPOSITORIES holds from both sides."""
    remote = connect(client, serve(lambda h: reply(h, 200, json.dumps({"repositories": NAMES}).encode())))
    monkeypatch.setattr(limits, "REPOSITORIES", len(NAMES))
    assert remote.repositories() == NAMES
    monkeypatch.setattr(limits, "REPOSITORIES", len(NAMES) - 1)
    with pytest.raises(LimitError):
        remote.repositories()


def test_a_registry_without_catalog_says_so(serve: Serve, client: Client) -> None:
    """404 and a web page are errors, not an empty catalog."""
    with pytest.raises(NotFoundError):
        connect(client, serve(lambda h: reply(h, 404))).repositories()
    with pytest.raises(NetworkError, match="no list of repositories"):
        connect(client, serve(lambda h: reply(h, 200, b"<html>"))).repositories()


@pytest.mark.parametrize(
    ("link", "path"),
    [
        ('</v2/_catalog?last=a>; rel="next"', "/v2/_catalog?last=a"),
        ("</v2/_catalog?last=a>; rel=next", "/v2/_catalog?last=a"),
        ('</v2/x>; rel="prev", </v2/y>; rel="next"', "/v2/y"),
        ('</v2/y>; title="x"; rel="next"', "/v2/y"),
        ("", None),
        ('</v2/x>; rel="prev"', None),
        ('</elsewhere>; rel="next"', None),
        ('<http://[::1>; rel="next"', None),
    ],
)
def test_links_are_parsed(link: str, path: str | None) -> None:
    """RFC 8288 as far as registries use it; a link out of the API is ignored."""
    assert listing.following({"link": link}, "https://host/v2/_catalog") == path
