"""What happened, for those who want to be told: a view of the audit log, which has every change once and in order.

An entry of the log speaks of one event, of several (a batch of verdicts), or of none (a key that was made is nobody's
business but the auditors'). An event is named `POSITION-NUMBER`: its entry, and which of the entry's events it is. As
positions have no gaps and never change, whoever goes on behind the last name that he saw misses nothing and gets
nothing twice. Events say what happened to images, verdicts, waivers, workloads; who did it stands in the log, for those
who may read it, and in what a waiver itself says.
"""

import contextlib
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import Connection, func, select

from tidewaiter.catalog import schema
from tidewaiter.catalog.audit import entries as audit
from tidewaiter.catalog.rows import chunks
from tidewaiter.core.errors import InputError, IntegrityError, NotFoundError

TYPES: Mapping[str, str] = {
    "image.recorded": "An image became known: it was built, fetched, pushed, or seen in a registry.",
    "image.inspected": "The packages of an image were matched with the advisories.",
    "image.pushed": "An image was sent to a registry.",
    "verdict.decided": "An image was allowed or denied for an environment, for the first time or anew.",
    "tag.moved": "A tag means another image than before, or is new.",
    "tag.cleared": "A tag became cleared for an environment.",
    "tag.uncleared": "A tag is no longer cleared.",
    "tag.deleted": "A tag means nothing any more.",
    "waiver.requested": "Somebody asked for an exception.",
    "waiver.approved": "A waiver counts from now on.",
    "waiver.revoked": "A waiver counts no longer.",
    "waiver.expiring": "A waiver that counts ends soon.",
    "finding.new": "New advisory data touch a package version that images have already.",
    "finding.changed": "What is known of a finding changed: its severity, or what mends it.",
    "finding.gone": "New advisory data no longer touch a package version.",
    "workload.seen": "A container of a workload runs an image that it did not run before.",
    "workload.gone": "A container of a workload runs an image no longer.",
    "model.seen": "A model version is served by an image that did not serve it before.",
    "model.gone": "A model version is served by an image no longer.",
    "owner.changed": "Somebody else answers for something.",
    "base.approved": "A base may be built on.",
    "base.retired": "A base must not be built on any more.",
    "pipeline.queued": "Somebody asked for a run of a pipeline.",
    "pipeline.started": "A worker took up a run for the first time.",
    "pipeline.step": "A step of a run ended.",
    "pipeline.ended": "A run ended: it is done, denied, failed, cancelled, or poisoned.",
    "signature.added": "An image was signed.",
    "attestation.added": "Something was attached to an image.",
    "webhook.test": "Nothing happened; somebody tries a webhook.",
}
"""Types of events, and what they say; `docs/guide/webhooks.md` is compared with them by a test."""

SCANNED = 500
"""Entries of the log that are read for one page at most."""
_PLACE = re.compile(r"(\d{1,18})(?:-(\d{1,9}))?")
ALL = 10**9
"""Number in a place behind all events of an entry."""


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened."""

    id: str
    """`POSITION-NUMBER`, in the order of which events happened."""
    type: str
    time: str
    """RFC 3339 in UTC."""
    subject: str
    """To what: a digest, `NAME:TAG`, `CLUSTER/NAMESPACE/NAME`, …"""
    repositories: tuple[str, ...] = ()
    """Where the image lies that it is about; empty when it is about none."""
    data: dict[str, Any] = {}


class Place(NamedTuple):
    """Behind which event to go on: all events of entries before `position`, and `number` of that one's, are known."""

    position: int
    number: int = ALL

    def __str__(self) -> str:
        return str(self.position) if self.number == ALL else f"{self.position}-{self.number}"


START = Place(-1)
"""Before the first event."""


class Read(NamedTuple):
    """Some events, and where to go on."""

    events: tuple[Event, ...]
    place: Place
    more: bool
    """Whether there is more of the log behind the place."""


def place(text: str) -> Place:
    """The place that a name of an event, or a position alone, means; `START` when it is empty. Raises `InputError`."""
    if not text:
        return START
    found = _PLACE.fullmatch(text)
    if found is None or not text.isascii():
        raise InputError(
            f"{text[:60]!r} is no event",
            next_step="Give the id of an event, as `POSITION-NUMBER`, or what `next` said.",
        )
    return Place(int(found[1]), ALL if found[2] is None else int(found[2]))


def latest(connection: Connection) -> Place:
    """Behind everything that happened until now."""
    newest = connection.scalar(select(func.max(schema.audit_entry.c.position)))
    return START if newest is None else Place(int(newest))


def require_kept(connection: Connection, after: Place) -> None:
    """Raise `NotFoundError` when events behind the place were dropped with old entries of the log."""
    oldest = connection.scalar(select(func.min(schema.audit_entry.c.position)))
    if oldest is not None and after != START and after.position + 1 < int(oldest):
        raise NotFoundError(
            f"the events behind {after} are no longer kept; the oldest is of entry {oldest}",
            next_step="Begin without `after`; older events are in the audit log's export.",
            code="events_gone",
        )


