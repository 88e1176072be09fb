"""Matching components with advisories.

1. Look up every advisory that is filed under the package's name, or under another name of the same code.
2. Decide each by the OSV schema's rules (`affects`). What cannot be decided is said, never dropped.
3. Advisories of one vulnerability become one finding, with all ids, the worst severity and the union of fixes.

A package version is worked out once, however many components have it.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from tidewaiter.advisories import names, severity
from tidewaiter.advisories.advisory import Advisory, Affected, family
from tidewaiter.advisories.affects import Index, Standing
from tidewaiter.advisories.database import Database
from tidewaiter.advisories.exploited import Exploitation, Exploitations
from tidewaiter.advisories.finding import Coverage, Finding, NotChecked, ScanResult
from tidewaiter.advisories.merge import Hit, group, is_named
from tidewaiter.advisories.versions import Key
from tidewaiter.sbom.component import Component

_PackageVersion = tuple[str, str, str]

_BY_SOURCE_RPM = frozenset({"Rocky Linux"})
"""AlmaLinux names the packages that are installed."""

_OWN_DATABASE = {"PyPI": "PYSEC-", "Debian": "DEBIAN-", "Ubuntu": "UBUNTU-"}


class _Package:
    """Every entry about a package under all of its names, and what was worked out about its versions."""

    def __init__(self, own: str, entries: Sequence[tuple[Advisory, Affected]]) -> None:
        self.own = own
        self.entries = entries
        self.index = Index([affected for _, affected in entries])
        self.answers: dict[Standing, _Answer] = {}
        self.facts: dict[tuple[int, ...], _Facts] = {}


class _Facts(NamedTuple):
    """What a vulnerability's entries say whatever the version."""

    advisory: str
    severity: severity.Severity
    found_as: str
    published: str
    modified: str


class _Vulnerability(NamedTuple):
    """A finding without the component it is about."""

    facts: _Facts
    aliases: tuple[str, ...]
    fixed_in: tuple[str, ...]
    exploitation: Exploitation


class _Answer(NamedTuple):
    vulnerabilities: tuple[_Vulnerability, ...]
    undecided: tuple[str, ...]


class Matcher:
    """Matches components with the advisories of `database`; keeps what it worked out until the data changes.

    One thread at a time.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._revision = ""
        self._packages: dict[tuple[str, str], _Package] = {}
        self._answers: dict[_PackageVersion, _Answer] = {}
        self._exploitations: Exploitations | None = None

    def match(self, components: Iterable[Component]) -> ScanResult:
        """Findings, and what was not checked, for `components`; equal input and data give an equal result.

        Components that are no packages (an operating system or a model without ecosystem) have no advisories and
        are passed over.

        Raises:
            StorageError: the advisory database cannot be read.
        """
        with self._database.reading():
            revision = self._database.revision()
            if revision != self._revision:
                self._packages.clear()
                self._answers.clear()
                self._exploitations = Exploitations(self._database)
                self._revision = revision
            coverage = self._database.coverage()
            findings: set[Finding] = set()
            not_checked: set[NotChecked] = set()
            used: dict[str, Coverage] = {}
            for component in components:
                if component.kind in ("os", "model") and not component.ecosystem:
                    continue
                data = coverage.get(component.ecosystem)
                if data is None:
                    not_checked.add(_not_checked(component, _why_no_data(component.ecosystem)))
                else:
                    used[data.ecosystem] = data
                answer = self._answer(subject(component))
                findings.update(_finding(component, item) for item in answer.vulnerabilities)
                if answer.undecided:
                    not_checked.add(_not_checked(component, _why_undecided(component, answer), answer.undecided))
        return ScanResult(
            findings=tuple(sorted(findings, key=finding_key)),
            not_checked=tuple(sorted(not_checked, key=lambda item: (item.purl, item.reason))),
            coverage=tuple(used[ecosystem] for ecosystem in sorted(used)),
            revision=revision,
            oldest_as_of=min((data.as_of for data in used.values()), default=""),
        )

    def _answer(self, asked: _PackageVersion) -> _Answer:
        answer = self._answers.get(asked)
        if answer is None:
            ecosystem, name, version = asked
            known = self._exploitations or Exploitations(self._database)
            answer = self._answers[asked] = _work_out(self._package(ecosystem, name), version, known)
        return answer

    def _package(self, ecosystem: str, name: str) -> _Package:
        package = self._packages.get((ecosystem, name))
        if package is None:
            entries = [
                entry
                for identity in names.identities(ecosystem, name)
                for entry in self._database.advisories(ecosystem, identity)
            ]
            package = _Package(names.normalise(ecosystem, name), entries) if entries else _UNHEARD_OF
            self._packages[ecosystem, name] = package
        return package


_CLEAN = _Answer((), ())
_UNHEARD_OF = _Package("", ())


def _work_out(package: _Package, version: str, exploitations: Exploitations) -> _Answer:
    if not package.entries:
        return _CLEAN
    standing = package.index.standing(version)
    answer = package.answers.get(standing)
    if answer is None:
        groups = group(Hit(package.entries[number][0], number) for number in sorted(standing.affected))
        found = []
        for item in groups:
            numbers = tuple(hit.value for hit in item.hits)
            facts = package.facts.get(numbers)
            if facts is None:
                facts = package.facts[numbers] = _facts([package.entries[number] for number in numbers], package.own)
            aliases = tuple(sorted(item.names - {facts.advisory}))
            fixed = _fixed_in(package, numbers, version)
            found.append(_Vulnerability(facts, aliases, fixed, exploitations.of(item.names)))
        known = set[str]().union(*(item.names for item in groups))
        undecided = {package.entries[number][0] for number in standing.undecided}
        open_ids = sorted({advisory.id for advisory in undecided if not is_named(advisory, known)})
        answer = package.answers[standing] = _Answer(tuple(found), tuple(open_ids))
    return answer


def subject(component: Component) -> _PackageVersion:
    """Ecosystem, name and version that advisories of the component's ecosystem speak of."""
    if component.kind in {"deb", "apk"}:
        return (
            component.ecosystem,
            component.source_name or component.name,
            component.source_version or component.version,
        )
    if component.kind == "rpm" and family(component.ecosystem) in _BY_SOURCE_RPM:
        # The name of a source package's file has no epoch; its packages have that of the source.
        epoch, colon, _ = component.version.rpartition(":")
        version = f"{epoch}{colon}{component.source_version}" if component.source_version else component.version
        return component.ecosystem, component.source_name or component.name, version
    return component.ecosystem, names.normalise(component.ecosystem, component.name), component.version


