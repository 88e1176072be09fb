"""`distribution.authorization`: tokens against a token service that checks who asks for what."""

import base64
import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qs, urlsplit

import pytest

from servers import Serve, reply
from tidewaiter.core.errors import NetworkError
from tidewaiter.distribution import authorization
from tidewaiter.distribution.credentials import Credential
from tidewaiter.distribution.registry import Registry
from tidewaiter.oci import digest as digests
from tidewaiter.transport.client import Client, Timeouts

CAPTAIN = Credential("captain", "tide")
BLOB = digests.of(b"blob")


@pytest.fixture
def client() -> Iterator[Client]:
    with Client(timeouts=Timeouts(connect=2, read=2), pause=lambda _: None) as one:
        yield one


class Harbour:
    """A registry and its token service; a token is its scope and number in the clear."""

    def __init__(self, serve: Serve) -> None:
        self.asked: list[dict[str, list[str]]] = []
        self.passwords: list[str | None] = []
        self.denied: set[str] = set()
        self.expires: float | None = 300
        self.revoked: set[str] = set()
        self.refused = 0
        self.hint: str | None = None
        self.realm = serve(self.tokens) + "/token?account=x"
        self.host = serve(self.registry).removeprefix("http://")
        self.plain = frozenset({self.host, urlsplit(self.realm).netloc})

    def tokens(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers.get("Content-Length", 0))).decode()
        form = parse_qs(body or urlsplit(handler.path).query)
        self.asked.append(form)
        self.passwords.append(handler.headers.get("Authorization"))
        if handler.headers.get("Authorization") not in {None, CAPTAIN.basic}:
            reply(handler, 401)
            return
        scopes = [part for scope in form.get("scope", []) for part in scope.split()]
        granted = [scope for scope in scopes if scope not in self.denied]
        token = base64.urlsafe_b64encode(json.dumps([granted, len(self.asked)]).encode()).decode()
        expires = {} if self.expires is None else {"expires_in": self.expires}
        name = "access_token" if handler.command == "POST" else "token"
        reply(handler, 200, json.dumps({name: token, **expires}).encode())

    def registry(self, handler: BaseHTTPRequestHandler) -> None:
        repository = handler.path.removeprefix("/v2/").partition("/blobs/")[0].partition("/manifests/")[0]
        action = {"GET": "pull", "HEAD": "pull", "DELETE": "delete"}.get(handler.command, "push")
        needed = f"repository:{repository}:{action}"
        token = handler.headers.get("Authorization", "").removeprefix("Bearer ")
        granted = json.loads(base64.urlsafe_b64decode(token))[0] if token and token not in self.revoked else []
        if not authorization.covers(" ".join(granted), needed):
            self.refused += 1
            scope = self.hint or needed
            challenge = f'Bearer realm="{self.realm}",service="harbour",scope="{scope}"'
            reply(handler, 401, b'{"errors":[{"code":"UNAUTHORIZED"}]}', WWW_Authenticate=challenge)
        elif handler.command == "POST" and "mount=" in handler.path:
            reply(handler, 201)
        else:
            reply(handler, {"HEAD": 200, "DELETE": 202}.get(handler.command, 202), Location=handler.path)

    def connect(self, client: Client, credential: Credential | None = CAPTAIN) -> Registry:
        known = {self.host: credential} if credential else {}
        return Registry(client, self.host, plain_http=self.plain, credentials=known)


def test_a_token_serves_until_it_expires(serve: Serve, client: Client) -> None:
    """One token for all requests of a scope; an expired one is renewed before it is refused."""
    harbour = Harbour(serve)
    repository = harbour.connect(client).repository("a/b")
    for _ in range(3):
        assert repository.has_blob(BLOB)
    assert harbour.asked == [{"account": ["x"], "service": ["harbour"], "scope": ["repository:a/b:pull"]}]
    assert harbour.passwords == [CAPTAIN.basic]
    harbour.expires = 0.001
    fresh = harbour.connect(client).repository("a/b")
    for _ in range(3):
        assert fresh.has_blob(BLOB)
    assert len(harbour.asked) == 4
    assert harbour.refused == 2  # the first request of each connection only


