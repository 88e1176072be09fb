"""Docker's token protocol: a login once, then a pass for minutes, and for the repositories that were asked for."""

import base64
import datetime as dt
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from gate_place import digest_of, manifest
from tidewaiter.access import tokens
from tidewaiter.access.identity import ANONYMOUS_VIEWER, Identity
from tidewaiter.access.passes import Credential, Passes
from tidewaiter.catalog.catalog import Catalog
from tidewaiter.core import clock, limits
from tidewaiter.core import settings as all_settings
from tidewaiter.core.errors import UnauthenticatedError
from tidewaiter.core.settings import Settings
from tidewaiter.oci import manifest as documents
from tidewaiter.web.app import create

OPEN = '[[repository]]\nnames = ["a/**", "b/**"]\nopen = true\n'


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "settings.toml").write_text(OPEN)
    return all_settings.load({"TIDEWAITER_HOME": str(tmp_path)})


@pytest.fixture
def catalog(settings: Settings) -> Iterator[Catalog]:
    with Catalog.open(settings) as opened:
        yield opened


@pytest.fixture
def secret(catalog: Catalog) -> str:
    """Of a token that may push and pull in `a`, and pull in `b`."""
    made = tokens.create(catalog, "robot", days=1, most_days=1, only_role="developer", projects=["a"])
    return made.secret


@pytest.fixture
def client(settings: Settings, catalog: Catalog) -> Iterator[TestClient]:
    with TestClient(create(settings, anonymous=True)) as opened:
        yield opened


def login(secret: str) -> dict[str, str]:
    """As docker sends it."""
    return {"Authorization": "Basic " + base64.b64encode(f"robot:{secret}".encode()).decode()}


def a_pass(client: TestClient, scope: str, headers: dict[str, str] | None = None) -> dict[str, str]:
    answer = client.get("/v2/token", params={"service": "tidewaiter", "scope": scope}, headers=headers)
    assert answer.status_code == 200, answer.text
    assert answer.json()["token"] == answer.json()["access_token"]
    assert answer.json()["expires_in"] == limits.GATE_PASS_SECONDS
    assert answer.headers["cache-control"] == "no-store"
    return {"Authorization": f"Bearer {answer.json()['token']}"}


def test_the_base_says_where_passes_are(client: TestClient) -> None:
    """Whoever has none is told where to get one, and for what; with one, also of nobody, the base answers."""
    told = client.get("/v2/")
    assert told.status_code == 401
    assert told.headers["www-authenticate"] == 'Bearer realm="http://testserver/v2/token",service="tidewaiter"'
    assert client.get("/v2/", headers=a_pass(client, "")).status_code == 200


def test_a_pass_is_good_for_what_it_was_asked_for(client: TestClient, secret: str) -> None:
    """A pass of a login pushes where it says and nowhere else, however much the login itself may."""
    pushing = a_pass(client, "repository:a/x:pull,push", login(secret))
    where = "/v2/a/x/blobs/uploads/"
    assert client.post(where, headers=pushing).status_code == 202
    elsewhere = client.post("/v2/a/y/blobs/uploads/", headers=pushing)
    assert elsewhere.status_code == 401
    assert 'scope="repository:a/y:pull,push"' in elsewhere.headers["www-authenticate"]
    assert elsewhere.headers["www-authenticate"].endswith('error="insufficient_scope"')
    pulling = a_pass(client, "repository:a/x:pull", login(secret))
    assert client.post(where, headers=pulling).status_code == 401
    both = a_pass(client, "repository:a/x:pull repository:a/y:push", login(secret))
    assert client.post("/v2/a/y/blobs/uploads/", headers=both).status_code == 202


def test_a_pass_grants_no_more_than_the_login(client: TestClient, secret: str) -> None:
    """Where the login may not push a pass does not either, and the answer says what is missing."""
    asked = a_pass(client, "repository:b/x:pull,push,delete,*", login(secret))
    answer = client.post("/v2/b/x/blobs/uploads/", headers=asked)
    assert answer.status_code == 403
    assert "image.push in the project b" in answer.json()["errors"][0]["message"]


def test_nobody_pulls_with_a_pass(client: TestClient, secret: str) -> None:
    """As docker does that never logged in: a pass for nobody pulls where reading needs no login, and pushes nowhere."""
    config = b"{}"
    data = manifest({"mediaType": documents.CONFIG, "digest": digest_of(config), "size": 2}, [])
    client.post(f"/v2/a/x/blobs/uploads/?digest={digest_of(config)}", content=config, headers=login(secret))
    typed = {**login(secret), "Content-Type": documents.MANIFEST}
    assert client.put("/v2/a/x/manifests/v1", content=data, headers=typed).status_code == 201
    nobody = a_pass(client, "repository:a/x:pull,push")
    assert client.get("/v2/a/x/manifests/v1", headers=nobody).content == data
    assert client.post("/v2/a/x/blobs/uploads/", headers=nobody).status_code == 401


