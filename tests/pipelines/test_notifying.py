"""Webhooks: signed, in order, tried again, and sent to no address that only the server can reach."""

import datetime as dt
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import update
from standardwebhooks.webhooks import Webhook as Oracle

import receivers
from receivers import Receiver
from tidewaiter.catalog import events, expiring, outbox, owned, schema, webhooks
from tidewaiter.catalog.audit import entries as audit
from tidewaiter.catalog.audit import sequencer
from tidewaiter.catalog.catalog import Catalog
from tidewaiter.catalog.outbox import Delivery
from tidewaiter.catalog.workloads import Sighting
from tidewaiter.core import clock, limits
from tidewaiter.core import settings as all_settings
from tidewaiter.core.errors import InputError, NotFoundError, RefusedError
from tidewaiter.core.settings import Settings
from tidewaiter.oci import digest as digests
from tidewaiter.pipelines import tracing
from tidewaiter.pipelines.notifying import endpoints, secrets, sending, subscribing
from tidewaiter.pipelines.notifying.endpoints import Endpoints
from tidewaiter.pipelines.notifying.sending import Sender
from tidewaiter.transport import proxies

IMAGE = "sha256:" + "a" * 64


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return all_settings.load({"TIDEWAITER_HOME": str(tmp_path / "home"), "TIDEWAITER_WEBHOOK_HOSTS": "127.0.0.1"})


@pytest.fixture
def catalog(settings: Settings) -> Iterator[Catalog]:
    with Catalog.open(settings) as opened:
        yield opened


@pytest.fixture
def endpoint() -> Iterator[Receiver]:
    with receivers.receiver() as made:
        yield made


@contextmanager
def sender(settings: Settings, catalog: Catalog) -> Iterator[None]:
    """A sender that is quick, and waits no longer than a second after a refusal."""
    stop = threading.Event()
    one = Sender(settings, catalog, first_wait=0.2, look=0.05)
    thread = threading.Thread(target=one.run, args=(stop,))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(20)
        assert not thread.is_alive()


def happen(settings: Settings, catalog: Catalog, *names: str) -> None:
    """Something happens: a workload is seen, which is one event each."""
    for name in names:
        seen = Sighting(cluster="c", namespace="n", name=name, digest=IMAGE, seen_at=clock.now())
        tracing.record_workload(catalog, seen)
    assert sequencer.settle(settings) == ""


def subscribe(settings: Settings, catalog: Catalog, url: str, **more: tuple[str, ...]) -> subscribing.Subscribed:
    return subscribing.add(
        catalog, settings, url, types=more.get("types", ()), projects=more.get("projects", ()), who="alice"
    )


def delivered(catalog: Catalog, count: int, state: str = "delivered", seconds: float = 20) -> tuple[Delivery, ...]:
    """The deliveries in that state, the first first, once there are so many."""
    deadline = time.monotonic() + seconds
    while True:
        with catalog.database.reading() as connection:
            found, _ = outbox.listed(connection, state=state, rows=1000)
        if len(found) >= count:
            return found[::-1]
        assert time.monotonic() < deadline, f"{len(found)} of {count} are {state}"
        time.sleep(0.02)


def subjects(endpoint: Receiver) -> list[str]:
    return [msgspec.json.decode(one.body)["data"]["subject"] for one in endpoint.got]


def test_messages_are_signed_as_the_standard_has_it(settings: Settings, catalog: Catalog, endpoint: Receiver) -> None:
    """The reference library verifies what arrives with the secret that was shown, and with no other."""
    made = subscribe(settings, catalog, endpoint.url)
    happen(settings, catalog, "web")
    with sender(settings, catalog):
        got = endpoint.wait(1)[0]
    body = Oracle(made.secret).verify(got.body, got.headers)
    assert (body["type"], body["data"]["subject"]) == ("workload.seen", "c/n/web")
    other = secrets.root(settings).shown(made.webhook.id, 2)
    with pytest.raises(Exception, match="No matching signature"):
        Oracle(other).verify(got.body, got.headers)
    with pytest.raises(Exception, match="No matching signature"):
        Oracle(made.secret).verify(got.body + b" ", got.headers)


