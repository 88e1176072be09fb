"""`webhook`: from an address to what was sent there."""

import json
from pathlib import Path

import pytest

import receivers
from tidewaiter.catalog import outbox
from tidewaiter.catalog.catalog import Catalog
from tidewaiter.catalog.events import Event
from tidewaiter.cli import app
from tidewaiter.core import clock, settings


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TIDEWAITER_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TIDEWAITER_WEBHOOK_HOSTS", "127.0.0.1")
    monkeypatch.setenv("TIDEWAITER_IDENTITY", "alice")
    return tmp_path / "home"


def _json(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, object]:
    assert app.run([*words, "--format", "json"]) == 0
    found: dict[str, object] = json.loads(capsys.readouterr().out)
    return found


def test_from_an_address_to_a_delivery(capsys: pytest.CaptureFixture[str]) -> None:
    """Added, tried, rotated, sent again, removed; the secret is shown when it is made, and in no list."""
    with receivers.receiver() as endpoint:
        made = _json(capsys, "webhook", "add", endpoint.url, "--type", "verdict.decided", "--project", "vision")
        secret = made["secret"]
        assert isinstance(made["webhook"], dict)
        name = str(made["webhook"]["id"])
        assert made["webhook"]["created_by"] == "alice"
        assert app.run(["webhook", "list"]) == 0
        listed = capsys.readouterr().out
        assert name in listed
        assert str(secret) not in listed
        assert _json(capsys, "webhook", "test", name)["taken"] is True
        endpoint.answer = receivers.status(500)
        assert app.run(["webhook", "test", name]) == 1
        assert "not taken: it answered 500" in capsys.readouterr().out
        assert _json(capsys, "webhook", "rotate", name)["secret"] != secret
        event = Event(id="1-0", type="verdict.decided", time=clock.rfc3339(clock.now()), subject="x")
        with Catalog.open(settings.load()) as catalog, catalog.database.writing() as connection:
            outbox.put(connection, name, [event, event], clock.now())
        found = _json(capsys, "webhook", "deliveries", name, "--state", "waiting")["deliveries"]
        assert isinstance(found, list)
        (delivery,) = found
        assert delivery["id"] == outbox.name_of(name, "1-0")
        assert _json(capsys, "webhook", "redeliver", str(delivery["id"]))["state"] == "waiting"
        assert _json(capsys, "webhook", "enable", name)["state"] == "active"
        assert _json(capsys, "webhook", "remove", name) == {"removed": name}
        assert _json(capsys, "webhook", "list") == {"webhooks": []}


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("add", "http://10.0.0.1/"), 1),
        (("add", "https://example.com/", "--type", "x"), 2),
        (("remove", "wh_none"), 2),
        (("redeliver", "msg_none"), 2),
        (("deliveries", "--state", "lost"), 2),
        (("deliveries", "--rows", "0"), 2),
    ],
)
def test_what_cannot_be_is_said(words: tuple[str, ...], code: int) -> None:
    """An address that is refused ends with 1; what is not there, or is malformed, with 2."""
    assert app.run(["webhook", *words]) == code


def test_a_message_is_never_too_long() -> None:
    """What would be longer than a message may be is cut, and says so."""
    event = Event(id="1-0", type="image.recorded", time="", subject="x", data={"much": "x" * 300_000})
    body = json.loads(outbox.body_of(event))
    assert body["data"]["cut"] is True
