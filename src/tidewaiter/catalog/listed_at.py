"""What lay where on a day: each tag of that day, its image, the findings that were known, the verdicts that stood."""

import base64
import binascii
import datetime as dt
from collections import Counter, defaultdict
from collections.abc import Collection, Sequence

import msgspec
from sqlalchemy import ColumnElement, Connection, func, select, tuple_

from tidewaiter.catalog import as_of, filtering, narrowing, owners, schema, verdicts_at
from tidewaiter.catalog.as_of import Meaning, TagAt
from tidewaiter.catalog.records import SEVERITIES
from tidewaiter.catalog.rows import chunks
from tidewaiter.core.errors import InputError


class VerdictThen(msgspec.Struct, frozen=True):
    """What was decided for an environment."""

    environment: str
    verdict: str
    valid: bool
    """Whether it was valid at that moment."""


class ListedAt(msgspec.Struct, frozen=True, kw_only=True):
    """A tag, and what was known of the image that it meant."""

    name: str
    """Of the repository."""
    tag: str
    digest: str
    visibility: Meaning
    since: dt.datetime
    owner: str
    findings: dict[str, int] | None
    """By severity, as they were known then; None of what was not inspected, an index for example."""
    verdicts: tuple[VerdictThen, ...]


class PageAt(msgspec.Struct, frozen=True):
    """Some of them."""

    items: tuple[ListedAt, ...]
    next: str
    """Cursor of the page that follows; empty on the last one."""


def listed(
    connection: Connection,
    at: dt.datetime,
    *,
    repository: str = "",
    tag: str = "",
    cursor: str = "",
    rows: int,
) -> PageAt:
    """Tags by repository and name, from the cursor of another page on.

    Args:
        connection: of any transaction.
        at: a moment in the past.
        repository: only this one and those below it; or a pattern.
        tag: only tags like this pattern.
        cursor: `next` of another page.
        rows: at most so many; one more where a tag of the store and one elsewhere have the same name.

    Raises:
        InputError: the cursor is none that a page ended with.
    """
    after = _parsed(cursor) if cursor else None

    def where(name: ColumnElement[str], of: ColumnElement[str]) -> list[ColumnElement[bool]]:
        wanted = [filtering.inside(repository)] if repository else []
        wanted += [narrowing.like(of, tag)] if tag else []
        return [*wanted, tuple_(name, of) > after] if after else wanted

    found = as_of.tags(connection, at, where=where, rows=rows + 2)
    end = rows + (len(found) > rows and _name(found[rows - 1]) == _name(found[rows]))
    following = _cursor(found[end - 1]) if len(found) > end else ""
    return PageAt(_with_facts(connection, found[:end], at), following)


def _name(one: TagAt) -> tuple[str, str]:
    return one.repository, one.tag


def _cursor(one: TagAt) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(_name(one))).decode().rstrip("=")


def _parsed(cursor: str) -> tuple[str, str]:
    try:
        data = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        return msgspec.json.decode(data, type=tuple[str, str])
    except (ValueError, binascii.Error) as error:
        raise InputError(
            f"{cursor[:60]!r} is no cursor of this list",
            next_step="Take `next` of the page before; leave it out for the first.",
        ) from error


def _with_facts(connection: Connection, tags: Sequence[TagAt], at: dt.datetime) -> tuple[ListedAt, ...]:
    of = schema.artifact.c
    digests = sorted({one.digest for one in tags})
    images = {
        row.digest: row
        for some in chunks(digests)
        for row in connection.execute(select(of.id, of.digest, of.component_set_id).where(of.digest.in_(some)))
    }
    stood = verdicts_at.standing(connection, [row.id for row in images.values()], at)
    counts = _findings(connection, {row.component_set_id for row in images.values()} - {None}, at)
    answering = owners.load(connection, at)
    found = []
    for one in tags:
        image = images[one.digest]
        found.append(
            ListedAt(
                name=one.repository,
                tag=one.tag,
                digest=one.digest,
                visibility=one.visibility,
                since=one.since,
                owner=answering.of_repository(one.repository),
                findings=None if image.component_set_id is None else counts[image.component_set_id],
                verdicts=tuple(
                    VerdictThen(said.environment, said.answer, said.valid_until > at)
                    for said in stood.get(image.id, ())
                ),
            )
        )
    return tuple(found)


def _findings(connection: Connection, sets: Collection[int], at: dt.datetime) -> dict[int, dict[str, int]]:
    """By component set: how many findings of each severity were known."""
    member, period = schema.component_set_member.c, schema.finding_period.c
    known: dict[int, Counter[str]] = defaultdict(Counter)
    for some in chunks(sorted(sets)):
        query = (
            select(member.component_set_id, period.severity, func.count())
            .join(schema.finding_period, period.component_id == member.component_id)
            .where(member.component_set_id.in_(some), as_of.open_at(period.since, period.until, at))
            .group_by(member.component_set_id, period.severity)
        )
        for number, severity, count in connection.execute(query):
            known[number][severity] += count
    return {
        number: {severity: known[number][severity] for severity in SEVERITIES if known[number][severity]}
        for number in sets
    }
