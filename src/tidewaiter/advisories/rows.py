"""What the database of advisories stores and tells, as values."""

import hashlib
from typing import NamedTuple

import msgspec

from tidewaiter.advisories.advisory import Advisory, family

_ENCODER = msgspec.json.Encoder()


class Row(NamedTuple):
    """One entry as it is stored for one family of ecosystems: packed, since a feed has many."""

    id: str
    digest: bytes
    facts: bytes
    affected: tuple[tuple[str, str, bytes], ...]
    """Ecosystem, package name, facts."""


class Mirrored(NamedTuple):
    """How far an ecosystem follows a mirror."""

    url: str
    tag: str
    """The ETag of the whole export; empty when the mirror gives none."""
    listed: str
    """The newest change in the mirror's list of entries, as it is written there; empty when it has no list."""


class Exploited(NamedTuple):
    """What a list of exploited vulnerabilities is: number of CVEs, its date (RFC 3339), where it came from."""

    kind: str
    entries: int
    as_of: str
    source: str


class Changes(NamedTuple):
    """How many entries an import added, changed and removed."""

    added: int
    changed: int
    removed: int


def rows_of(advisory: Advisory) -> dict[str, Row]:
    """What is stored of `advisory`, by family of ecosystems."""
    facts = _ENCODER.encode(msgspec.structs.replace(advisory, affected=()))
    packages: dict[str, list[tuple[str, str, bytes]]] = {}
    for item in advisory.affected:
        package = (item.ecosystem, item.name, _ENCODER.encode(item))
        packages.setdefault(family(item.ecosystem), []).append(package)
    rows = {}
    for name, affected in packages.items():
        content = hashlib.sha256(facts)
        for _, _, packed in affected:
            content.update(b"\n" + packed)
        rows[name] = Row(advisory.id, content.digest(), facts, tuple(affected))
    return rows
