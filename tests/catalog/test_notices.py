"""Notices: what is news, said once, joined when there is much of it, and sent until it is taken."""

import datetime as dt
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import msgspec
import pytest
from catalog_sample import build, component, digest, facts, finding, scan, verdict

import postgres
import receivers
from receivers import Receiver
from tidewaiter.catalog import events, notices, outbox, schema, webhooks
from tidewaiter.catalog.audit import entries as audit
from tidewaiter.catalog.audit import sequencer
from tidewaiter.catalog.catalog import Catalog
from tidewaiter.catalog.notices import Told
from tidewaiter.catalog.outbox import Behind
from tidewaiter.catalog.workloads import Sighting
from tidewaiter.core import clock
from tidewaiter.core import settings as all_settings
from tidewaiter.core.settings import Settings
from tidewaiter.pipelines import tracing
from tidewaiter.pipelines.notices import telling, trying
from tidewaiter.pipelines.notifying.sending import Sender

NUMPY = "pkg:pypi/numpy@1.0"
CVE = "CVE-2026-10001"


@pytest.fixture
def room() -> Iterator[Receiver]:
    with receivers.receiver() as made:
        made.answer = said({"errcode": 0})
        yield made


def said(document: object, code: int = 200) -> Callable[[BaseHTTPRequestHandler], None]:
    """Answers that, as JSON."""
    body = json.dumps(document).encode()

    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(code)
        request.send_header("Content-Type", "application/json")
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

    return answer


def settled(home: Path, room: Receiver, *more: str, to: str = "dingtalk") -> Settings:
    """Settings with one channel, to the room."""
    home.mkdir(exist_ok=True)
    table = ["[[notice]]", 'name = "room"', f'to = "{to}"', f'url = "{room.url}"', *more]
    (home / "settings.toml").write_text("\n".join(table))
    hosts = {"TIDEWAITER_WEBHOOK_HOSTS": "127.0.0.1"}
    return all_settings.load({"TIDEWAITER_HOME": str(home), **hosts, **postgres.variables(home)})


@contextmanager
def serving(settings: Settings, catalog: Catalog) -> Iterator[None]:
    """A sender that is quick, and has begun to hear what happens."""
    stop = threading.Event()
    thread = threading.Thread(target=Sender(settings, catalog, first_wait=0.2, look=0.05).run, args=(stop,))
    thread.start()
    try:
        wait_for(lambda: told(settings, catalog).state == "active")
        yield
    finally:
        stop.set()
        thread.join(20)
        assert not thread.is_alive()