def read(connection: Connection, after: Place, *, types: Collection[str] = (), rows: int) -> Read:
    """The next events behind a place, at most `rows`, of those types or of all; some `SCANNED` entries are looked at.

    Raises:
        NotFoundError: events behind the place are no longer kept.
    """
    require_kept(connection, after)
    of = schema.audit_entry.c
    partly = after.number != ALL
    behind = of.position >= after.position if partly else of.position > after.position
    found = connection.execute(select(of.position, of.entry).where(behind).order_by(of.position).limit(SCANNED)).all()
    events: list[Event] = []
    at = after
    for position, data in found:
        skipped = after.number + 1 if partly and position == after.position else 0
        for number, event in enumerate(_of_entry(connection, int(position), data)):
            if number < skipped or (types and event.type not in types):
                continue
            if len(events) == rows:
                return Read(_placed(connection, events), at, more=True)
            events.append(event)
            at = Place(int(position), number)
        at = Place(int(position))
    return Read(_placed(connection, events), at, more=len(found) == SCANNED)


def _of_entry(connection: Connection, position: int, data: bytes) -> Iterator[Event]:
    """The events of an entry. What is no entry has none: `audit verify` says what was changed."""
    with contextlib.suppress(IntegrityError):
        entry = audit.parse(bytes(data))
        told = _TOLD.get(entry.action)
        if told is None:
            return
        if entry.document:
            of = schema.audit_document.c
            document = connection.scalar(select(of.document).where(of.digest == entry.document))
            entry = audit.fulfilled(entry, document)
        for number, one in enumerate(told(entry)):
            yield Event(
                id=f"{position}-{number}",
                type=one.type,
                time=entry.time,
                subject=one.subject,
                repositories=one.repositories,
                data=one.data,
            )


class _Told(NamedTuple):
    type: str
    subject: str
    data: dict[str, Any]
    repositories: tuple[str, ...] = ()


_Teller = Callable[[audit.Entry], Iterator[_Told]]


def _recorded(how: str) -> _Teller:
    def tell(entry: audit.Entry) -> Iterator[_Told]:
        known = {name: value for name, value in entry.detail.items() if name != "states"}
        yield _Told("image.recorded", entry.subject, {"digest": entry.subject, "how": how, **known})

    return tell


def _synced(entry: audit.Entry) -> Iterator[_Told]:
    place = (entry.subject,)
    for digest in entry.detail.get("manifests", ()):
        data = {"digest": digest, "how": "synced", "repository": entry.subject}
        yield _Told("image.recorded", str(digest), data, place)
    before = entry.detail.get("before", {})
    for tag, digest in entry.detail.get("tags", {}).items():
        data = {"repository": entry.subject, "tag": tag, "digest": digest, "before": before.get(tag, "")}
        yield _Told("tag.moved", f"{entry.subject}:{tag}", data, place)


def _of_image(kind: str) -> _Teller:
    def tell(entry: audit.Entry) -> Iterator[_Told]:
        yield _Told(kind, entry.subject, {"digest": entry.subject, **entry.detail})

    return tell


def _verdict(entry: audit.Entry) -> Iterator[_Told]:
    yield _Told("verdict.decided", entry.subject, {"digest": entry.subject, **entry.detail})


def _verdicts(entry: audit.Entry) -> Iterator[_Told]:
    for one in entry.detail.get("verdicts", ()):
        rest = {name: value for name, value in one.items() if name != "artifact"}
        yield _Told("verdict.decided", str(one["artifact"]), {"digest": one["artifact"], **rest, "why": entry.subject})


def _tag(kind: str) -> _Teller:
    def tell(entry: audit.Entry) -> Iterator[_Told]:
        repository, _, tag = entry.subject.rpartition(":")
        known = {name: value for name, value in entry.detail.items() if value is not None}
        environment = known.pop("cleared_for", None)
        if environment is not None:
            known["environment"] = environment
        yield _Told(kind, entry.subject, {"repository": repository, "tag": tag, **known}, (repository,))

    return tell


def _plain(kind: str, name: str) -> _Teller:
    def tell(entry: audit.Entry) -> Iterator[_Told]:
        yield _Told(kind, entry.subject, {name: entry.subject, **entry.detail})

    return tell


def _waiver(kind: str) -> _Teller:
    def tell(entry: audit.Entry) -> Iterator[_Told]:
        # The request's detail has the whole waiver; of the others the name and what is new.
        detail = {name: value for name, value in entry.detail.items() if name != "waiver"}
        asked = entry.detail.get("waiver", {})
        yield _Told(kind, entry.subject, {"waiver": entry.subject, **asked, **detail, "by": entry.actor})

    return tell


def _workloads(entry: audit.Entry) -> Iterator[_Told]:
    for one in entry.detail.get("workloads", ()):
        named = {name: one.get(name, "") for name in ("workload", "kind", "container")}
        yield from _changed("workload", str(one.get("workload", "")), one, named)


