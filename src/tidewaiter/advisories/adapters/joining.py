"""Our findings and those of other scanners, as one list.

1. Each reported package is looked for among the components: by kind, name and version, for distributions also as the
   source package. One that is not there stays a package of its own.
2. What is said of one package is grouped into vulnerabilities by ids and aliases, as advisories are (`merge`).
3. A finding of ours keeps its names and its fixes. It takes over the worst severity that anybody states, and the fixes
   of others where we know none. Nothing that another scanner says takes a finding of ours away, nor gives it a name by
   which a waiver or a VEX document would.
4. A vulnerability that we did not find becomes a finding that says who reported it.
5. Whether it is exploited is looked up by the ids that all of them give it.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec

from tidewaiter.advisories import names, severity
from tidewaiter.advisories.adapters.reported import Reported, ScannerReport
from tidewaiter.advisories.advisory import Advisory, family
from tidewaiter.advisories.exploited import Exploitation
from tidewaiter.advisories.finding import OURS, Disagreement, Finding, ScanResult, Word
from tidewaiter.advisories.matcher import finding_key
from tidewaiter.advisories.merge import Hit, group
from tidewaiter.advisories.severity import Severity
from tidewaiter.advisories.versions import order_of
from tidewaiter.sbom.component import Component

_Said = tuple[str, Reported]
"""A scanner, and what it reports."""


class _Inventory:
    """Components by what a report may call them."""

    def __init__(self, components: Iterable[Component]) -> None:
        self._by_package: dict[tuple[str, str, str], dict[str, Component]] = {}
        self._by_source: dict[tuple[str, str, str], dict[str, Component]] = {}
        self._kinds: set[str] = set()
        for one in components:
            self._kinds.add(one.kind)
            key = one.kind, _name(one.kind, one.name), one.version
            self._by_package.setdefault(key, {}).setdefault(one.purl, one)
            if one.kind in {"deb", "apk", "rpm"}:
                source = one.kind, one.source_name or one.name, one.source_version or one.version
                self._by_source.setdefault(source, {}).setdefault(one.purl, one)

    def named(self, said: Reported) -> list[Component]:
        """The components that a report means; none when it means something that is not there."""
        kinds = [said.kind] if said.kind else sorted(self._kinds)
        for table in (self._by_package, self._by_source):
            keys = [(kind, _name(kind, said.name), said.version) for kind in kinds]
            found = [one for key in keys for one in table.get(key, {}).values()]
            if found:
                return found
        return []


def _name(kind: str, name: str) -> str:
    return names.normalise("PyPI", name) if kind == "python" else name


def join(
    result: ScanResult,
    components: Iterable[Component],
    reports: Sequence[ScannerReport],
    *,
    exploitation: Callable[[Iterable[str]], Exploitation],
) -> ScanResult:
    """`result` with what `reports` say of the same components.

    Args:
        result: what we found.
        components: those that `result` is about.
        reports: what others found.
        exploitation: what is known of the vulnerability with these ids.
    """
    if not reports:
        return result
    inventory = _Inventory(components)
    by_purl: dict[str, list[_Said]] = {}
    known: dict[str, Component] = {}
    for report in sorted(reports, key=lambda one: (one.scanner, one.version)):
        for said in report.findings:
            meant = inventory.named(said)
            known.update((one.purl, one) for one in meant)
            for purl in [one.purl for one in meant] or [said.purl]:
                by_purl.setdefault(purl, []).append((report.scanner, said))
    asked = tuple(sorted({OURS, *(report.scanner for report in reports)}))
    ours: dict[str, list[Finding]] = {}
    for finding in result.findings:
        ours.setdefault(finding.component_purl, []).append(finding)
    joined = [
        finding
        for purl in ours.keys() | by_purl.keys()
        for finding in _of_package(ours.get(purl, []), by_purl.get(purl, []), known.get(purl), purl, asked)
    ]
    known_of = [_exploited(finding, spoken, exploitation) for finding, spoken in joined]
    return msgspec.structs.replace(result, findings=tuple(sorted(known_of, key=finding_key)))


def _exploited(
    finding: Finding, spoken: Iterable[str], exploitation: Callable[[Iterable[str]], Exploitation]
) -> Finding:
    if finding.reported_by == (OURS,):
        return finding  # the matcher looked it up
    found = exploitation((finding.advisory, *finding.aliases, *spoken))
    return msgspec.structs.replace(finding, kev=found.kev, epss=found.epss, epss_percentile=found.epss_percentile)


def _of_package(
    ours: Sequence[Finding], said: Sequence[_Said], component: Component | None, purl: str, asked: tuple[str, ...]
) -> list[tuple[Finding, set[str]]]:
    """Findings of `purl`, every one of ours and those that only others report, each with what others call it."""
    hits: list[Hit[Finding | _Said]] = [Hit(Advisory(id=one.advisory, aliases=one.aliases), one) for one in ours]
    hits += [Hit(Advisory(id=one.advisory, aliases=one.aliases), (scanner, one)) for scanner, one in said]
    by_finding: dict[str, list[_Said]] = {one.advisory: [] for one in ours}
    added = []
    for item in group(hits):
        values = [hit.value for hit in item.hits]
        others = [value for value in values if not isinstance(value, Finding)]
        found = [value for value in values if isinstance(value, Finding)]
        for one in found:
            by_finding[one.advisory] += others
        if not found:
            added.append((_only_theirs(item.names, others, component, purl, asked), item.names))
    return [
        (_with_words(one, by_finding[one.advisory], asked), _spoken(by_finding[one.advisory])) for one in ours
    ] + added


def _spoken(said: Iterable[_Said]) -> set[str]:
    return {name for _, one in said for name in _own_names(one)}


def _worst(severities: Iterable[Severity]) -> Severity:
    return max(severities, key=severity.rank)


def _newer(fixes: Iterable[str], ecosystem: str, version: str) -> tuple[str, ...]:
    """`fixes` that are newer than `version`, ascending; as they are where versions cannot be compared."""
    listed = tuple(dict.fromkeys(fixes))
    order = order_of(family(ecosystem), "ECOSYSTEM")
    try:
        return tuple(sorted((one for one in listed if order(one) > order(version)), key=order)) if order else listed
    except ValueError:
        return listed


def _words(said: Iterable[_Said], ecosystem: str) -> tuple[Word, ...]:
    """What scanners say, by their names; once, although a package may lie in several places."""
    words = (
        Word(
            scanner=scanner,
            advisory=one.advisory,
            severity=one.severity,
            fixed_in=_newer(one.fixed_in, ecosystem, one.version),
        )
        for scanner, one in sorted(said, key=lambda item: (item[0], item[1].advisory))
    )
    return tuple(dict.fromkeys(words))


def _disagreement(words: Sequence[Word], asked: Sequence[str]) -> tuple[Disagreement, ...]:
    differ: Mapping[Disagreement, bool] = {
        "found_by": {word.scanner for word in words} != set(asked),
        "severity": len({word.severity for word in words} - {"unknown"}) > 1,
        "fixed_in": len({word.fixed_in[:1] for word in words}) > 1,
    }
    return tuple(kind for kind, differs in differ.items() if differs)


def _with_words(ours: Finding, said: Sequence[_Said], asked: tuple[str, ...]) -> Finding:
    """A finding of ours with what others say of it."""
    own = Word(scanner=OURS, advisory=ours.advisory, severity=ours.severity, fixed_in=ours.fixed_in)
    words = (own, *_words(said, ours.ecosystem))
    worst = _worst(
        [
            Severity(ours.severity, ours.score, ours.vector),
            *(Severity(one.severity, one.score, one.vector) for _, one in said),
        ]
    )
    theirs = (fix for word in words[1:] for fix in word.fixed_in)
    return msgspec.structs.replace(
        ours,
        severity=worst.level,
        score=worst.score,
        vector=worst.vector,
        fixed_in=ours.fixed_in or _newer(theirs, ours.ecosystem, ours.version),
        reported_by=tuple(sorted({word.scanner for word in words})),
        words=words,
        disagreement=_disagreement(words, asked),
    )


def _own_names(said: Reported) -> tuple[str, ...]:
    """Names of the one vulnerability that is reported; a bulletin about several is not one with each of them."""
    several = sum(name.startswith("CVE-") for name in (said.advisory, *said.aliases)) > 1
    return (said.advisory,) if several else (said.advisory, *said.aliases)


def _only_theirs(
    ids: set[str], said: Sequence[_Said], component: Component | None, purl: str, asked: tuple[str, ...]
) -> Finding:
    """A finding that we did not make, of a component or of a package that only reports name."""
    first = said[0][1]
    ecosystem = component.ecosystem if component else first.ecosystem
    version = component.version if component else first.version
    words = _words(said, ecosystem)
    worst = _worst(Severity(one.severity, one.score, one.vector) for _, one in said)
    return Finding(
        advisory=first.advisory,
        aliases=tuple(sorted(ids - {first.advisory})),
        component_purl=purl,
        name=component.name if component else first.name,
        version=version,
        kind=component.kind if component else first.kind or "other",
        ecosystem=ecosystem,
        severity=worst.level,
        score=worst.score,
        vector=worst.vector,
        fixed_in=_newer((fix for word in words for fix in word.fixed_in), ecosystem, version),
        found_as=first.name,
        published=min((one.published for _, one in said if one.published), default=""),
        modified=max((one.modified for _, one in said), default=""),
        source=words[0].scanner,
        reported_by=tuple(sorted({word.scanner for word in words})),
        words=words,
        disagreement=_disagreement(words, asked),
    )
