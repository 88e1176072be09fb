"""What an SBOM document says, whatever its format, and how the packages of one become components."""

import re
from collections.abc import Iterable
from typing import Literal

import msgspec
from packaging.utils import canonicalize_name

from tidewaiter.core import limits
from tidewaiter.sbom import purls
from tidewaiter.sbom.component import Component, Install, component_key
from tidewaiter.sbom.licenses import expression
from tidewaiter.sbom.reading.bounded import over

Format = Literal["cyclonedx", "spdx", "syft"]
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_HEX = re.compile(r"[0-9a-f]+")
_HEX_DIGITS = {"md5": 32, "sha1": 40, "sha256": 64, "sha384": 96, "sha512": 128}
_AND = re.compile(r"[()]|\sAND\s")
_OF_A_DISTRIBUTION = frozenset({"deb", "apk", "rpm"})
_NAMES_SOURCES = ("syft", "trivy", "tidewaiter")
_EXAMPLES = 3


class SbomDocument(msgspec.Struct, frozen=True, kw_only=True):
    """One document. It is a claim of whoever wrote it; nothing of it was compared with an image."""

    format: Format
    version: str
    """Of the format, for example `1.6`."""
    tool: str
    """Name and version of the program that wrote it; empty when it does not say."""
    name: str
    """What the document says it is about."""
    digest: str
    """`sha256:…` of the image's manifest; empty when it does not say."""
    distribution: str
    distribution_version: str
    components: tuple[Component, ...]
    """Sorted. One without a package URL has an empty `purl` and `ecosystem`."""
    notes: tuple[str, ...]
    """What could not be read, or must be known of it: packages may be missing."""


class Entry(msgspec.Struct, kw_only=True):
    """A package as a document has it, before its package URL is understood; empty where it does not say."""

    reference: str
    name: str
    version: str
    purl: str = ""
    licenses: tuple[str, ...] = ()
    """As written; all of them apply."""
    supplier: str = ""
    description: str = ""
    location: str = ""
    layer: str = ""
    source_name: str = ""
    source_version: str = ""
    install: Install = ""
    hashes: tuple[str, ...] = ()
    model: bool = False


class Notes:
    """What is to be said about a document: each thing once, with how often and a few examples."""

    def __init__(self) -> None:
        self._said: dict[str, tuple[int, list[str]]] = {}

    def add(self, what: str, example: str = "") -> None:
        """Say `what` once more; the first `limits.SBOM_NOTES` different things are kept."""
        if what not in self._said and len(self._said) >= limits.SBOM_NOTES:
            return
        count, examples = self._said.get(what, (0, []))
        if example and len(examples) < _EXAMPLES:
            examples.append(clean(example, 60))
        self._said[what] = count + 1, examples

    def texts(self) -> tuple[str, ...]:
        """`WHAT (how many: examples)`, sorted."""
        return tuple(
            sorted(
                f"{what} ({count}: {', '.join(examples)}{', …' if count > len(examples) else ''})" if examples else what
                for what, (count, examples) in self._said.items()
            )
        )


def clean(text: str | None, longest: int = 2000) -> str:
    """One line of printable text, at most `longest` characters."""
    line = (text or "")[: 2 * longest]
    if not line.isprintable():
        line = "".join(character if character.isprintable() else " " for character in line)
    return " ".join(line.split())[:longest]


def digest_of(text: str | None) -> str:
    """`text` when it is a SHA-256 digest, else nothing."""
    return text if text and _DIGEST.fullmatch(text) else ""


def hash_of(algorithm: str, value: str) -> str:
    """`ALGORITHM:HEX` in the spelling of components; empty when it is not one of theirs."""
    name, digits = algorithm.lower().replace("-", ""), value.lower()
    return f"{name}:{digits}" if len(digits) == _HEX_DIGITS.get(name) and _HEX.fullmatch(digits) else ""


def install_of(text: str | None) -> Install:
    """How a Python distribution was installed, as our own documents say it."""
    if text == "editable":
        return "editable"
    return "vendored" if text == "vendored" else ""


