"""A stream of events, as one reader of it meets the server."""

import asyncio
from pathlib import Path

import pytest
from starlette.types import Message

from tidewaiter.catalog import events
from tidewaiter.catalog.audit import sequencer
from tidewaiter.catalog.catalog import Catalog
from tidewaiter.catalog.workloads import Sighting
from tidewaiter.core import clock, limits
from tidewaiter.core import settings as all_settings
from tidewaiter.core.settings import Settings
from tidewaiter.pipelines import tracing
from tidewaiter.web.problems import HttpError
from tidewaiter.web.source import Source
from tidewaiter.web.sse import EventStream, Streams

SCOPE = {"type": "http"}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    made = all_settings.load({"TIDEWAITER_HOME": str(tmp_path)})
    with Catalog.open(made) as catalog:
        for number in range(3):
            seen = Sighting(
                cluster="c", namespace="n", name=f"w{number}", digest="sha256:" + "a" * 64, seen_at=clock.now()
            )
            tracing.record_workload(catalog, seen)
    assert sequencer.settle(made) == ""
    return made


async def _nothing() -> Message:
    await asyncio.sleep(60)
    return {"type": "http.disconnect"}


def _stream(streams: Streams) -> EventStream:
    return EventStream(streams, events.START, frozenset(), lambda _: True)


def test_a_reader_who_takes_nothing_is_cut(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever takes none of what is sent for so long loses his stream, and nobody waits for him."""
    monkeypatch.setattr(limits, "EVENT_SEND_SECONDS", 0.1)

    async def stuck(message: Message) -> None:
        if message["type"] == "http.response.body":
            await asyncio.sleep(60)

    async def read() -> None:
        streams = Streams(Source(settings))
        await asyncio.wait_for(_stream(streams)(dict(SCOPE), _nothing, stuck), 10)
        assert streams._open.total() == 0
        assert streams._looking is None

    asyncio.run(read())


def test_a_quiet_stream_says_that_it_lives(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """When nothing happens a comment is sent, with the place to go on from; and the stream ends in its time."""
    monkeypatch.setattr(limits, "EVENT_HEARTBEAT_SECONDS", 0.2)
    monkeypatch.setattr(limits, "EVENT_STREAM_SECONDS", 2.0)
    sent: list[bytes] = []

    async def send(message: Message) -> None:
        sent.append(message.get("body", b""))

    async def read() -> None:
        await asyncio.wait_for(_stream(Streams(Source(settings)))(dict(SCOPE), _nothing, send), 20)

    asyncio.run(read())
    whole = b"".join(sent)
    assert whole.count(b"\nevent: workload.seen\n") == 3
    assert b": still here\nid: 3\n\n" in whole
    assert sent[-1] == b""


def test_a_reader_who_leaves_is_let_go(settings: Settings) -> None:
    """When the client has gone, its stream ends, and with the last one the look at the log."""

    async def gone() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        return

    async def read() -> None:
        streams = Streams(Source(settings))
        await asyncio.wait_for(_stream(streams)(dict(SCOPE), gone, send), 20)
        assert (streams._open.total(), streams._looking) == (0, None)

    asyncio.run(read())


def test_streams_are_bounded(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """One stream too many is refused, and so is any when the server stops."""
    monkeypatch.setattr(limits, "EVENT_STREAMS", 2)

    async def open_many() -> None:
        streams = Streams(Source(settings))
        streams.enter()
        streams.enter()
        with pytest.raises(HttpError) as caught:
            streams.enter()
        assert (caught.value.status, caught.value.code) == (503, "too_many_streams")
        streams.leave()
        streams.enter()
        streams.close()
        streams.leave()
        with pytest.raises(HttpError):
            streams.enter()

    asyncio.run(open_many())


def test_one_reader_does_not_take_all_streams(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each has so many; what was left is free again."""
    monkeypatch.setattr(limits, "EVENT_STREAMS_OF_ONE", 1)

    async def open_many() -> None:
        streams = Streams(Source(settings))
        streams.enter("alice")
        with pytest.raises(HttpError, match="yours"):
            streams.enter("alice")
        streams.enter("bob")
        streams.leave("alice")
        streams.enter("alice")
        streams.close()

    asyncio.run(open_many())


def test_who_may_read_no_more_is_sent_no_more(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is disabled, logged out or without role meanwhile does not keep the stream for an hour."""
    monkeypatch.setattr(limits, "EVENT_HEARTBEAT_SECONDS", 0.1)
    may = iter([True, True, False])
    asked: list[bool] = []

    def allowed() -> bool:
        asked.append(next(may))
        return asked[-1]

    async def send(message: Message) -> None:
        return

    async def read() -> None:
        streams = Streams(Source(settings))
        stream = EventStream(streams, events.START, frozenset(), lambda _: True, who="alice", may=allowed)
        await asyncio.wait_for(stream(dict(SCOPE), _nothing, send), 20)
        assert streams._open.total() == 0

    asyncio.run(read())
    assert asked == [True, True, False]
