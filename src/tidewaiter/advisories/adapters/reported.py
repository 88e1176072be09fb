"""What a scanner's report says, whatever its format."""

from collections.abc import Iterable, Iterator
from typing import TypeVar

import msgspec
from packageurl import PackageURL

from tidewaiter.advisories import severity
from tidewaiter.advisories.severity import Level
from tidewaiter.core import limits
from tidewaiter.core.errors import InputError, LimitError
from tidewaiter.sbom import purls
from tidewaiter.sbom.component import Kind
from tidewaiter.sbom.reading import bounded
from tidewaiter.sbom.reading.document import clean, digest_of

_T = TypeVar("_T")
_NEXT = "Write it again: `trivy image --format json`, `grype -o json`, Harbor's vulnerability report, or OpenVEX 0.2."
_LEVELS: dict[str, Level] = {
    "critical": "critical",
    "high": "high",
    "medium": "medium",
    "moderate": "medium",
    "low": "low",
    "negligible": "low",
    "none": "none",
}


class Reported(msgspec.Struct, frozen=True, kw_only=True):
    """One vulnerability of one package as a report has it; empty where it does not say."""

    advisory: str
    aliases: tuple[str, ...]
    name: str
    version: str
    kind: Kind | None
    """None when the report does not say what kind of package it is."""
    ecosystem: str
    purl: str
    """Canonical; one of the type `generic` when the report gives none."""
    severity: Level
    score: float | None
    vector: str
    fixed_in: tuple[str, ...]
    """As listed, not ordered."""
    published: str
    modified: str


class ScannerReport(msgspec.Struct, frozen=True, kw_only=True):
    """One report. It is a claim of whoever wrote it; nothing of it was compared with an image."""

    scanner: str
    """`trivy`, `grype`, or `harbor/NAME` for the scanner that Harbor ran."""
    version: str
    findings: tuple[Reported, ...]
    digests: frozenset[str]
    """Digests by which it names the image: of manifests, or of the config."""


def refused(where: str, what: str) -> InputError:
    """An error that says what is wrong with the document `where`."""
    return InputError(f"{where}: {what}", next_step=_NEXT)


def check(data: bytes, where: str) -> None:
    """Nothing for a JSON text within the bounds of SBOM documents; raises `InputError` and `LimitError` otherwise."""
    try:
        bounded.check(data, where)
    except LimitError:
        raise
    except InputError as error:
        raise InputError(error.message, next_step=_NEXT) from error


def decode(data: bytes | msgspec.Raw, shape: type[_T], where: str) -> _T:
    """The part of a checked document that `shape` declares; raises `InputError` when it has another shape."""
    try:
        return msgspec.json.decode(data, type=shape)
    except (ValueError, RecursionError) as error:
        raise refused(where, f"it is not what its format allows: {str(error)[:150]}") from error


def counted(items: Iterable[_T], where: str) -> Iterator[_T]:
    """`items`; raises `LimitError` past as many as a report may list."""
    for number, item in enumerate(items):
        if number >= limits.REPORT_FINDINGS:
            raise bounded.over(where, f"it lists more than {limits.REPORT_FINDINGS} findings")
        yield item


def level_of(word: str) -> Level:
    """The level that a scanner's word means; what Debian calls negligible is low, anything unheard of unknown."""
    return _LEVELS.get(word.strip().lower(), "unknown")


def scored(vectors: Iterable[str]) -> severity.Severity:
    """Score and vector of the worst valid CVSS vector."""
    return severity.of(tuple(clean(vector, 200) for vector in vectors if vector), "")


def names_of(first: str, others: Iterable[str], where: str) -> tuple[str, tuple[str, ...]]:
    """Id and aliases of a vulnerability; raises `InputError` when it has no id, `LimitError` when too many."""
    advisory = clean(first, 200)
    if not advisory:
        raise refused(where, "it lists a vulnerability without an id")
    aliases = {clean(other, 200) for other in others} - {advisory, ""}
    if len(aliases) > limits.REPORT_IDS:
        raise bounded.over(where, f"{advisory} has more than {limits.REPORT_IDS} names")
    return advisory, tuple(sorted(aliases))


def digests_of(texts: Iterable[str | None]) -> frozenset[str]:
    """Digests among `texts`, which may be `NAME@DIGEST`."""
    return frozenset(digest_of((text or "").rpartition("@")[2]) for text in texts) - {""}


class Package(msgspec.Struct, frozen=True):
    """A package as a report names it."""

    name: str
    version: str
    kind: Kind | None
    ecosystem: str
    purl: str


def package(purl: str, name: str, version: str, kind: Kind | None, where: str) -> Package:
    """The package that a report names by `purl`, or else by name and version.

    Raises:
        InputError: it has neither.
    """
    named = purls.parse(purl) if purl else None
    if named is not None and named.version:
        # Trivy writes the epoch and the release of a package into the version beside the purl only.
        return Package(named.name, named.version, named.kind, named.ecosystem, named.purl)
    name, version = clean(name, 500), clean(version, 500)
    if not name:
        raise refused(where, "it lists a vulnerability of a package without a name")
    generic = PackageURL("generic", None, name, version or None).to_string()
    return Package(name, version, named.kind if named else kind, named.ecosystem if named else "", generic)
