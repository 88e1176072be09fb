"""Package URLs in documents: what one says of a package, and the source package that scanners look for in it."""

import re

import msgspec
from packageurl import PackageURL
from packageurl import quote as percent_encoded

from tidewaiter.core import limits
from tidewaiter.sbom import distributions
from tidewaiter.sbom.component import Component, Kind

# https://github.com/package-url/purl-spec, and https://ossf.github.io/osv-schema/#affectedpackage-field
_KINDS: dict[str, Kind] = {
    "deb": "deb",
    "apk": "apk",
    "rpm": "rpm",
    "pypi": "python",
    "conda": "conda",
    "npm": "npm",
    "golang": "golang",
    "cargo": "cargo",
    "maven": "maven",
    "gem": "gem",
}
_ECOSYSTEMS = {
    "pypi": "PyPI",
    "conda": "conda",
    "npm": "npm",
    "golang": "Go",
    "cargo": "crates.io",
    "maven": "Maven",
    "gem": "RubyGems",
    "nuget": "NuGet",
    "composer": "Packagist",
    "hex": "Hex",
    "pub": "Pub",
    "hackage": "Hackage",
    "cran": "CRAN",
    "swift": "SwiftURL",
}
_UPSTREAM = "upstream"
_SOURCE_RPM = ".src.rpm"
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_SOURCED = frozenset({"deb", "apk"})


class Named(msgspec.Struct, frozen=True, kw_only=True):
    """What a package URL says."""

    kind: Kind
    name: str
    """As advisories of the ecosystem write it: with scope, group or module path."""
    version: str
    purl: str
    """Canonical; of Debian's and Alpine's packages without the source package."""
    ecosystem: str
    """Empty when there is no name for it, `unknown` when the distribution is not known."""
    source_name: str = ""
    source_version: str = ""
    """Both empty when the source is called and numbered as the package is."""


def with_source(component: Component) -> str:
    """The component's package URL with the qualifier `upstream`, by which Syft and Grype know the source package."""
    if component.kind not in _SOURCED or not (component.source_name or component.source_version):
        return component.purl
    source = component.source_name or component.name
    if component.source_version:
        source += f"@{component.source_version}"
    return f"{component.purl}{'&' if '?' in component.purl else '?'}{_UPSTREAM}={percent_encoded(source)}"


def parse(text: str, distribution: tuple[str, str] = ("", "")) -> Named | None:
    """What the package URL in `text` says; None when it is none.

    `distribution` (name and version) counts where the package URL does not say one itself.
    """
    if len(text) > limits.PURL_CHARACTERS:
        return None
    try:
        text.encode()
        purl = PackageURL.from_string(text)
    except ValueError:
        return None
    qualifiers = dict(purl.qualifiers) if isinstance(purl.qualifiers, dict) else {}
    kind = _KINDS.get(purl.type, "other")
    version = purl.version or ""
    if kind == "golang":
        version = version[1:] if version[:1] == "v" and version[1:2].isdigit() else version
    epoch = qualifiers.get("epoch", "")
    if kind in {"deb", "rpm"} and epoch.isascii() and epoch.isdigit() and int(epoch[:9]) and ":" not in version:
        version = f"{epoch}:{version}"
    name = _name(purl)
    source_name, source_version = _source(kind, qualifiers)
    if kind in _SOURCED and qualifiers.pop(_UPSTREAM, ""):
        purl = purl._replace(qualifiers=qualifiers)
    found = Named(
        kind=kind,
        name=name,
        version=version,
        purl=purl.to_string(),
        ecosystem=_ecosystem(purl, kind, _distribution(purl, qualifiers.get("distro", ""), distribution)),
        source_name="" if source_name == name else source_name,
        source_version="" if source_version == version else source_version,
    )
    # Percent-encoding may hide what must not reach a terminal.
    texts = (found.name, found.version, found.ecosystem, found.source_name, found.source_version)
    return found if all(map(str.isprintable, texts)) else None


def _name(purl: PackageURL) -> str:
    if not purl.namespace or purl.type in {"deb", "apk", "rpm"}:
        return purl.name
    return f"{purl.namespace}{':' if purl.type == 'maven' else '/'}{purl.name}"


def _source(kind: Kind, qualifiers: dict[str, str]) -> tuple[str, str]:
    """Name and version of the source package as the qualifier `upstream` says them; each empty when it does not."""
    upstream = qualifiers.get(_UPSTREAM, "")
    if kind in _SOURCED:
        name, _, version = upstream.partition("@")
        return name, version
    parts = upstream.removesuffix(_SOURCE_RPM).rsplit("-", 2)
    if kind == "rpm" and len(parts) == 3:
        return parts[0], f"{parts[1]}-{parts[2]}"
    return "", ""


def _distribution(purl: PackageURL, qualifier: str, otherwise: tuple[str, str]) -> tuple[str, str]:
    """Name and version: `debian-12` as Syft writes it, or `3.20.3` beside the name space as Trivy does for Alpine."""
    if not qualifier:
        return otherwise if otherwise[0] else (purl.namespace or "", "")
    name, dash, version = qualifier.rpartition("-")
    if dash:
        return name, version
    return (qualifier, "") if qualifier == purl.namespace else (purl.namespace or "", qualifier)


def _ecosystem(purl: PackageURL, kind: Kind, distribution: tuple[str, str]) -> str:
    name, version = distribution
    if kind == "deb":
        return distributions.of_debian(name, version, long_term=distributions.is_long_term(version))
    if kind == "apk":
        return distributions.of_alpine(name, version)
    if kind == "rpm":
        return distributions.of_rpm(name, version)
    if kind == "maven" and not purl.namespace:
        return distributions.UNKNOWN  # without its group an artifact is found in no advisory
    return _ECOSYSTEMS.get(purl.type, "")


def is_package(text: str) -> bool:
    """Whether a package URL names something that may be in an image, not an image itself."""
    return bool(text) and not text.startswith(("pkg:oci/", "pkg:docker/"))


def digest_of(text: str) -> str:
    """Digest of the image that a package URL of the type `oci` names; empty for any other."""
    try:
        purl = PackageURL.from_string(text) if text.startswith("pkg:oci/") else None
    except ValueError:
        return ""
    version = purl.version if purl else None
    return version if version and _DIGEST.fullmatch(version) else ""
