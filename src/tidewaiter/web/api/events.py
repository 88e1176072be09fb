"""What happened: as a list that goes on behind any event, and as a stream."""

from typing import Annotated

import msgspec
from fastapi import Response

from tidewaiter.access.roles import Permission, project_of
from tidewaiter.catalog import events
from tidewaiter.catalog.events import Event
from tidewaiter.core import limits
from tidewaiter.web import problems, sse
from tidewaiter.web.api.following import follower, goes_on
from tidewaiter.web.api.route import Ask, Page, Routes

ROUTES = Routes("events")
_READ = Permission.CATALOG_READ
_TYPE_CHARACTERS = 64
_PROJECT_CHARACTERS = 255

After = Annotated[
    str,
    msgspec.Meta(
        max_length=40,
        description="Behind which event: its `id`, or `next` or `last` of a part; empty: the oldest that is kept.",
    ),
]
Types = Annotated[
    tuple[Annotated[str, msgspec.Meta(min_length=1, max_length=_TYPE_CHARACTERS)], ...],
    msgspec.Meta(max_length=30, description="Only events of these types; may be given several times."),
]
Project = Annotated[
    str,
    msgspec.Meta(
        max_length=_PROJECT_CHARACTERS,
        description="Only events about images of this project, and those that are about none.",
    ),
]


class StreamQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which events."""

    type: Types = ()
    project: Project = ""
    after: After = ""


class EventsQuery(StreamQuery, frozen=True, kw_only=True):
    """Which events, and how many at once."""

    limit: Annotated[int, msgspec.Meta(ge=1, le=limits.EVENT_ROWS, description="At most so many items.")] = (
        limits.PAGE_ROWS
    )


def _types(given: tuple[str, ...]) -> frozenset[str]:
    for one in given:
        if one not in events.TYPES:
            raise problems.malformed(f"{one[:60]!r} is no type of events", f"There are: {', '.join(events.TYPES)}.")
    return frozenset(given)


def _is_of(event: Event, project: str) -> bool:
    return not project or not event.repositories or any(project_of(one) == project for one in event.repositories)


class Happened(Page[Event], frozen=True):
    """A part of what happened."""

    last: str = ""
    """Where this part ends: give it as `after` some other day for what happened since, each event once."""


@ROUTES.get("/events", permission=_READ, errors=(404,))
def list_events(ask: Ask, query: EventsQuery) -> Happened:
    """What happened, the oldest first.

    A part may be empty, or have fewer items than `limit`, although there are more: `next` says so. Without `after` it
    begins with the oldest event that is kept. Types are in the guide to webhooks.
    """
    after = events.place(query.after)
    with ask.source.catalog.database.reading() as connection:
        found = events.read(connection, after, types=_types(query.type), rows=query.limit)
    shown = tuple(one for one in found.events if _is_of(one, query.project))
    last = query.after if found.place == events.START else str(found.place)
    return Happened(shown, last if found.more else None, last)


@ROUTES.get("/events/stream", permission=_READ, media_type=sse.MEDIA_TYPE, errors=(503,))
def stream_events(ask: Ask, query: StreamQuery) -> Response:
    """What happens, as it happens: server-sent events.

    It begins behind the event that the header `Last-Event-ID` or `after` names, else with what happens next. `event`
    is the type, `data` the event as in the list, `id` what to send as `Last-Event-ID` to go on without a gap. After
    an hour the stream ends; readers come back by themselves.
    """
    streams: sse.Streams = ask.request.app.state.streams
    given = ask.request.headers.get("last-event-id", "") or query.after
    place = events.place(given) if given else streams.latest()
    with ask.source.catalog.database.reading() as connection:
        events.require_kept(connection, place)
    return sse.EventStream(
        streams,
        place,
        _types(query.type),
        lambda event: _is_of(event, query.project),
        who=follower(ask),
        may=goes_on(ask, _READ),
    )