def test_the_secret_is_kept_nowhere(settings: Settings, catalog: Catalog) -> None:
    """Neither the database nor the log has the secret; the key that it is derived from is for its owner alone."""
    made = subscribe(settings, catalog, "https://example.com/hook")
    secret = made.secret.removeprefix("whsec_").encode()
    for path in settings.home.path.rglob("*"):
        if path.is_file():
            assert secret not in path.read_bytes()
    key = settings.home.keys / "webhooks.secret"
    assert key.stat().st_mode & 0o777 == 0o600


def test_all_arrive_in_order_once(settings: Settings, catalog: Catalog, endpoint: Receiver) -> None:
    """Everything that happens arrives, in order, each message once and under an id of its own."""
    subscribe(settings, catalog, endpoint.url, types=("workload.seen",))
    names = [f"w{number:02}" for number in range(30)]
    with sender(settings, catalog):
        happen(settings, catalog, *names)
        endpoint.wait(30)
        delivered(catalog, 30)
    assert subjects(endpoint) == [f"c/n/{name}" for name in names]
    assert len({one.headers["webhook-id"] for one in endpoint.got}) == 30


def test_an_unable_endpoint_keeps_the_order(settings: Settings, catalog: Catalog, endpoint: Receiver) -> None:
    """While an endpoint answers 500 nothing else is sent; then it goes on with the same message and id."""
    subscribe(settings, catalog, endpoint.url)
    endpoint.answer = receivers.status(500)
    happen(settings, catalog, "first", "second")
    with sender(settings, catalog):
        endpoint.wait(3)
        endpoint.answer = receivers.taken
        found = delivered(catalog, 2)
    assert set(subjects(endpoint)[:-1]) == {"c/n/first"}
    assert subjects(endpoint)[-1] == "c/n/second"
    assert len({one.headers["webhook-id"] for one in endpoint.got[:-1]}) == 1
    assert [one.status for one in found[0].attempts][:2] == [500, 500]
    assert (found[0].attempts[-1].status, found[1].attempts[-1].status) == (204, 204)


def test_a_refused_message_does_not_hold_the_others(settings: Settings, catalog: Catalog, endpoint: Receiver) -> None:
    """A message that is refused (400, or a redirect, which nobody follows) waits alone."""
    subscribe(settings, catalog, endpoint.url)
    answers = iter([receivers.status(400), receivers.status(302, Location=endpoint.url + "/elsewhere")])

    def answer(request: BaseHTTPRequestHandler) -> None:
        next(answers, receivers.taken)(request)

    endpoint.answer = answer
    happen(settings, catalog, "first", "second", "third")
    with sender(settings, catalog):
        delivered(catalog, 3)
    assert subjects(endpoint)[:3] == ["c/n/first", "c/n/second", "c/n/third"]
    assert {one.path for one in endpoint.got} == {"/hook"}
    assert len(endpoint.got) == 5


@pytest.mark.thorough
def test_gone_disables(settings: Settings, catalog: Catalog, endpoint: Receiver) -> None:
    """410 ends it: nothing more is sent, the log says why, and enabling goes on with what happens then."""
    made = subscribe(settings, catalog, endpoint.url)
    endpoint.answer = receivers.status(410)
    happen(settings, catalog, "first", "second")
    with sender(settings, catalog):
        delivered(catalog, 1, "dead")
        with catalog.database.reading() as connection:
            assert webhooks.one_of(connection, made.webhook.id).state == "disabled"
        happen(settings, catalog, "third")
        time.sleep(0.3)
        assert len(endpoint.got) == 1
        endpoint.answer = receivers.taken
        with catalog.database.writing() as connection:
            webhooks.enable(connection, made.webhook.id, who="alice", at=clock.now())
        happen(settings, catalog, "fourth")
        delivered(catalog, 2)
    assert subjects(endpoint) == ["c/n/first", "c/n/second", "c/n/fourth"]