def _facts(entries: Sequence[tuple[Advisory, Affected]], own: str) -> _Facts:
    """What all entries about one vulnerability say together.

    It is named by the entry under the component's own name, and there by the ecosystem's own database, if it can be.
    """
    preferred = _OWN_DATABASE.get(family(entries[0][1].ecosystem), "")
    advisory, affected = min(
        entries,
        key=lambda entry: (entry[1].name != own, not entry[0].id.startswith(preferred), entry[0].id, entry[1].name),
    )
    severities = (
        severity.of(affected.vectors or advisory.vectors, affected.rating or advisory.rating)
        for advisory, affected in entries
    )
    return _Facts(
        advisory=advisory.id,
        severity=max(severities, key=severity.rank),
        found_as=affected.name,
        published=min((entry.published for entry, _ in entries if entry.published), default=""),
        modified=max(entry.modified for entry, _ in entries),
    )


def _fixed_in(package: _Package, numbers: Sequence[int], version: str) -> tuple[str, ...]:
    """Fixed versions newer than `version`, ascending, so that the fix of its own branch is first.

    Left out are versions that another entry about the vulnerability still calls affected, unless none would be left:
    data that contradicts itself must not make a vulnerability look unfixable.
    """
    keys: dict[Key, str] = {}
    for number in numbers:
        for key, text in package.index.scopes[number].fixes(version):
            keys.setdefault(key, text)
    ascending = [keys[key] for key in sorted(keys)]
    sound = [text for text in ascending if package.index.standing(text).affected.isdisjoint(numbers)]
    return tuple(sound or ascending)


def _finding(component: Component, item: _Vulnerability) -> Finding:
    return Finding(
        advisory=item.facts.advisory,
        aliases=item.aliases,
        component_purl=component.purl,
        name=component.name,
        version=component.version,
        kind=component.kind,
        ecosystem=component.ecosystem,
        severity=item.facts.severity.level,
        score=item.facts.severity.score,
        vector=item.facts.severity.vector,
        fixed_in=item.fixed_in,
        found_as=item.facts.found_as,
        published=item.facts.published,
        modified=item.facts.modified,
        kev=item.exploitation.kev,
        epss=item.exploitation.epss,
        epss_percentile=item.exploitation.epss_percentile,
    )


def finding_key(finding: Finding) -> tuple[str, int, str, str]:
    """Sort key: purl, the worst severity first, id."""
    return finding.component_purl, -severity.LEVELS.index(finding.severity), finding.advisory, finding.found_as


def _not_checked(component: Component, reason: str, advisories: tuple[str, ...] = ()) -> NotChecked:
    return NotChecked(
        purl=component.purl,
        name=component.name,
        version=component.version,
        ecosystem=component.ecosystem,
        reason=reason,
        advisories=advisories,
    )


def _why_no_data(ecosystem: str) -> str:
    return f"no advisory data for {ecosystem}" if ecosystem else "its ecosystem is not known"


def _why_undecided(component: Component, answer: _Answer) -> str:
    shown = ", ".join(answer.undecided[:3]) + (", …" if len(answer.undecided) > 3 else "")
    _, name, version = subject(component)
    return f"version {version!r} of {name} cannot be compared with the versions in {shown}"
