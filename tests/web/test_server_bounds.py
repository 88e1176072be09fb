"""What a server refuses before it asks who it is: too many connections of one address, a start that would be unsafe."""

import ipaddress
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from tidewaiter.access import tokens, users
from tidewaiter.catalog import jobs
from tidewaiter.catalog.catalog import Catalog
from tidewaiter.core import clock, limits
from tidewaiter.core import settings as all_settings
from tidewaiter.core.errors import InputError, RefusedError
from tidewaiter.web import server
from tidewaiter.web.app import create
from tidewaiter.web.prompt import Connections


def test_an_address_has_so_many_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next one is refused until one ends; other addresses have their own, and a trusted proxy may have all."""
    monkeypatch.setattr(limits, "CONNECTIONS_OF_ADDRESS", 2)
    counted = Connections((ipaddress.ip_network("10.0.0.0/8"),))
    assert [counted.enter("192.0.2.1") for _ in range(3)] == ["192.0.2.1", "192.0.2.1", None]
    assert counted.enter("::ffff:192.0.2.1") is None, "the same one"
    assert counted.enter("192.0.2.2") == "192.0.2.2"
    assert counted.enter("2001:db8::1") == counted.enter("2001:db8::2"), "one subscriber"
    assert counted.enter("2001:db8::3") is None
    counted.leave("192.0.2.1")
    assert counted.enter("192.0.2.1") == "192.0.2.1"
    assert [counted.enter("10.1.2.3") for _ in range(5)] == [""] * 5
    assert counted.enter("") == ""


def test_a_provider_needs_the_servers_own_address(tmp_path: Path) -> None:
    """Where anybody may ask under any name, the address that codes are sent to is not taken from who asks."""
    provider = {"TIDEWAITER_OIDC_ISSUER": "https://id.example.org", "TIDEWAITER_OIDC_CLIENT_ID": "tide"}
    settings = all_settings.load({"TIDEWAITER_HOME": str(tmp_path), **provider})
    with pytest.raises(InputError, match=r"how this server is called on 0\.0\.0\.0") as caught:
        server.serve(settings, host="0.0.0.0", port=0)
    assert "public_url" in caught.value.next_step


def test_a_user_has_so_many_living_tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is revoked makes room; those with a role of their own are bounded apart."""
    monkeypatch.setattr(limits, "TOKENS_OF_USER", 2)
    with Catalog.open(all_settings.load({"TIDEWAITER_HOME": str(tmp_path)})) as catalog:
        users.add(catalog, "ann")

        def make(name: str, **more: Any) -> None:
            tokens.create(catalog, name, days=1, most_days=2, **more)

        make("one", user="ann")
        make("two", user="ann")
        with pytest.raises(RefusedError, match="2 living tokens of ann"):
            make("three", user="ann")
        make("three", only_role="viewer")
        tokens.revoke(catalog, "ann/one")
        make("three", user="ann")


def test_a_stop_says_what_it_leaves_undone(tmp_path: Path) -> None:
    """Work that runs when the server stops is lost at once, not when nobody has heard of it for a while."""
    settings = all_settings.load({"TIDEWAITER_HOME": str(tmp_path)})
    with TestClient(create(settings)) as client:
        app: Any = client.app
        held = app.state.jobs
        with app.state.source.catalog.database.writing() as connection:
            name = jobs.begin(connection, "check", "x", "ann", clock.now())
        held._tasks["check", "x"] = type("Task", (), {"name": name})()
    with Catalog.open(settings) as catalog, catalog.database.reading() as connection:
        assert jobs.job(connection, name, clock.now()).state == "lost"


def test_an_answer_is_given_again_to_who_still_may(tmp_path: Path) -> None:
    """Who lost the role in the project since gets no replay of an answer of then."""
    settings = all_settings.load({"TIDEWAITER_HOME": str(tmp_path), "TIDEWAITER_REQUESTS_PER_SECOND": "0"})
    with Catalog.open(settings) as catalog:
        users.add(catalog, "ann", with_password=False, given={"shop": frozenset({"maintainer"})})
        users.grant(catalog, "ann", "maintainer", "vision")
        secret = tokens.create(catalog, "t", days=1, most_days=2, user="ann").secret
        headers = {"Authorization": f"Bearer {secret}", "Idempotency-Key": "1"}
        body = {"url": "https://hooks.example.com/x", "projects": ["shop"]}
        with TestClient(create(settings), headers=headers) as client:
            made = client.post("/api/v1/webhooks", json=body)
            assert made.status_code == 201, made.text
            path = f"/api/v1/webhooks/{made.json()['webhook']['id']}/enable"
            client.headers["Idempotency-Key"] = "2"
            assert client.post(path).status_code == 200
            assert client.post(path).headers["idempotent-replayed"] == "true"
            users.revoke(catalog, "ann", "maintainer", "shop")
            assert client.post(path).status_code == 403