def test_it_waits_as_long_as_it_is_asked(settings: Settings, catalog: Catalog, endpoint: Receiver) -> None:
    """`Retry-After` of a busy endpoint is honoured, up to a bound."""
    made = subscribe(settings, catalog, endpoint.url)
    endpoint.answer = receivers.status(429, Retry_After="1000")
    happen(settings, catalog, "first")
    with sender(settings, catalog):
        endpoint.wait(1)
        time.sleep(0.5)
    with catalog.database.reading() as connection:
        found = webhooks.one_of(connection, made.webhook.id)
    assert found.resume_at is not None
    assert dt.timedelta(seconds=900) < found.resume_at - clock.now() <= dt.timedelta(seconds=1001)
    assert len(endpoint.got) == 1


def test_one_that_hangs_holds_nobody_else(
    settings: Settings, catalog: Catalog, endpoint: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A silent endpoint is given up in time; others get theirs meanwhile, and stopping does not wait for it."""
    monkeypatch.setattr(limits, "WEBHOOK_ANSWER_SECONDS", 30.0)
    with receivers.receiver() as other:
        endpoint.answer = receivers.hang
        subscribe(settings, catalog, endpoint.url)
        subscribe(settings, catalog, other.url)
        with sender(settings, catalog):
            happen(settings, catalog, "first", "second")
            endpoint.wait(1)
            other.wait(2)
            began = time.monotonic()
        assert time.monotonic() - began < 5
    with catalog.database.reading() as connection:
        waiting, _ = outbox.listed(connection, state="waiting", rows=10)
    assert len(waiting) == 2
    assert not any(one.attempts for one in waiting)


def test_an_endless_answer_is_not_read(settings: Settings, catalog: Catalog, endpoint: Receiver) -> None:
    """What an endpoint answers behind its 200 does not matter, however long."""
    subscribe(settings, catalog, endpoint.url)
    endpoint.answer = receivers.endless
    happen(settings, catalog, "first", "second")
    with sender(settings, catalog):
        delivered(catalog, 2)
    assert subjects(endpoint) == ["c/n/first", "c/n/second"]


def test_a_silent_endpoint_is_given_up(
    settings: Settings, catalog: Catalog, endpoint: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without an answer in time the attempt has no status, and says so."""
    monkeypatch.setattr(limits, "WEBHOOK_ANSWER_SECONDS", 0.3)
    endpoint.answer = receivers.hang
    made = subscribe(settings, catalog, endpoint.url)
    tried = subscribing.test(catalog, settings, made.webhook.id)
    assert (tried.taken, tried.unable, tried.attempt.status) == (False, True, 0)
    assert "no answer in time" in tried.attempt.error


def test_both_secrets_count_for_a_day(settings: Settings, catalog: Catalog, endpoint: Receiver) -> None:
    """After a rotation messages carry both signatures, then only the new one."""
    first = subscribe(settings, catalog, endpoint.url)
    second = subscribing.rotate(catalog, settings, first.webhook.id, who="alice")
    assert subscribing.test(catalog, settings, first.webhook.id).taken
    for secret in (first.secret, second.secret):
        Oracle(secret).verify(endpoint.got[0].body, endpoint.got[0].headers)
    with catalog.database.writing() as connection:
        connection.execute(update(schema.webhook).values(earlier_until=clock.now()))
    assert subscribing.test(catalog, settings, first.webhook.id).taken
    Oracle(second.secret).verify(endpoint.got[1].body, endpoint.got[1].headers)
    with pytest.raises(Exception, match="No matching signature"):
        Oracle(first.secret).verify(endpoint.got[1].body, endpoint.got[1].headers)


def test_another_key_sends_nothing(settings: Settings, catalog: Catalog, endpoint: Receiver) -> None:
    """With another home's key nothing is signed wrongly: the webhook is disabled, and says why."""
    made = subscribe(settings, catalog, endpoint.url)
    (settings.home.keys / "webhooks.secret").unlink()
    happen(settings, catalog, "first")
    with sender(settings, catalog):
        deadline = time.monotonic() + 10
        while True:
            with catalog.database.reading() as connection:
                found = webhooks.one_of(connection, made.webhook.id)
            if found.state == "disabled":
                break
            assert time.monotonic() < deadline
            time.sleep(0.05)
    assert "another key" in found.reason
    assert endpoint.got == []


def test_after_a_day_it_is_dead(settings: Settings, catalog: Catalog, endpoint: Receiver) -> None:
    """What nobody took for a day is given up, with an entry of the log; redelivery sends it under the same id."""
    subscribe(settings, catalog, endpoint.url)
    endpoint.answer = receivers.status(500)
    happen(settings, catalog, "first")
    with sender(settings, catalog):
        endpoint.wait(1)
    old = clock.now() - dt.timedelta(seconds=limits.WEBHOOK_SECONDS + 1)
    with catalog.database.writing() as connection:
        connection.execute(update(schema.webhook_delivery).values(created_at=old))
    with sender(settings, catalog):
        dead = delivered(catalog, 1, "dead")[0]
    assert sequencer.settle(settings) == ""
    with catalog.database.reading() as connection:
        of = schema.audit_entry.c
        entry = connection.scalars(
            of.entry.table.select().with_only_columns(of.entry).where(of.action == "webhook.dead")
        )
        assert audit.parse(bytes(entry.one())).detail["deliveries"] == 1
    endpoint.answer = receivers.taken
    with catalog.database.writing() as connection:
        outbox.redeliver(connection, dead.id, who="alice", at=clock.now())
    with sender(settings, catalog):
        assert delivered(catalog, 1)[0].id == dead.id
    assert {one.headers["webhook-id"] for one in endpoint.got} == {dead.id}


def test_only_what_is_wanted_is_sent(settings: Settings, catalog: Catalog, endpoint: Receiver) -> None:
    """Types and projects choose; what belongs to no project is told to everyone."""
    from tidewaiter.catalog.records import BuildRecord

    def build(repository: str, name: str) -> BuildRecord:
        now = clock.now()
        return BuildRecord(
            repository=repository,
            digest=digests.of(name.encode()),
            media_type="application/vnd.oci.image.manifest.v1+json",
            layers=(),
            environment="research",
            purpose="training",
            source="x",
            commit="ab" * 20,
            dirty=False,
            builder="local",
            started=now,
            finished=now,
            seconds=1.0,
        )

    subscribe(settings, catalog, endpoint.url, projects=("vision",))
    for repository in ("vision/serving", "speech/serving", "vision/other"):
        catalog.record_build(build(repository, repository))
    happen(settings, catalog, "web")
    with sender(settings, catalog):
        endpoint.wait(3)
        time.sleep(0.2)
    found = [msgspec.json.decode(one.body) for one in endpoint.got]
    assert [(one["type"], one["data"].get("repository")) for one in found] == [
        ("image.recorded", "vision/serving"),
        ("image.recorded", "vision/other"),
        ("workload.seen", None),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "127.0.0.1",
        "10.1.2.3",
        "192.168.0.1",
        "172.16.0.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "::1",
        "::",
        "fe80::1%eth0",
        "fc00::1",
        "ff02::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "64:ff9b::7f00:1",
        "2002:7f00:1::",
        "::127.0.0.1",
        "::ffff:0:127.0.0.1",
        "64:ff9b:1::7f00:1",
        "fec0::1",
        "localhost",
    ],
)
def test_addresses_of_the_inside_are_not_public(text: str) -> None:
    """Loopback, private, link-local, shared and multicast addresses, also within those of IPv6, are refused."""
    assert not endpoints.public(text)


