"""From what happened to what people are told of it: which events are news for a channel, and in which words.

1. Verdicts that one change of policy or advisories brought about are one notice, however many images they deny.
2. An advisory is news when it touches something that runs; however many package versions it names, it is told once.
3. What was decided otherwise by the time that somebody is told is not told.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote

import msgspec

from tidewaiter.access.roles import project_of
from tidewaiter.catalog import notices
from tidewaiter.catalog.catalog import Catalog
from tidewaiter.catalog.events import Event
from tidewaiter.catalog.notices import Channel, Said
from tidewaiter.catalog.reach import affected
from tidewaiter.catalog.reach.affected import Concerned
from tidewaiter.core import limits
from tidewaiter.core.settings.notices import About, NoticeTable
from tidewaiter.pipelines.notices.notice import Heard, Level, Notice, plain
from tidewaiter.pipelines.notices.words import say

_TYPES: Mapping[About, tuple[str, ...]] = {
    "denial": ("verdict.decided",),
    "waiver": ("waiver.expiring",),
    "pipeline": ("pipeline.ended",),
    "pipeline-failure": ("pipeline.ended",),
    "advisory": ("finding.changed", "finding.new"),
}
_SEVERITIES = ("critical", "high", "medium", "low", "unknown")
"""The worst first; `none` is no news."""
_PIPELINE: Mapping[str, Level] = {"done": "info", "cancelled": "info", "denied": "error"}


def channel(table: NoticeTable) -> Channel:
    """What the catalog has to know of a table of the settings."""
    return Channel(table.name, tuple(sorted({kind for about in table.about for kind in _TYPES[about]})))


def said(catalog: Catalog, table: NoticeTable, happened: Sequence[Event], public_url: str) -> tuple[Said, ...]:
    """What a channel is told of these events.

    Raises:
        StorageError: the catalog cannot be read.
    """
    teller = _Teller(catalog, table, public_url)
    return tuple(
        Said(key=one.key, event=one.event, type=one.type, body=msgspec.json.encode(one.notice))
        for one in teller.heard(happened)
    )


class _Teller:
    def __init__(self, catalog: Catalog, table: NoticeTable, public_url: str) -> None:
        self._catalog = catalog
        self._table = table
        self._url = public_url

    def heard(self, happened: Sequence[Event]) -> Iterator[Heard]:
        batches: set[tuple[str, str]] = set()
        advisories: dict[str, Event] = {}
        for event in happened:
            if event.type == "verdict.decided":
                yield from self._verdict(event, batches)
            elif event.type == "waiver.expiring":
                yield from self._waiver(event)
            elif event.type == "pipeline.ended":
                yield from self._pipeline(event)
            elif self._severe(str(event.data.get("severity", "unknown"))):
                advisories.setdefault(str(event.data.get("advisory", "")), event)
        yield from self._advisories(advisories)

    def _say(self, what: str, **values: object) -> str:
        clean = {name: plain(value) if isinstance(value, str) else value for name, value in values.items()}
        return say(self._table.language, what, **clean)

    def _concerns(self, repositories: Collection[str]) -> bool:
        wanted = self._table.projects
        return not wanted or not repositories or any(project_of(one) in wanted for one in repositories)

    def _cut(self, lines: Sequence[str], count: int) -> tuple[str, ...]:
        """The first lines of `count`, and how many more there are."""
        shown = tuple(lines[: limits.NOTICE_LINES])
        return (*shown, self._say("more", count=count - len(shown))) if count > len(shown) else shown

    def _page(self, path: str) -> str:
        return f"{self._url}{path}" if self._url else ""

    # Denials

    def _verdict(self, event: Event, batches: set[tuple[str, str]]) -> Iterator[Heard]:
        environment = str(event.data.get("environment", ""))
        wanted = "denial" in self._table.about and event.data.get("verdict") == "deny"
        if not wanted or (self._table.environments and environment not in self._table.environments):
            return
        if not self._concerns(event.repositories):
            return
        position, _, number = event.id.partition("-")
        if "why" in event.data:
            if (position, environment) not in batches:
                batches.add((position, environment))
                yield from self._denials(event, int(position), environment)
            return
        yield from self._denial(event, environment, f"{position}-{number}")

    def _denial(self, event: Event, environment: str, name: str) -> Iterator[Heard]:
        with self._catalog.database.reading() as connection:
            why = notices.denial(connection, event.subject, environment)
        if why is None:  # 3.
            return
        image = f"{event.repositories[0]}@{event.subject}" if event.repositories else event.subject
        lines: list[str] = []
        for one in why.violations[: limits.NOTICE_LINES]:
            lines.append(self._say("rule", rule=one.rule, message=one.message))
            if one.remedy:
                lines.append(self._say("remedy", remedy=one.remedy))
        more = len(why.violations) - limits.NOTICE_LINES
        lines += [self._say("more", count=more)] if more > 0 else []
        lines += [self._say("runs", workload=one) for one in why.workloads]
        rules = " ".join(sorted(one.rule for one in why.violations))
        notice = Notice(
            about="denial",
            level="error",
            title=self._say("denied", image=image, environment=environment),
            lines=tuple(lines),
            url=self._page(f"/images/{quote(event.subject)}"),
            time=event.time,
            subject=event.subject,
        )
        yield Heard(notice=notice, key=f"denial {event.subject} {environment} {rules}", event=name, type=event.type)

    def _denials(self, event: Event, position: int, environment: str) -> Iterator[Heard]:
        # 1.
        with self._catalog.database.reading() as connection:
            denied = notices.denied_at(connection, position, environment)
        if len(denied) < 2:
            yield from self._denial(event, environment, event.id)
            return
        title = self._say("denied-many", count=len(denied), environment=environment)
        notice = Notice(
            about="denial",
            level="error",
            title=title,
            lines=self._cut(denied, len(denied)),
            url=self._page("/"),
            time=event.time,
            subject=str(position),
        )
        yield Heard(notice=notice, key=f"denials {position} {environment}", event=event.id, type=event.type)

    # Waivers and pipelines

    def _waiver(self, event: Event) -> Iterator[Heard]:
        scope = event.data.get("scope")
        image = str(scope.get("image") or "") if isinstance(scope, dict) else ""
        if image and "*" not in image.partition("/")[0] and not self._concerns([image]):
            return
        until = str(event.data.get("expires_at", ""))
        owner = str(event.data.get("owner", "")) or self._say("nobody")
        lines = [
            *([self._say("waiver-scope", scope=_scope(scope))] if scope else []),
            self._say("owner", owner=owner),
            self._say("renew"),
        ]
        notice = Notice(
            about="waiver",
            level="warning",
            title=self._say("waiver", waiver=event.subject, until=until),
            lines=tuple(lines),
            url=self._page("/"),
            time=event.time,
            subject=event.subject,
        )
        yield Heard(notice=notice, key=f"waiver {event.subject} {until}", event=event.id, type=event.type)

    def _pipeline(self, event: Event) -> Iterator[Heard]:
        state = str(event.data.get("state", ""))
        if "pipeline" not in self._table.about and state in {"done", "cancelled"}:
            return
        built = str(event.data.get("name") or event.data.get("team") or "")  # a run that built nothing is its team's
        if not self._concerns([built] if built else []):
            return
        what = f"pipeline-{state}" if state in {"done", "denied", "cancelled", "poisoned"} else "pipeline-failed"
        subject = str(event.data.get("reference") or event.data.get("repository") or event.data.get("kind", ""))
        error = event.data.get("error")
        lines: list[str] = []
        if isinstance(error, dict):
            lines.append(plain(str(error.get("message", ""))))
            if error.get("next"):
                lines.append(self._say("next", next=str(error["next"])))
        notice = Notice(
            about="pipeline",
            level=_PIPELINE.get(state, "error"),
            title=self._say(what, run=event.subject, subject=subject),
            lines=tuple(lines),
            url=self._page(f"/pipelines/{quote(event.subject)}"),
            time=event.time,
            subject=event.subject,
        )
        yield Heard(notice=notice, key=f"pipeline {event.subject} {state}", event=event.id, type=event.type)

    # Advisories

    def _severe(self, severity: str) -> bool:
        bound = _SEVERITIES.index(self._table.severity)
        return severity in _SEVERITIES[: bound + 1]

    def _advisories(self, found: Mapping[str, Event]) -> Iterator[Heard]:
        for name, event in list(found.items())[: limits.NOTICE_ADVISORIES]:
            with self._catalog.database.reading() as connection:
                wanted = affected.Wanted(running=True, rows=limits.NOTICE_LISTED)
                concerned = affected.by_advisory(connection, {name}, wanted)
            if concerned.workloads and self._concerns({one.name for one in concerned.images if one.name}):
                yield self._advisory(name, event, concerned)
        if len(found) > limits.NOTICE_ADVISORIES:
            event = list(found.values())[limits.NOTICE_ADVISORIES]
            notice = Notice(
                about="advisory",
                level="warning",
                title=self._say("advisories-cut"),
                time=event.time,
                subject=event.subject,
            )
            yield Heard(notice=notice, key=f"advisories {event.id}", event=event.id, type=event.type)

    def _advisory(self, name: str, event: Event, concerned: Concerned) -> Heard:
        package = str(event.data.get("purl", ""))
        nobody = self._say("nobody")
        lines = [
            self._say("workload", workload=one.path, owner=one.owner or nobody, package=package)
            for one in concerned.workloads
        ]
        shown = list(self._cut(lines, concerned.totals.workloads))
        for fix in concerned.fixes[:3]:
            what = "fix" if fix.kind == "dependency" and fix.to else "base-fix" if fix.kind == "base" else ""
            if what:
                shown.append(self._say(what, images=fix.images, name=fix.name, to=fix.to))
        if concerned.running_unknown:
            shown.append(self._say("unknown-images", count=concerned.running_unknown))
        severity = str(event.data.get("severity", "unknown"))
        notice = Notice(
            about="advisory",
            level="error" if severity in {"critical", "high"} else "warning",
            title=self._say("advisory", advisory=name, severity=severity, count=concerned.totals.workloads),
            lines=tuple(shown),
            url=self._page(f"/uses?of={quote(name)}"),
            time=event.time,
            subject=name,
        )
        return Heard(notice=notice, key=f"advisory {name} {severity}", event=event.id, type=event.type)


def _scope(scope: Any) -> str:  # noqa: ANN401 - of a JSON column
    """A waiver's scope in one line."""
    if not isinstance(scope, dict):
        return str(scope)
    said = {name: value for name, value in scope.items() if value}
    return ", ".join(
        f"{name} {' '.join(map(str, value)) if isinstance(value, list) else value}" for name, value in said.items()
    )
