"""Which findings VEX statements speak of, and what holds for them.

1. A statement is about a finding when it names the vulnerability, and as product the image (and in it no part, or the
   package) or the package itself. A package URL without version means every version; its qualifiers must be there.
2. Of the statements about a finding the latest counts.
3. Statements of the same time, or without one, that contradict each other count for nothing, and that is said.
4. What is not affected or fixed is suppressed: it is kept apart, with the statement that says so.
"""

from collections.abc import Iterable, Mapping, Sequence

import msgspec
from packageurl import PackageURL

from tidewaiter.advisories.adapters.openvex import Product, Statement, VexDocument
from tidewaiter.advisories.finding import Finding, ScanResult, Vex
from tidewaiter.core import clock, limits
from tidewaiter.sbom import purls
from tidewaiter.sbom.component import Component

_SUPPRESSES = frozenset({"not_affected", "fixed"})
_IMAGES = frozenset({"oci", "docker"})
_IGNORED = frozenset({"upstream", "epoch"})
"""Qualifiers that are part of the version, or of the source package."""


class Subject(msgspec.Struct, frozen=True):
    """The image whose findings are judged."""

    digest: str
    """`sha256:…` of its manifest; empty when it is not known."""
    purl: str
    """Of the type `oci`; empty when it is not known."""


class _Purl(msgspec.Struct, frozen=True):
    """A package URL, taken apart for comparing; `version` empty means any."""

    type: str
    namespace: str
    name: str
    version: str
    qualifiers: Mapping[str, str]


def _parse(text: str) -> _Purl | None:
    if not text.startswith("pkg:") or len(text) > limits.PURL_CHARACTERS:
        return None
    try:
        purl = PackageURL.from_string(text)
    except ValueError:
        return None
    named = purls.parse(text)
    said = dict(purl.qualifiers) if isinstance(purl.qualifiers, dict) else {}
    return _Purl(
        purl.type,
        purl.namespace or "",
        purl.name,
        named.version if named else purl.version or "",
        {key: value for key, value in said.items() if key not in _IGNORED},
    )


def _covers(said: _Purl, ours: _Purl, version: str) -> bool:
    """Whether a package URL of a statement means ours, which has this version."""
    return (
        (said.type, said.namespace, said.name) == (ours.type, ours.namespace, ours.name)
        and said.version in {"", version}
        and said.qualifiers.items() <= ours.qualifiers.items()
    )


class _Judge:
    """Compares products with one image and with packages; remembers what texts mean."""

    def __init__(self, subject: Subject, components: Iterable[Component]) -> None:
        self._digest = subject.digest
        self._image = _parse(subject.purl)
        self._components = {one.purl: one for one in components}
        self._parsed: dict[str, _Purl | None] = {}

    def _purl(self, text: str) -> _Purl | None:
        if text not in self._parsed:
            self._parsed[text] = _parse(text)
        return self._parsed[text]

    def applies(self, products: Sequence[Product], finding: Finding) -> bool:
        """Whether one of `products` is the finding's package, or the image with no part or with this package."""
        return any(
            self._is_package(product, finding)
            if not self._is_image(product)
            else not product.parts or any(self._is_package(part, finding) for part in product.parts)
            for product in products
        )

    def _is_image(self, product: Product) -> bool:
        if self._digest and self._digest == f"sha256:{product.sha256}":
            return True
        return any(self._names_image(name) for name in product.names)

    def _names_image(self, name: str) -> bool:
        said = self._purl(name)
        if said is None:
            return bool(self._digest) and name.rpartition("@")[2] == self._digest
        if said.type not in _IMAGES:
            return False
        if said.version:
            return said.version == self._digest
        return self._image is not None and _covers(said, self._image, self._digest)

    def _is_package(self, product: Product, finding: Finding) -> bool:
        ours = self._purl(finding.component_purl)
        if ours is None or product.parts:
            return False
        return any(
            said is not None and (_covers(said, ours, finding.version) or self._is_source(said, ours, finding))
            for said in map(self._purl, product.names)
        )

    def _is_source(self, said: _Purl, ours: _Purl, finding: Finding) -> bool:
        """Whether a statement means the source package, as Debian writes it: with the qualifier `arch=source`."""
        component = self._components.get(finding.component_purl)
        if component is None or said.qualifiers.get("arch") != "source":
            return False
        source = msgspec.structs.replace(
            ours, name=component.source_name or component.name, qualifiers={**ours.qualifiers, "arch": "source"}
        )
        return _covers(said, source, component.source_version or component.version)


def _names(finding: Finding) -> frozenset[str]:
    """Ids by which a statement may mean the finding; a bulletin about several vulnerabilities goes by its own only."""
    every = frozenset((finding.advisory, *finding.aliases))
    return every if sum(name.startswith("CVE-") for name in every) <= 1 else frozenset((finding.advisory,))


def _latest(statements: Sequence[Statement]) -> list[Statement]:
    """Those that nothing later replaces: one without a time is replaced by nothing."""
    dated = [one.at for one in statements if one.at is not None]
    return [one for one in statements if one.at is None or one.at == max(dated)]


def _as_vex(one: Statement) -> Vex:
    return Vex(
        status=one.status,
        justification=one.justification,
        statement=one.text,
        author=one.author,
        timestamp=clock.rfc3339(one.at) if one.at else "",
        source=one.source,
        document=one.document,
    )


def apply(
    result: ScanResult, subject: Subject, components: Iterable[Component], documents: Sequence[VexDocument]
) -> ScanResult:
    """`result` with what the documents, which the user trusts, say of its findings."""
    if not documents:
        return result
    judge = _Judge(subject, components)
    by_name: dict[str, list[Statement]] = {}
    for document in documents:
        for statement in document.statements:
            for name in statement.vulnerability:
                by_name.setdefault(name, []).append(statement)
    kept, suppressed, notes, used = [], list(result.suppressed), list(result.notes), set[int]()
    for finding in result.findings:
        named = {id(one): one for name in sorted(_names(finding)) for one in by_name.get(name, ())}
        about = [one for one in named.values() if judge.applies(one.products, finding)]
        used.update(map(id, about))
        latest = _latest(about)
        if not latest:
            kept.append(finding)
        elif len({one.status in _SUPPRESSES for one in latest}) > 1:
            said = ", ".join(sorted({f"{one.status} ({one.source})" for one in latest}))
            notes.append(
                f"VEX statements about {finding.advisory} in {finding.name} {finding.version} contradict each other: "
                f"{said}; none of them counts"
            )
            kept.append(finding)
        else:
            holds = min(latest, key=lambda one: (not one.justification, one.justification, one.source, one.document))
            judged = msgspec.structs.replace(finding, vex=_as_vex(holds))
            (suppressed if holds.status in _SUPPRESSES else kept).append(judged)
    notes += [_unused(document, used) for document in documents if _unused(document, used)]
    return msgspec.structs.replace(result, findings=tuple(kept), suppressed=tuple(suppressed), notes=tuple(notes))


def _unused(document: VexDocument, used: set[int]) -> str:
    idle = sum(id(one) not in used for one in document.statements)
    return (
        f"{document.where}: {idle} of {len(document.statements)} statements are about nothing found here"
        if idle
        else ""
    )