@pytest.mark.parametrize(
    "text", ["93.184.216.34", "1.1.1.1", "2606:4700:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"]
)
def test_addresses_of_the_internet_are_public(text: str) -> None:
    """Others are not."""
    assert endpoints.public(text)


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/",
        "https://10.0.0.1/",
        "https://[::1]/",
        "https://localhost/",
        "https://127.0.0.2:8443/",
    ],
)
def test_what_is_not_public_is_refused_at_once(settings: Settings, catalog: Catalog, url: str) -> None:
    """What can be said without asking for an address is said when somebody subscribes."""
    with pytest.raises(RefusedError) as caught:
        subscribe(settings, catalog, url)
    assert caught.value.code == "webhook_address"


@pytest.mark.parametrize("url", ["ftp://example.com/", "x", "https://user:secret@example.com/", "https://e.example/#a"])
def test_what_is_no_plain_address_is_bad_input(settings: Settings, catalog: Catalog, url: str) -> None:
    """Other schemes, passwords and fragments are bad input."""
    with pytest.raises(InputError):
        subscribe(settings, catalog, url)


def test_a_name_that_leads_inside_is_not_connected_to(settings: Settings, catalog: Catalog, endpoint: Receiver) -> None:
    """A name is judged by the address that the connection would have, not by how it looks."""
    port = endpoint.url.rpartition(":")[2].partition("/")[0]
    # The resolver reads it as 127.0.0.1.
    made = subscribe(settings, catalog, f"https://0x7f000001:{port}/hook")
    tried = subscribing.test(catalog, settings, made.webhook.id)
    assert not tried.taken
    assert "may not be connected to" in tried.attempt.error
    assert endpoint.got == []


