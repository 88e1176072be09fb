"""Model versions, and the images that served them from when to when."""

import datetime as dt
from collections.abc import Collection, Iterable
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import ColumnElement, Connection, Select, select, true, tuple_

from tidewaiter.catalog import as_of, owners, periods, schema
from tidewaiter.catalog.audit import entries as audit
from tidewaiter.catalog.audit import states as audit_states
from tidewaiter.catalog.owners import Owners
from tidewaiter.catalog.parts import Part, cut
from tidewaiter.catalog.periods import Seen
from tidewaiter.catalog.rows import AnyRow, number_of
from tidewaiter.core import limits
from tidewaiter.core.errors import InputError, NotFoundError
from tidewaiter.oci import digest as digests

_NAME_CHARACTERS = 255
_STAGE_CHARACTERS = 64


class ModelVersion(msgspec.Struct, frozen=True, kw_only=True):
    """A version of a model, and an image that serves or served it."""

    name: str
    version: str
    stage: str
    """Of that version then, for example `production`; empty when it was not said."""
    digest: str
    owner: str
    first_seen: dt.datetime
    last_seen: dt.datetime
    gone_at: dt.datetime | None


def split(text: str) -> tuple[str, str]:
    """Name and version of `NAME:VERSION`; raises `InputError`."""
    name, _, version = text.rpartition(":")
    if not name or not version:
        raise InputError(f"{text[:100]!r} names no model version", next_step="Write it as NAME:VERSION.")
    return name, version


def record(
    connection: Connection,
    model: tuple[str, str],
    seen: Seen,
    at: dt.datetime,
    *,
    owner: str = "",
) -> None:
    """Write down that a version is served by an image, or with `seen.gone` no longer.

    Raises:
        InputError: a name is malformed, or the moment in the future or before what is known.
        NotFoundError: it is gone and was never seen.
    """
    name, version = (owners.plain(part, "name of a model version", _NAME_CHARACTERS) for part in model)
    key = {"name": name, "version": version}
    of = schema.model_version.c
    there = connection.scalar(select(of.id).where(of.name == name, of.version == version))
    if seen.gone and there is None:
        raise NotFoundError(
            f"the model version {name}:{version} was never recorded",
            next_step="`tidewaiter model list --all` shows all that were.",
        )
    if not (seen.digest or seen.gone):
        raise InputError(f"it is not said which image serves {name}:{version}", next_step="Give its digest.")
    if seen.at > at + dt.timedelta(seconds=limits.CLOCK_SKEW_SECONDS):
        raise InputError(f"{name}:{version} was seen in the future", next_step="Check the clock of whoever looked.")
    stage = owners.plain(seen.stage, "stage", _STAGE_CHARACTERS) if seen.stage else ""
    digest = digests.parse(seen.digest) if seen.digest else ""
    number = number_of(connection, schema.model_version, key)
    looked = Seen(digest, min(seen.at, at), stage, seen.gone)
    change = periods.see(connection, schema.model_period, number, looked, at)
    if owner:
        owners.put(connection, "model", name, owner, at)
    detail = {"served_by": "" if seen.gone else digest, "stage": stage, "begun": change.begun, "ended": change.ended}
    states = audit_states.now(connection, "model", *((name, version, began) for began in change.touched))
    audit.append(connection, "model.record", f"{name}:{version}", detail, at=at, states=states)


def listed(
    connection: Connection,
    at: dt.datetime | None = None,
    *,
    everything: bool = False,
    served_by: Collection[str] | None = None,
    model: tuple[str, str] | None = None,
    known: Owners | None = None,
    rows: int | None = None,
) -> tuple[ModelVersion, ...]:
    """Model versions and the images that serve them, now or at `at`, by name; with `everything` also those that did."""
    of, period = schema.model_version.c, schema.model_period.c
    query, then = _query(), _then(at, everything=everything)
    if model is not None:
        query = query.where(of.name == model[0], of.version == model[1])
    query = query.order_by(of.name, of.version, period.first_seen, period.id)
    if rows is not None:
        query = query.limit(rows)
    if served_by is None:
        said: Iterable[AnyRow] = connection.execute(query.where(then)).all()
    else:
        said = periods.of_digests(connection, schema.model_period, query, then, served_by)
    known = known or owners.load(connection, at)
    found = [of_row(row, known) for row in said]
    if served_by is not None:
        found = in_order(found)
    return tuple(found if rows is None else found[:rows])


COLUMNS = (
    *(schema.model_version.c[name] for name in ("name", "version")),
    *(schema.model_period.c[name] for name in ("stage", "digest", "first_seen", "last_seen", "gone_at")),
)
"""What a row begins with that `of_row` takes."""


def in_order(found: Iterable[ModelVersion]) -> list[ModelVersion]:
    """As they are listed."""
    return sorted(found, key=lambda one: (one.name, one.version, one.first_seen))


def _query() -> Select[Any]:
    of, period = schema.model_version.c, schema.model_period.c
    return select(*COLUMNS).join(schema.model_version, of.id == period.model_version_id)


def _then(at: dt.datetime | None, *, everything: bool) -> ColumnElement[bool]:
    period = schema.model_period.c
    if everything:
        return true() if at is None else period.first_seen <= at
    return as_of.open_at(period.first_seen, period.gone_at, at)


def of_row(row: AnyRow, known: Owners) -> ModelVersion:
    """What a row says; `known`: owners then."""
    return ModelVersion(
        name=row.name,
        version=row.version,
        stage=row.stage,
        digest=row.digest,
        owner=known.of_model(row.name),
        first_seen=row.first_seen,
        last_seen=row.last_seen,
        gone_at=row.gone_at,
    )


class Place(NamedTuple):
    """Where a version and its image stand in the list."""

    name: str
    version: str
    first_seen: dt.datetime
    row: int


def part(
    connection: Connection,
    at: dt.datetime | None,
    *,
    everything: bool,
    owner: str,
    after: Place | None,
    rows: int,
) -> Part:
    """At most `rows` of what `listed` gives, those behind `after`, and of one `owner` when it is given."""
    of, period = schema.model_version.c, schema.model_period.c
    place = (of.name, of.version, period.first_seen, period.id)
    query = _query().add_columns(period.id).where(_then(at, everything=everything)).order_by(*place).limit(rows + 1)
    if owner:
        said = schema.ownership.c
        answers = (said.kind == "model", said.subject == of.name, said.owner == owner)
        query = query.where(select(said.id).where(*answers, as_of.open_at(said.since, said.until, at)).exists())
    if after is not None:
        # The first condition says nothing new, but every database goes by the index for it.
        query = query.where(of.name >= after.name, tuple_(*place) > tuple_(*after))
    found = connection.execute(query).all()
    known = owners.load(connection, at)
    last = found[rows - 1] if len(found) > rows else None
    following = None if last is None else (last.name, last.version, last.first_seen.timestamp(), last.id)
    return cut([of_row(row, known) for row in found], rows, following)
