"""Who answers for what, now and on a day before.

An owner is said of a repository or a folder of them (`team`, `team/model`), of a cluster or a namespace
(`CLUSTER`, `CLUSTER/NAMESPACE`), of one workload (`CLUSTER/NAMESPACE/NAME`), of one model. The nearest counts.
"""

import datetime as dt
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, get_args

import msgspec
from sqlalchemy import Connection, Select, func, insert, select, tuple_, update

from tidewaiter.catalog import as_of, schema
from tidewaiter.catalog.audit import entries as audit
from tidewaiter.catalog.audit import states as audit_states
from tidewaiter.catalog.parts import Part, cut
from tidewaiter.catalog.rows import AnyRow
from tidewaiter.core.errors import InputError

Kind = Literal["repository", "namespace", "workload", "model"]
_SUBJECT_CHARACTERS = 800
_OWNER_CHARACTERS = 200
_PARTS = {"namespace": 2, "workload": 3}
"""Parts that a name has at most, with slashes between them."""


class Ownership(msgspec.Struct, frozen=True, kw_only=True):
    """Who answers for something, since when."""

    kind: Kind
    subject: str
    owner: str
    since: dt.datetime


def plain(text: str, what: str, longest: int) -> str:
    """`text` without blanks around it; raises `InputError` when it is empty, too long, or cannot be printed."""
    clean = text.strip()
    if not clean or len(clean) > longest or not clean.isprintable():
        raise InputError(
            f"{text[:60]!r} is no {what}", next_step=f"Give one of 1 to {longest} characters that can be printed."
        )
    return clean


class Owners(NamedTuple):
    """Owners at one moment."""

    known: Mapping[tuple[str, str], str]

    def _nearest(self, kind: Kind, subject: str) -> str:
        while subject:
            found = self.known.get((kind, subject))
            if found is not None:
                return found
            subject = subject.rpartition("/")[0]
        return ""

    def of_repository(self, name: str) -> str:
        """Owner of the repository, or of the nearest folder around it; empty when nobody is known."""
        return self._nearest("repository", name)

    def of_workload(self, cluster: str, namespace: str, name: str) -> str:
        """Owner of the workload, else of its namespace, else of its cluster; empty when nobody is known."""
        found = self.known.get(("workload", f"{cluster}/{namespace}/{name}"))
        return found or self._nearest("namespace", f"{cluster}/{namespace}")

    def of_model(self, name: str) -> str:
        """Owner of the model; empty when nobody is known."""
        return self.known.get(("model", name), "")


def put(connection: Connection, kind: Kind, subject: str, owner: str, at: dt.datetime) -> bool:
    """Let `owner` answer for it from now on; with an empty `owner` nobody. Whether that changes anything.

    Raises:
        InputError: a text is empty, too long or cannot be printed.
    """
    if kind not in get_args(Kind):
        raise InputError(f"nothing of the kind {kind!r} has an owner", next_step=f"Give {', '.join(get_args(Kind))}.")
    subject = plain(subject, kind, _SUBJECT_CHARACTERS).strip("/")
    if not subject or len(subject.split("/")) > _PARTS.get(kind, len(subject)):
        raise InputError(
            f"{subject[:60]!r} is no {kind}", next_step="`tidewaiter owner record --help` says how to name it."
        )
    owner = plain(owner, "owner", _OWNER_CHARACTERS) if owner else ""
    of = schema.ownership.c
    same = (of.kind == kind, of.subject == subject, of.until.is_(None))
    before = connection.scalar(select(of.owner).where(*same))
    if (before or "") == owner:
        return False
    all_of = (of.kind == kind, of.subject == subject)
    last = connection.execute(select(func.max(of.since), func.max(of.until)).where(*all_of)).one()
    # Whatever the clock says now: periods follow one another.
    begun_at = connection.scalar(select(of.since).where(*same))
    since = max([at, *(one for one in last if one is not None)])
    connection.execute(update(schema.ownership).where(*same).values(until=since))
    if owner:
        # Said twice in a second, the last word counts: no two periods of one subject begin at once.
        row = {"owner": owner, "until": None}
        begun = update(schema.ownership).where(*all_of, of.since == since).values(row)
        if not connection.execute(begun).rowcount:
            row |= {"kind": kind, "subject": subject, "since": since}
            connection.execute(insert(schema.ownership), row)
    detail = {"kind": kind, "owner": owner, "before": before or ""}
    touched = sorted({one for one in (begun_at, since if owner else None) if one is not None})
    states = audit_states.now(connection, "owner", *((kind, subject, one) for one in touched))
    audit.append(connection, "owner.set", subject, detail, at=at, states=states)
    return True


def listed(connection: Connection, at: dt.datetime | None) -> tuple[Ownership, ...]:
    """Everything that has an owner now, or had at `at`, by kind and name."""
    return tuple(map(_ownership, connection.execute(_query(at))))


def _query(at: dt.datetime | None) -> Select[Any]:
    of = schema.ownership.c
    query = select(of.kind, of.subject, of.owner, of.since).where(as_of.open_at(of.since, of.until, at))
    return query.order_by(of.kind, of.subject)


def _ownership(row: AnyRow) -> Ownership:
    return Ownership(kind=row.kind, subject=row.subject, owner=row.owner, since=row.since)


def part(
    connection: Connection,
    at: dt.datetime | None,
    *,
    kind: str = "",
    owner: str = "",
    after: tuple[str, str] | None,
    rows: int,
) -> Part:
    """At most `rows` of what `listed` gives, those behind `after`; of one kind and owner when they are given."""
    of = schema.ownership.c
    query = _query(at).limit(rows + 1)
    if kind:
        query = query.where(of.kind == kind)
    if owner:
        query = query.where(of.owner == owner)
    if after is not None:
        query = query.where(of.kind >= after[0], tuple_(of.kind, of.subject) > tuple_(*after))
    found = connection.execute(query).all()
    last = (found[rows - 1].kind, found[rows - 1].subject) if len(found) > rows else None
    return cut([_ownership(row) for row in found], rows, last)


def load(connection: Connection, at: dt.datetime | None) -> Owners:
    """Owners now, or at `at`."""
    of = schema.ownership.c
    query = select(of.kind, of.subject, of.owner).where(as_of.open_at(of.since, of.until, at))
    return Owners({(kind, subject): owner for kind, subject, owner in connection.execute(query).all()})