def test_no_proxy_hides_an_address(
    settings: Settings, catalog: Catalog, endpoint: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy of the environment is not used for hosts that the settings do not name: it would connect for us."""
    monkeypatch.setenv("HTTPS_PROXY", endpoint.url.removesuffix("/hook"))
    assert proxies.read(dict(os.environ)).https
    with Endpoints(settings, secrets.root(settings)) as opened:
        assert opened._open._pools._proxies == proxies.Proxies()


def test_unknown_things_are_said(settings: Settings, catalog: Catalog) -> None:
    """Types, projects and ids that cannot be are refused by name."""
    with pytest.raises(InputError, match="no type of events"):
        subscribe(settings, catalog, "https://example.com/", types=("image.exploded",))
    with pytest.raises(InputError, match="no project"):
        subscribe(settings, catalog, "https://example.com/", projects=("a/b",))
    with pytest.raises(NotFoundError), catalog.database.writing() as connection:
        webhooks.remove(connection, "wh_x", who="alice", at=clock.now())


def test_one_server_owns_the_work(settings: Settings, catalog: Catalog) -> None:
    """Another holder is refused until the first one is silent for long enough, or lets go."""
    now = clock.now()
    with catalog.database.writing() as connection:
        assert owned.own(connection, "webhooks", "one", now)
        assert owned.own(connection, "webhooks", "one", now)
        assert not owned.own(connection, "webhooks", "two", now)
        later = now + dt.timedelta(seconds=limits.OWNED_SECONDS)
        assert owned.own(connection, "webhooks", "two", later)
        owned.disown(connection, "webhooks", "two")
        assert owned.own(connection, "webhooks", "one", now)


def test_two_senders_send_once(settings: Settings, catalog: Catalog, endpoint: Receiver) -> None:
    """Two servers of one database send each message once, as long as both live."""
    subscribe(settings, catalog, endpoint.url)
    with sender(settings, catalog), sender(settings, catalog):
        happen(settings, catalog, *(f"w{number}" for number in range(10)))
        delivered(catalog, 10)
        time.sleep(0.3)
    assert len(endpoint.got) == 10


_CHILD = """
import threading
from tidewaiter.catalog.catalog import Catalog
from tidewaiter.core import settings
from tidewaiter.pipelines.notifying.sending import Sender
loaded = settings.load()
with Catalog.open(loaded) as catalog:
    Sender(loaded, catalog, first_wait=0.2, look=0.05).run(threading.Event())
"""


@pytest.mark.thorough
def test_a_kill_loses_nothing(
    settings: Settings, catalog: Catalog, endpoint: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After senders were killed while they sent, everything arrived, in order, at most twice and under the same id."""
    monkeypatch.setattr(limits, "OWNED_SECONDS", 1)
    subscribe(settings, catalog, endpoint.url)
    environment = {
        **os.environ,
        "TIDEWAITER_HOME": str(settings.home.path),
        "TIDEWAITER_WEBHOOK_HOSTS": "127.0.0.1",
    }

    def slowly(request: BaseHTTPRequestHandler) -> None:
        time.sleep(0.03)
        receivers.taken(request)

    endpoint.answer = slowly
    names = [f"w{number:02}" for number in range(40)]
    happen(settings, catalog, *names)
    for wanted in (5, 15):
        child = subprocess.Popen([sys.executable, "-c", _CHILD], env=environment)
        endpoint.wait(wanted)
        child.send_signal(signal.SIGKILL)
        child.wait()
        with catalog.database.writing() as connection:  # as if its time were over
            connection.execute(schema.owned_work.delete())
    with sender(settings, catalog):
        delivered(catalog, 40, seconds=120)
    first = list(dict.fromkeys(subjects(endpoint)))
    assert first == [f"c/n/{name}" for name in names]
    ids = [one.headers["webhook-id"] for one in endpoint.got]
    assert len(set(ids)) == 40
    assert len(ids) <= 42


def test_a_waiver_that_ends_soon_is_told_once(settings: Settings, catalog: Catalog, endpoint: Receiver) -> None:
    """A waiver in force that ends within two weeks is an event, and is none again."""
    from tidewaiter.policy.scope import Scope
    from tidewaiter.policy.waivers import Waiver

    now = clock.now()
    for name, days in (("soon", 3), ("later", 60)):
        waiver = Waiver(
            id=f"wv-{name}",
            scope=Scope(environments=("research",), advisory="CVE-2026-1"),
            owner="team",
            reason="because",
            requested_by="alice",
            requested_at=now,
            expires_at=now + dt.timedelta(days=days),
        )
        catalog.request_waiver(waiver)
        catalog.approve_waiver(waiver.id, "bob")
    subscribe(settings, catalog, endpoint.url, types=("waiver.expiring",))
    with sender(settings, catalog):
        deadline = time.monotonic() + 10
        while sequencer.settle(settings) or not endpoint.got:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    with catalog.database.writing() as connection:
        assert expiring.announce_waivers(connection, clock.now()) == 0
    assert subjects(endpoint) == ["wv-soon"]


def test_projects_are_those_of_repositories() -> None:
    """A repository's project is its first part behind the host."""
    assert sending.concerns(["registry.example/vision/a", "x/y"], ("vision",))
    assert not sending.concerns(["registry.example/vision/a"], ("registry.example",))


def test_the_receiver_of_the_guide_verifies(settings: Settings, catalog: Catalog, endpoint: Receiver) -> None:
    """The few lines that the guide shows take what is sent, and nothing that was changed or is old."""
    guide = (Path(__file__).resolve().parents[2] / "docs" / "guide" / "webhooks.md").read_text(encoding="utf-8")
    shown = guide.partition("```python\n")[2].partition("```")[0]
    given: dict[str, Any] = {}
    exec(shown, given)
    made = subscribe(settings, catalog, endpoint.url)
    assert subscribing.test(catalog, settings, made.webhook.id).taken
    got = endpoint.got[0]
    assert given["verified"](made.secret, got.headers, got.body)
    assert not given["verified"](made.secret, got.headers, got.body + b" ")
    old = {**got.headers, "webhook-timestamp": "1700000000"}
    assert not given["verified"](made.secret, old, got.body)


def test_the_guide_lists_every_type() -> None:
    """The table of types in the guide is that of the code."""
    guide = (Path(__file__).resolve().parents[2] / "docs" / "guide" / "webhooks.md").read_text(encoding="utf-8")
    listed = {
        line.split("`")[1]: line.rpartition("` | ")[2].removesuffix(" |")
        for line in guide.splitlines()
        if line.startswith("| `")
    }
    assert listed == events.TYPES
