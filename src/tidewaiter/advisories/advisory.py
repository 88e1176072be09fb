"""What an advisory says, without its prose: the facts of one OSV entry that decide whether a package is affected."""

from typing import Literal

import msgspec

EventKind = Literal["introduced", "fixed", "last_affected", "limit"]
RangeKind = Literal["ECOSYSTEM", "SEMVER"]


class Event(msgspec.Struct, frozen=True, array_like=True):
    """One change of state on a package's line of versions."""

    kind: EventKind
    version: str


class Range(msgspec.Struct, frozen=True, array_like=True):
    """Events of one line of versions, in the order in which the entry lists them."""

    kind: RangeKind
    events: tuple[Event, ...]


class Affected(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which versions of one package an advisory is about.

    Without any `ranges` and `versions` nothing can be decided from version numbers: the entry then only has GIT
    ranges, or ranges of a kind that this program does not know.
    """

    ecosystem: str
    name: str
    """Normalised as the ecosystem normalises names."""
    ranges: tuple[Range, ...] = ()
    versions: tuple[str, ...] = ()
    vectors: tuple[str, ...] = ()
    """CVSS vectors for this package; empty when those of the advisory hold."""
    rating: str = ""
    """The database's own severity word for this package, as written; empty when that of the advisory holds."""


class Advisory(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One entry of an advisory database. Times are RFC 3339 in UTC, empty when the entry does not know."""

    id: str
    aliases: tuple[str, ...] = ()
    upstream: tuple[str, ...] = ()
    """Vulnerabilities that a distribution's entry is about (`DEBIAN-CVE-…` names its CVE here)."""
    published: str = ""
    modified: str = ""
    withdrawn: str = ""
    vectors: tuple[str, ...] = ()
    rating: str = ""
    affected: tuple[Affected, ...] = ()


def family(ecosystem: str) -> str:
    """Ecosystem without its release: `Debian` for `Debian:12`."""
    return ecosystem.partition(":")[0]
