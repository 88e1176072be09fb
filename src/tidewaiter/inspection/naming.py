"""Package URLs and the names of ecosystems, as OSV writes them."""

import re

from packageurl import PackageURL
from packaging.utils import canonicalize_name

from tidewaiter.inspection.layer_facts import FoundPackage, OsRelease

# https://ossf.github.io/osv-schema/#affectedpackage-field
_ECOSYSTEMS = {
    "python": "PyPI",
    "npm": "npm",
    "golang": "Go",
    "cargo": "crates.io",
    "maven": "Maven",
    "conda": "conda",
}
_DEBIAN = {"debian": "Debian", "ubuntu": "Ubuntu"}
_ALPINE = {"wolfi": "Wolfi", "chainguard": "Chainguard"}
_RELEASE = re.compile(r"(\d+\.\d+)\.\d+")


def _of_debian(release: OsRelease) -> str:
    """For example `Debian:12` or `Ubuntu:22.04:LTS`."""
    if not release.id or release.id == "alpine" or release.id in _ALPINE:
        return "unknown"  # the advisories of that distribution say nothing about Debian's packages
    name = _DEBIAN.get(release.id, release.id)
    if release.version_id:
        name += f":{release.version_id}"
    return name + ":LTS" if release.id == "ubuntu" and "LTS" in release.version.split() else name


def _of_alpine(release: OsRelease) -> str:
    """`Alpine:v3.20`, `Alpine:edge`, `Wolfi` or `Chainguard`."""
    if release.id == "alpine":
        numbered = _RELEASE.fullmatch(release.version_id)
        return f"Alpine:v{numbered[1]}" if numbered else "Alpine:edge"
    return _ALPINE.get(release.id, "unknown")


def ecosystem(package: FoundPackage, release: OsRelease) -> str:
    """The ecosystem whose advisories speak of the package; `unknown` where none certainly does."""
    if package.kind == "deb":
        return _of_debian(release)
    if package.kind == "apk":
        return _of_alpine(release)
    if package.kind == "maven" and ":" not in package.name:
        return "unknown"  # without its group an artifact is found in no advisory
    return _ECOSYSTEMS[package.kind]


def purl(package: FoundPackage, release: OsRelease) -> str:
    """The package URL (purl-spec, types of the ecosystems)."""
    kind, name, version = package.kind, package.name, package.version
    space, qualifiers = "", dict[str, str]()
    type_ = "pypi" if kind == "python" else kind
    if kind in {"npm", "golang"}:
        space, _, name = name.rpartition("/")
        if kind == "golang" and package.name != "stdlib" and version[:1].isdigit():
            version = f"v{version}"
    elif kind == "maven":
        space, _, name = name.rpartition(":")
    elif kind == "conda" and package.architecture:
        qualifiers = {"subdir": package.architecture}
    elif kind in {"deb", "apk"}:
        space = release.id
        if package.architecture:
            qualifiers["arch"] = package.architecture
        if release.id:
            qualifiers["distro"] = f"{release.id}-{release.version_id}" if release.version_id else release.id
    elif kind == "python":
        name = canonicalize_name(name)
    return PackageURL(type_, space or None, name, version, qualifiers).to_string()