def _model(entry: audit.Entry) -> Iterator[_Told]:
    named = {"model": entry.subject, "stage": entry.detail.get("stage", "")}
    yield from _changed("model", entry.subject, entry.detail, named)


def _changed(noun: str, subject: str, change: Mapping[str, Any], named: dict[str, Any]) -> Iterator[_Told]:
    """What began and what ended; a look that found what was known already is no event."""
    for digest in change.get("ended", ()):
        yield _Told(f"{noun}.gone", subject, {**named, "digest": digest})
    if change.get("begun"):
        yield _Told(f"{noun}.seen", subject, {**named, "digest": change["begun"]})


def _asked(entry: audit.Entry) -> Iterator[_Told]:
    asked = entry.detail.get("asked", {})
    source = asked.get("source") or {}
    data = {
        "run": entry.subject,
        "kind": asked.get("kind", ""),
        "team": asked.get("team", ""),
        "repository": source.get("repository", ""),
        "commit": source.get("commit", ""),
        "ref": source.get("ref", ""),
        "trigger": asked.get("trigger", {}).get("kind", ""),
    }
    yield _Told("pipeline.queued", entry.subject, data)


def _run(kind: str) -> _Teller:
    def tell(entry: audit.Entry) -> Iterator[_Told]:
        name = entry.detail.get("name")
        yield _Told(kind, entry.subject, {"run": entry.subject, **entry.detail}, (str(name),) if name else ())

    return tell


_FINDING = {"added": "finding.new", "changed": "finding.changed", "removed": "finding.gone"}


def _findings(entry: audit.Entry) -> Iterator[_Told]:
    for one in entry.detail.get("changes", ()):
        data = {name: one[name] for name in ("advisory", "purl", "severity")}
        yield _Told(_FINDING[one["change"]], str(one["purl"]), data)


FINDINGS = "finding.change"
"""Action of the entry that says which findings new advisory data changed."""
EXPIRING = "waiver.expiring"

_TOLD: dict[str, _Teller] = {
    "attach": _of_image("attestation.added"),
    "attest": _of_image("attestation.added"),
    "base.approve": _plain("base.approved", "base"),
    "base.retire": _plain("base.retired", "base"),
    "build": _recorded("built"),
    "catalog.sync": _synced,
    EXPIRING: _waiver("waiver.expiring"),
    FINDINGS: _findings,
    "model.record": _model,
    "owner.set": _plain("owner.changed", "subject"),
    "pipeline.ask": _asked,
    "pipeline.end": _run("pipeline.ended"),
    "pipeline.retry": _asked,
    "pipeline.start": _run("pipeline.started"),
    "pipeline.step": _run("pipeline.step"),
    "pull": _recorded("pulled"),
    "push": _of_image("image.pushed"),
    "scan": _of_image("image.inspected"),
    "sign": _of_image("signature.added"),
    "tag.clear": _tag("tag.cleared"),
    "tag.delete": _tag("tag.deleted"),
    "tag.set": _tag("tag.moved"),
    "tag.withdraw": _tag("tag.uncleared"),
    "verdict": _verdict,
    "verdict.batch": _verdicts,
    "waiver.approve": _waiver("waiver.approved"),
    "waiver.request": _waiver("waiver.requested"),
    "waiver.revoke": _waiver("waiver.revoked"),
    "workload.record": _workloads,
}
"""Actions of the log that are told, and what they say."""


def _placed(connection: Connection, events: Sequence[Event]) -> tuple[Event, ...]:
    """The events, with the repositories of the images that they are about."""
    wanted = {_digest(one) for one in events if not one.repositories} - {""}
    of = schema.artifact.c
    lying: dict[str, list[str]] = {}
    for some in chunks(sorted(wanted)):
        query = (
            select(of.digest, schema.repository.c.name)
            .join(schema.repository_artifact, schema.repository_artifact.c.artifact_id == of.id)
            .join(schema.repository, schema.repository.c.id == schema.repository_artifact.c.repository_id)
            .where(of.digest.in_(some))
            .order_by(of.digest, schema.repository.c.name)
        )
        for digest, name in connection.execute(query):
            lying.setdefault(digest, []).append(name)
    return tuple(
        one if one.repositories else msgspec.structs.replace(one, repositories=tuple(lying.get(_digest(one), ())))
        for one in events
    )


def _digest(event: Event) -> str:
    return str(event.data.get("digest", ""))


def repositories_with(connection: Connection, purl: str) -> Iterator[str]:
    """Repositories with images that have this package version; may give one several times."""
    member = schema.component_set_member.c
    artifact, lying = schema.artifact.c, schema.repository_artifact.c
    query = (
        select(schema.repository.c.name)
        .distinct()
        .join(schema.repository_artifact, lying.repository_id == schema.repository.c.id)
        .join(schema.artifact, artifact.id == lying.artifact_id)
        .join(schema.component_set_member, member.component_set_id == artifact.component_set_id)
        .join(schema.component, schema.component.c.id == member.component_id)
        .where(schema.component.c.purl == purl)
    )
    yield from connection.scalars(query)