def wait_for(true: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def told(settings: Settings, catalog: Catalog) -> Told:
    return trying.listed(catalog, settings)[0].told


def image(catalog: Catalog, name: str, *packages: str) -> None:
    catalog.record_build(build(name, f"team/{name}"))
    catalog.record_facts(facts(name, *(component(one) for one in packages)), repository=f"team/{name}")


def deny(settings: Settings, catalog: Catalog, *images: str, answer: str = "deny", hours: int = 0) -> None:
    """Decide about images, several at once when there are several."""
    at = clock.now() + dt.timedelta(hours=hours)
    decided = [verdict(one, answer, at) for one in images]
    if len(decided) == 1:
        catalog.record_verdict(decided[0])
    else:
        catalog.record_verdicts(decided, "advisories")
    assert sequencer.settle(settings) == ""


def texts(room: Receiver) -> list[str]:
    return [json.loads(one.body)["markdown"]["text"] for one in room.got]


def happened(settings: Settings, catalog: Catalog) -> tuple[events.Event, ...]:
    """Everything that happened until now."""
    assert sequencer.settle(settings) == ""
    with catalog.database.reading() as connection:
        return events.read(connection, events.START, rows=1000).events


def heard(settings: Settings, catalog: Catalog, table: int = 0) -> list[dict[str, Any]]:
    """The notices that the channel would be told of everything that happened."""
    told = telling.said(catalog, settings.notices[table], happened(settings, catalog), "https://tide.example")
    return [json.loads(one.body) for one in told]


def test_a_denial_arrives_with_its_rules_and_what_to_change(tmp_path: Path, room: Receiver) -> None:
    """A room is told once which image is denied for what, why, and what mends it."""
    settings = settled(tmp_path, room)
    with Catalog.open(settings) as catalog:
        image(catalog, "web")
        with serving(settings, catalog):
            deny(settings, catalog, "web")
            room.wait(1)
            wait_for(lambda: told(settings, catalog).delivered == 1)
    (text,) = texts(room)
    assert f"team/web@\u2060{digest('web')} is denied for staging" in text
    assert "r: m" in text
    assert "change: x" in text


def test_what_happened_before_is_not_told(tmp_path: Path, room: Receiver) -> None:
    """A channel that is new in the settings hears of what happens from then on."""
    settings = settled(tmp_path, room)
    with Catalog.open(settings) as catalog:
        image(catalog, "old")
        image(catalog, "new")
        deny(settings, catalog, "old")
        with serving(settings, catalog):
            deny(settings, catalog, "new")
            room.wait(1)
    assert [digest("old") in text for text in texts(room)] == [False]


def test_the_same_news_is_told_once_a_week(tmp_path: Path, room: Receiver) -> None:
    """A denial for the same rules, decided anew, is no news within seven days; afterwards it is."""
    settings = settled(tmp_path, room)
    channel = telling.channel(settings.notices[0])
    with Catalog.open(settings) as catalog:
        image(catalog, "web")
        for hours in range(3):
            deny(settings, catalog, "web", hours=hours)
        now = clock.now()
        with catalog.database.writing() as connection:
            notices.settle(connection, [channel], now)
        found = telling.said(catalog, settings.notices[0], happened(settings, catalog), "")
        assert len({one.key for one in found}) == 1
        for days, waiting in ((0, 1), (6, 1), (8, 2)):
            at = now + dt.timedelta(days=days)
            with catalog.database.writing() as connection:
                behind = next(iter(_channels(connection)))
                later = [_renamed(one, f"{days}-{number}") for number, one in enumerate(found)]
                assert notices.advance(connection, behind, later, behind.place, at)
            assert told(settings, catalog).waiting == waiting


def test_what_never_arrived_is_said_again(tmp_path: Path, room: Receiver) -> None:
    """A notice that was given up does not keep the same news from being told."""
    settings = settled(tmp_path, room)
    with Catalog.open(settings) as catalog:
        image(catalog, "web")
        deny(settings, catalog, "web")
        now = clock.now()
        with catalog.database.writing() as connection:
            notices.settle(connection, [telling.channel(settings.notices[0])], now)
        found = telling.said(catalog, settings.notices[0], happened(settings, catalog), "")
        for days in range(3):
            at = now + dt.timedelta(days=days)
            with catalog.database.writing() as connection:
                behind = next(iter(_channels(connection)))
                again = [_renamed(one, f"{days}-{number}") for number, one in enumerate(found)]
                assert notices.advance(connection, behind, again, behind.place, at)
                outbox.bury(connection, at + dt.timedelta(hours=25))
        assert (told(settings, catalog).dead, told(settings, catalog).waiting) == (3, 0)


def _channels(connection: Any) -> Iterator[Behind]:
    of = schema.webhook.c
    for row in connection.execute(schema.webhook.select().where(of.name.startswith("notice:"))):
        yield Behind(row.name, tuple(row.types), (), events.Place(row.position, row.number))


def _renamed(one: notices.Said, event: str) -> notices.Said:
    return notices.Said(key=one.key, event=event, type=one.type, body=one.body)


def test_many_denials_of_one_cause_are_one_notice(tmp_path: Path, room: Receiver) -> None:
    """What new advisories deny at once is told as a number, with the first of them."""
    settings = settled(tmp_path, room)
    names = [f"image-{number}" for number in range(25)]
    with Catalog.open(settings) as catalog:
        for name in names:
            image(catalog, name)
        with serving(settings, catalog):
            deny(settings, catalog, *names)
            room.wait(1)
            wait_for(lambda: told(settings, catalog).delivered == 1)
    (text,) = texts(room)
    assert "25 images are denied for staging" in text
    assert "and 15 more" in text


def test_what_is_allowed_by_now_is_not_told(tmp_path: Path, room: Receiver) -> None:
    """A denial that was overruled before anybody was told of it is no notice; nor is an allowance."""
    settings = settled(tmp_path, room)
    with Catalog.open(settings) as catalog:
        image(catalog, "web")
        deny(settings, catalog, "web", hours=-1)
        deny(settings, catalog, "web", answer="allow")
        assert heard(settings, catalog) == []


def test_channels_hear_of_their_projects_and_environments_only(tmp_path: Path, room: Receiver) -> None:
    """Whose projects or environments they are not is not told."""
    settings = settled(tmp_path, room)
    with Catalog.open(settings) as catalog:
        image(catalog, "web")
        deny(settings, catalog, "web")
    for more, count in (
        ('projects = ["team"]', 1),
        ('projects = ["other"]', 0),
        ('environments = ["staging"]', 1),
        ('environments = ["production"]', 0),
        ('about = ["waiver"]', 0),
    ):
        settings = settled(tmp_path, room, more)
        with Catalog.open(settings) as catalog:
            assert len(heard(settings, catalog)) == count, more


def _advisory(settings: Settings, catalog: Catalog, severity: str = "high") -> None:
    """New data: an advisory touches numpy."""
    found = finding(NUMPY, CVE, severity=severity)
    catalog.record_scan(scan("web", found, at=clock.now()))
    changes = [{"change": "added", "advisory": CVE, "purl": NUMPY, "severity": severity}]
    with catalog.database.writing() as connection:
        audit.append(connection, events.FINDINGS, "1 findings", {"changes": changes}, at=clock.now(), batch=True)


def test_an_advisory_is_news_when_it_touches_what_runs(tmp_path: Path, room: Receiver) -> None:
    """Nothing that runs: no notice. Something does: which workload, whose it is, and what to bump."""
    settings = settled(tmp_path, room)
    with Catalog.open(settings) as catalog:
        image(catalog, "web", "numpy")
        _advisory(settings, catalog)
        assert heard(settings, catalog) == []
        seen = Sighting(
            cluster="c", namespace="shop", name="web", digest=digest("web"), owner="vision", seen_at=clock.now()
        )
        tracing.record_workload(catalog, seen)
        (notice,) = heard(settings, catalog)
    assert notice["title"] == f"{CVE} (high) reaches 1 running workloads"
    assert notice["lines"] == [f"c/shop/web (vision) runs {NUMPY}", "clears 1 images: numpy to 2.0"]
    assert notice["url"] == f"https://tide.example/uses?of={CVE}"


@pytest.mark.parametrize(("bound", "count"), [("critical", 0), ("high", 0), ("medium", 1), ("low", 1)])
def test_mild_advisories_are_not_told(tmp_path: Path, room: Receiver, bound: str, count: int) -> None:
    """`severity` is the mildest that is told."""
    settings = settled(tmp_path, room, f'severity = "{bound}"')
    with Catalog.open(settings) as catalog:
        image(catalog, "web", "numpy")
        seen = Sighting(cluster="c", namespace="shop", name="web", digest=digest("web"), seen_at=clock.now())
        tracing.record_workload(catalog, seen)
        _advisory(settings, catalog, "medium")
        assert len(heard(settings, catalog)) == count


@pytest.mark.parametrize(
    ("about", "states"),
    [
        ("pipeline", ["done", "denied", "failed", "cancelled", "poisoned"]),
        ("pipeline-failure", ["denied", "failed", "poisoned"]),
    ],
)
def test_pipelines_that_ended_are_told(tmp_path: Path, room: Receiver, about: str, states: list[str]) -> None:
    """All of them, or those that did not end well; with the error and what to do next."""
    settings = settled(tmp_path, room, f'about = ["{about}"]')
    error = {"code": "x", "message": "no such host", "next": "Check the network."}
    with Catalog.open(settings) as catalog:
        ended = [
            events.Event(
                id=f"7-{number}",
                type="pipeline.ended",
                time="2026-01-01T00:00:00Z",
                subject=f"run-{state}",
                data={"kind": "clear", "state": state, "repository": "https://git.example/a", "error": error},
            )
            for number, state in enumerate(("done", "denied", "failed", "cancelled", "poisoned"))
        ]
        found = [json.loads(one.body) for one in telling.said(catalog, settings.notices[0], ended, "")]
    assert [one["subject"].removeprefix("run-") for one in found] == states
    assert all("no such host" in one["lines"] and "next: Check the network." in one["lines"] for one in found)


def test_much_at_once_is_joined_into_few_messages(tmp_path: Path, room: Receiver) -> None:
    """A room gets no more messages a minute than it was said to; what waits goes into the next one."""
    settings = settled(tmp_path, room, "per_minute = 60")
    names = [f"image-{number}" for number in range(12)]
    with Catalog.open(settings) as catalog:
        for name in names:
            image(catalog, name)
        with serving(settings, catalog):
            for name in names:
                deny(settings, catalog, name)
            wait_for(lambda: told(settings, catalog).delivered == 12)
    assert len(room.got) < 12
    everything = "\n".join(texts(room))
    assert all(digest(name) in everything for name in names)


def test_a_room_that_says_no_with_status_200_is_tried_again(tmp_path: Path, room: Receiver) -> None:
    """DingTalk's "too fast" is not taken for a delivery."""
    room.answer = said({"errcode": 130101, "errmsg": "send too fast"})
    settings = settled(tmp_path, room, "per_minute = 600")
    with Catalog.open(settings) as catalog:
        image(catalog, "web")
        with serving(settings, catalog):
            deny(settings, catalog, "web")
            room.wait(2)
            assert told(settings, catalog).delivered == 0
            assert "130101" in told(settings, catalog).last_error
            room.answer = said({"errcode": 0})
            wait_for(lambda: told(settings, catalog).delivered == 1)


def test_a_sender_that_died_loses_nothing(tmp_path: Path, room: Receiver) -> None:
    """What one sender did not get through, the next one tells; what was told is not told again."""
    room.answer = said({}, 503)
    settings = settled(tmp_path, room, "per_minute = 600")
    with Catalog.open(settings) as catalog:
        image(catalog, "web")
        with serving(settings, catalog):
            deny(settings, catalog, "web")
            room.wait(1)
        room.answer = said({"errcode": 0})
        room.got.clear()
        with serving(settings, catalog):
            wait_for(lambda: told(settings, catalog).delivered == 1)
        with serving(settings, catalog):
            time.sleep(0.3)
    assert len(room.got) == 1


def test_channels_follow_the_settings(tmp_path: Path, room: Receiver) -> None:
    """A table that is gone is told nothing; one that is gone from the settings leaves nothing behind."""
    settings = settled(tmp_path, room)
    with Catalog.open(settings) as catalog:
        with serving(settings, catalog):
            assert told(settings, catalog).state == "active"
        wanted = [telling.channel(one) for one in settings.notices]
        with catalog.database.writing() as connection:
            notices.settle(connection, [], clock.now())
            assert notices.told(connection, wanted)[0].state == "new"
            assert notices.is_settled(connection, [])
            assert not notices.is_settled(connection, wanted)


def test_a_channel_of_another_servers_settings_waits(tmp_path: Path, room: Receiver) -> None:
    """A server whose settings do not name a channel neither tells it anything nor turns it off."""
    settings = settled(tmp_path, room, "per_minute = 600")
    without = all_settings.load({"TIDEWAITER_HOME": str(tmp_path / "none")})
    with Catalog.open(settings) as catalog:
        image(catalog, "web")
        with catalog.database.writing() as connection:
            notices.settle(connection, [], clock.now())
        one = Sender(msgspec.structs.replace(without, home=settings.home), catalog, first_wait=0.2, look=0.05)
        stop = threading.Event()
        thread = threading.Thread(target=one.run, args=(stop,))
        thread.start()
        try:
            time.sleep(0.5)  # it has settled its own
            with catalog.database.writing() as connection:
                notices.settle(connection, [telling.channel(settings.notices[0])], clock.now())
            deny(settings, catalog, "web")
            time.sleep(0.5)
        finally:
            stop.set()
            thread.join(20)
        shown = told(settings, catalog)
        assert (shown.state, shown.waiting, room.got) == ("active", 0, [])
        with serving(settings, catalog):
            room.wait(1)


def test_a_channel_is_no_webhook(tmp_path: Path, room: Receiver) -> None:
    """Whoever manages webhooks sees no channel, and cannot remove one."""
    from tidewaiter.core.errors import NotFoundError

    settings = settled(tmp_path, room)
    with Catalog.open(settings) as catalog, serving(settings, catalog), catalog.database.reading() as connection:
        assert webhooks.listed(connection) == ()
        with pytest.raises(NotFoundError):
            webhooks.one_of(connection, "notice:room")


def test_trying_a_channel_tells_it_now(tmp_path: Path, room: Receiver) -> None:
    """`notice test` says whether the room takes what is sent; its secret address is in no answer."""
    settings = settled(tmp_path, room, 'language = "zh"')
    assert trying.test(settings, "room").taken
    assert "测试" in texts(room)[0]
    room.answer = said({"errcode": 310000, "errmsg": "keywords not in content"})
    tried = trying.test(settings, "room")
    assert (tried.taken, tried.unable) == (False, False)
    assert "keywords not in content" in tried.attempt.error
    hidden = settled(tmp_path, room, "", to="slack")
    lost = trying.test(_with_url(hidden, "http://127.0.0.1:9/services/T0/B0/verysecret"), "room")
    assert not lost.taken
    assert "verysecret" not in lost.attempt.error
    room.answer = said({"error": "Cannot POST /services/T0/B0/verysecret?key=verysecret"}, 404)
    for url in (
        f"http://{room.url.split('/')[2]}/services/T0/B0/verysecret?key=verysecret",  # which says it back
        "http://rooms.example/services/T0/B0/verysecret",  # not https
        "rooms.example/services/T0/B0/verysecret",
        "https://rooms example/services/T0/B0/verysecret",
        "https://rooms.example:99999/services/T0/B0/verysecret",
    ):
        error = trying.test(_with_url(hidden, url), "room").attempt.error
        assert error
        assert "verysecret" not in error


def _with_url(settings: Settings, url: str) -> Settings:
    table = msgspec.structs.replace(settings.notices[0], url=url)
    return msgspec.structs.replace(settings, notices=(table,))


@pytest.mark.parametrize(
    ("data", "count"), [({"name": "team/web"}, 1), ({"name": "other/web"}, 0), ({"team": "other"}, 0), ({}, 1)]
)
def test_runs_of_other_projects_are_not_told(tmp_path: Path, room: Receiver, data: dict[str, str], count: int) -> None:
    """A run belongs to the project of its image, or, before there is one, to its team's."""
    settings = settled(tmp_path, room, 'projects = ["team"]')
    ended = events.Event(
        id="7-0",
        type="pipeline.ended",
        time="2026-01-01T00:00:00Z",
        subject="run-x",
        data={"kind": "clear", "state": "failed", **data},
    )
    with Catalog.open(settings) as catalog:
        assert len(telling.said(catalog, settings.notices[0], [ended], "")) == count


@pytest.mark.parametrize(
    ("scope", "count"), [({"image": "team/web"}, 1), ({"image": "other/*"}, 0), ({"image": "*"}, 1), ({}, 1)]
)
def test_waivers_of_other_projects_are_not_told(
    tmp_path: Path, room: Receiver, scope: dict[str, str], count: int
) -> None:
    """A waiver for images of one project is that project's; any other is everybody's."""
    settings = settled(tmp_path, room, 'projects = ["team"]')
    ends = events.Event(
        id="7-0",
        type="waiver.expiring",
        time="2026-01-01T00:00:00Z",
        subject="wv-1",
        data={"scope": scope, "owner": "ann", "expires_at": "2026-01-09T00:00:00Z"},
    )
    with Catalog.open(settings) as catalog:
        assert len(telling.said(catalog, settings.notices[0], [ends], "")) == count


def test_an_event_without_sense_stops_nobody(tmp_path: Path, room: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be told is logged; what happened besides is told."""
    settings = settled(tmp_path, room)
    real = notices.denial

    def denial(connection: Any, subject: str, environment: str) -> Any:
        if subject == digest("bad"):
            raise ValueError("no sense")
        return real(connection, subject, environment)

    monkeypatch.setattr(notices, "denial", denial)
    with Catalog.open(settings) as catalog:
        image(catalog, "bad")
        image(catalog, "good")
        with serving(settings, catalog):
            deny(settings, catalog, "bad")
            deny(settings, catalog, "good")
            wait_for(lambda: told(settings, catalog).delivered == 1)
    assert digest("good") in texts(room)[0]