def conjuncts(stated: str) -> tuple[str, ...]:
    """What `AND` joins in a licence expression."""
    parts, start, depth = [], 0, 0
    for match in _AND.finditer(stated):
        depth += {"(": 1, ")": -1}.get(match[0], 0)
        if depth == 0 and match[0] not in "()":
            parts.append(stated[start : match.start()])
            start = match.end()
    parts.append(stated[start:])
    return tuple(part.strip() for part in parts)


class _Licenses:
    """Licence texts of one document, each looked at once: that takes time, and a document may hold very many."""

    def __init__(self, where: str) -> None:
        self._known: dict[str, str] = {}
        self._where = where

    def spelled(self, text: str) -> str:
        """An SPDX expression in its canonical spelling, else the text as it stands, shortened."""
        stated = clean(text, limits.LICENSE_CHARACTERS)
        known = self._known.get(stated)
        if known is None:
            if len(self._known) >= limits.SBOM_LICENSES:
                raise over(self._where, f"it names more than {limits.SBOM_LICENSES} licences")
            known = self._known[stated] = expression(stated) or stated
        return known


def _component(entry: Entry, distribution: tuple[str, str], licenses: _Licenses, notes: Notes) -> Component:
    name, version = clean(entry.name), clean(entry.version)
    named = purls.parse(entry.purl, distribution) if entry.purl else None
    if named is None:
        if not entry.model:
            notes.add("packages without a package URL cannot be matched with advisories", name)
        named = purls.Named(kind="other", name=name, version=version, purl="", ecosystem="")
    spelled = named.name
    if _same(named.kind, named.name, name):
        spelled = name  # package URLs lose capital letters, or the way a project writes itself
    source_name, source_version = named.source_name or entry.source_name, named.source_version or entry.source_version
    found = named.version or version
    return Component(
        kind="model" if entry.model else named.kind,
        name=spelled,
        version=found,
        purl=named.purl,
        ecosystem="" if entry.model else named.ecosystem,
        source_name="" if source_name == spelled else clean(source_name),
        source_version="" if source_version == found else clean(source_version),
        licenses=tuple(dict.fromkeys(filter(None, map(licenses.spelled, entry.licenses)))),
        supplier=clean(entry.supplier, 200),
        description=clean(entry.description, 200),
        location=clean(entry.location.removeprefix("/")),
        layer=digest_of(entry.layer),
        install=entry.install,
        hashes=tuple(sorted(set(filter(None, entry.hashes)))),
    )


def _same(kind: str, one: str, other: str) -> bool:
    if kind == "python":
        return canonicalize_name(one) == canonicalize_name(other)
    return one.lower() == other.lower()


def components(
    entries: Iterable[Entry],
    needs: Iterable[tuple[str, str]],
    *,
    distribution: tuple[str, str],
    tool: str,
    notes: Notes,
    where: str,
) -> tuple[Component, ...]:
    """Components of a document, sorted; `needs` are pairs of references: the second is needed by the first.

    Raises:
        LimitError: there are more than `limits.COMPONENTS`, or more licences than `limits.SBOM_LICENSES`.
    """
    knows_sources = tool.lower().startswith(_NAMES_SOURCES)
    licenses = _Licenses(where)
    found: dict[str, Component] = {}
    for number, entry in enumerate(entries):
        if number >= limits.COMPONENTS:
            raise over(where, f"it names more than {limits.COMPONENTS} packages")
        component = _component(entry, distribution, licenses, notes)
        if entry.reference in found:
            notes.add("packages share a reference, so that relations may mean another one", entry.reference)
        found[entry.reference if entry.reference not in found else f"{entry.reference}\n{number}"] = component
        if component.kind in _OF_A_DISTRIBUTION and not (knows_sources or component.source_name):
            notes.add("packages do not name their source package, under which advisories are filed", component.name)
    required: dict[str, set[str]] = {}
    for reference, other in needs:
        if reference in found and other in found and found[other].purl:
            required.setdefault(reference, set()).add(found[other].purl)
    whole = (
        msgspec.structs.replace(component, requires=tuple(sorted(required[reference] - {component.purl})))
        if reference in required
        else component
        for reference, component in found.items()
    )
    return tuple(sorted(dict.fromkeys(whole), key=lambda one: (*component_key(one), one.name, one.version)))