def test_where_nobody_may_read_nobody_gets_a_pass(settings: Settings, catalog: Catalog) -> None:
    """A server that wants a login gives no pass without one."""
    with TestClient(create(settings, anonymous=False)) as client:
        answer = client.get("/v2/token", params={"scope": "repository:a/x:pull"})
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"].startswith("Basic")


def test_a_pass_ends_with_its_token(client: TestClient, catalog: Catalog, secret: str) -> None:
    """When the token is revoked its passes are worth nothing, at once."""
    shown = a_pass(client, "repository:a/x:pull,push", login(secret))
    assert client.post("/v2/a/x/blobs/uploads/", headers=shown).status_code == 202
    assert tokens.revoke(catalog, "robot")
    answer = client.post("/v2/a/x/blobs/uploads/", headers=shown)
    assert answer.status_code == 401
    assert 'scope="repository:a/x:pull,push"' in answer.headers["www-authenticate"]


def test_a_pass_is_for_the_registry_only(client: TestClient, secret: str) -> None:
    """Neither the API nor the giving of passes takes one."""
    shown = a_pass(client, "repository:a/x:pull", login(secret))
    assert client.get("/api/v1/images", headers=shown).status_code == 401
    assert client.get("/v2/token", headers=shown).status_code == 403


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ({"scope": "repository:A//x:pull"}, 400),
        ({"scope": " ".join(f"repository:a/x{n}:pull" for n in range(limits.GATE_SCOPES + 1))}, 400),
        ({"scope": "registry:catalog:* nonsense : ::"}, 200),
        ({}, 200),
    ],
)
def test_scopes_that_make_no_sense(client: TestClient, query: dict[str, str], status: int) -> None:
    """Names that are none are refused, too many as well, and what is no repository grants nothing."""
    assert client.get("/v2/token", params=query).status_code == status


def test_what_was_not_given_out(catalog: Catalog, tmp_path: Path) -> None:
    """A pass that was changed, cut, made by another home or shown too late is worth nothing."""
    passes = Passes(tmp_path / "passes.secret")
    nobody = Credential(ANONYMOUS_VIEWER)
    good = passes.give(nobody, {"a/x": frozenset({"pull"})})
    assert passes.read(catalog, good, ANONYMOUS_VIEWER).access == {"a/x": frozenset({"pull"})}
    body, _, mac = good.removeprefix("tdp_").partition(".")
    more = json.loads(base64.urlsafe_b64decode(body + "=="))
    more["access"] = {"a/x": ["pull", "push"]}
    forged = base64.urlsafe_b64encode(json.dumps(more).encode()).decode().rstrip("=")
    other = Passes(tmp_path / "other.secret").give(nobody, {})
    for text in (f"tdp_{forged}.{mac}", good[:-1], f"tdp_{body}", "tdp_", other, f"tdp_{body}.ä"):
        with pytest.raises(UnauthenticatedError):
            passes.read(catalog, text, ANONYMOUS_VIEWER)
    with pytest.MonkeyPatch.context() as patch:
        late = clock.now() + dt.timedelta(seconds=limits.GATE_PASS_SECONDS + 1)
        patch.setattr(clock, "now", lambda: late)
        with pytest.raises(UnauthenticatedError):
            passes.read(catalog, good, ANONYMOUS_VIEWER)


def test_a_job_keeps_its_pass_no_longer_than_its_token(catalog: Catalog, tmp_path: Path) -> None:
    """What a CI job may comes back as it was, until the job's own token ends; another process reads it, too."""
    ends = clock.now() + dt.timedelta(seconds=1)
    job = Identity(name="gitlab:g/p", kind="job", roles={"a": frozenset({"developer"})}, ends_at=ends)
    given = Passes(tmp_path / "passes.secret").give(Credential(job), {})
    passes = Passes(tmp_path / "passes.secret")
    assert passes.read(catalog, given, ANONYMOUS_VIEWER).identity == job
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clock, "now", lambda: ends)
        with pytest.raises(UnauthenticatedError):
            passes.read(catalog, given, ANONYMOUS_VIEWER)


def test_pulls_are_not_counted_like_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests to the registry have a bound of their own, beyond which they get 429 in the registry's shape."""
    monkeypatch.setattr(limits, "GATE_REQUESTS_FACTOR", 3)
    monkeypatch.setattr(limits, "RATE_BURST_SECONDS", 5)
    (tmp_path / "settings.toml").write_text("requests_per_second = 1\n" + OPEN)
    settings = all_settings.load({"TIDEWAITER_HOME": str(tmp_path)})
    with TestClient(create(settings, anonymous=True)) as client:
        assert {client.get("/v2/a/x/tags/list").status_code for _ in range(15)} == {404}
        assert 429 in {client.get("/livez-of-nothing").status_code for _ in range(30)}
        told = [client.get("/v2/a/x/tags/list") for _ in range(60)]
        last = next(one for one in told if one.status_code == 429)
        assert last.json()["errors"][0]["code"] == "TOOMANYREQUESTS"
        assert int(last.headers["retry-after"]) >= 1