def test_a_revoked_token_is_renewed_once(serve: Serve, client: Client) -> None:
    """401 in the middle leads to one new token; when that is refused too, the error says to log in."""
    harbour = Harbour(serve)
    repository = harbour.connect(client).repository("a/b")
    assert repository.has_blob(BLOB)
    (first,) = [json.dumps([["repository:a/b:pull"], 1])]
    harbour.revoked.add(base64.urlsafe_b64encode(first.encode()).decode())
    assert repository.has_blob(BLOB)
    assert len(harbour.asked) == 2
    harbour.denied.add("repository:a/c:pull")
    with pytest.raises(NetworkError) as caught:
        harbour.connect(client).repository("a/c").has_blob(BLOB)
    assert caught.value.code == "registry_unauthorized"
    assert len(harbour.asked) == 3


def test_a_larger_token_serves_smaller_wishes(serve: Serve, client: Client) -> None:
    """After a push, reading asks for no other token; another repository does."""
    harbour = Harbour(serve)
    registry = harbour.connect(client)
    assert registry.repository("a/b").mount(BLOB, "c/d")
    assert registry.repository("a/b").has_blob(BLOB)
    assert registry.repository("c/d").has_blob(BLOB)
    assert [form["scope"] for form in harbour.asked] == [["repository:a/b:pull,push", "repository:c/d:pull"]]
    assert registry.repository("e/f").has_blob(BLOB)
    assert harbour.asked[1]["scope"] == ["repository:e/f:pull"]


def test_the_registry_may_ask_for_more_of_the_same_repository(serve: Serve, client: Client) -> None:
    """Actions that the challenge names are asked for too, but of no other repository."""
    harbour = Harbour(serve)
    harbour.hint = "repository:a/b:delete,metadata repository:secret/x:pull"
    harbour.connect(client).repository("a/b").delete_blob(BLOB)
    assert harbour.asked[0]["scope"] == ["repository:a/b:delete,metadata,pull"]


def test_nobody_is_anonymous(serve: Serve, client: Client) -> None:
    """Without a login, a token is asked for without a password."""
    harbour = Harbour(serve)
    assert harbour.connect(client, None).repository("a/b").has_blob(BLOB)
    assert harbour.passwords == [None]


def test_a_refused_password_is_named(serve: Serve, client: Client) -> None:
    """A login that the token service does not take is an error without the password."""
    harbour = Harbour(serve)
    with pytest.raises(NetworkError, match="gives no token") as caught:
        harbour.connect(client, Credential("captain", "hidden")).repository("a/b").has_blob(BLOB)
    assert caught.value.code == "registry_unauthorized"
    assert "hidden" not in str(caught.value) + caught.value.next_step


def test_an_identity_token_is_exchanged(serve: Serve, client: Client) -> None:
    """The refresh token of OAuth 2 goes into the body of a POST, never into a URL."""
    harbour = Harbour(serve)
    credential = Credential("", "", identity_token="refresh-me")
    assert harbour.connect(client, credential).repository("a/b").has_blob(BLOB)
    assert harbour.passwords == [None]
    assert harbour.asked == [
        {
            "grant_type": ["refresh_token"],
            "refresh_token": ["refresh-me"],
            "client_id": ["tidewaiter"],
            "scope": ["repository:a/b:pull"],
            "service": ["harbour"],
        }
    ]


def test_a_registry_token_is_sent_as_it_is(serve: Serve, client: Client) -> None:
    """`registrytoken` answers a challenge without any token service; a refused one is not sent again."""
    harbour = Harbour(serve)
    token = base64.urlsafe_b64encode(json.dumps([["repository:a/b:pull"], 0]).encode()).decode()
    registry = harbour.connect(client, Credential("", "", registry_token=token))
    assert registry.repository("a/b").has_blob(BLOB)
    assert harbour.asked == []
    with pytest.raises(NetworkError):
        registry.repository("a/c").has_blob(BLOB)


@pytest.mark.parametrize(
    ("have", "want", "covered"),
    [
        ("repository:a:pull,push", "repository:a:pull", True),
        ("repository:a:pull", "repository:a:pull,push", False),
        ("repository:a:pull repository:b:pull", "repository:b:pull", True),
        ("repository:a:pull", "repository:b:pull", False),
        ("repository:host:5000/a:pull", "repository:host:5000/a:pull", True),
    ],
)
def test_scopes_cover_one_another(have: str, want: str, covered: bool) -> None:
    """Actions are compared per resource."""
    assert authorization.covers(have, want) is covered
