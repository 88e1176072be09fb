"""Package URLs and the names of ecosystems, as OSV writes them."""

from packageurl import PackageURL

from tidewaiter.inspection.catalogers.python.requirements import normalised
from tidewaiter.inspection.layer_facts import FoundPackage, OsRelease
from tidewaiter.sbom import distributions

# https://ossf.github.io/osv-schema/#affectedpackage-field
_ECOSYSTEMS = {
    "python": "PyPI",
    "npm": "npm",
    "golang": "Go",
    "cargo": "crates.io",
    "maven": "Maven",
    "gem": "RubyGems",
    "conda": "conda",
}
_VENDORS = {"rhel": "redhat", "opensuse-leap": "opensuse", "opensuse-tumbleweed": "opensuse"}
"""The vendor in a package URL, where `os-release` says something else."""


def ecosystem(package: FoundPackage, release: OsRelease) -> str:
    """The ecosystem whose advisories speak of the package; `unknown` where none certainly does."""
    if package.kind == "deb":
        return distributions.of_debian(release.id, release.version_id, long_term="LTS" in release.version.split())
    if package.kind == "apk":
        return distributions.of_alpine(release.id, release.version_id)
    if package.kind == "rpm":
        return distributions.of_rpm(release.id, release.version_id)
    if package.kind == "maven" and ":" not in package.name:
        return distributions.UNKNOWN  # without its group an artifact is found in no advisory
    return _ECOSYSTEMS[package.kind]


def _rpm_version(package: FoundPackage) -> tuple[str, dict[str, str]]:
    """`VERSION-RELEASE`, and what an rpm's package URL says apart: the epoch, and a source package of another name."""
    epoch, _, version = package.version.rpartition(":")
    qualifiers = {"epoch": epoch} if epoch else {}
    if package.source_name or package.source_version:
        source = f"{package.source_name or package.name}-{package.source_version or version}"
        qualifiers["upstream"] = f"{source}.src.rpm"
    return version, qualifiers


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
    elif kind in {"deb", "apk", "rpm"}:
        space = release.id
        if kind == "rpm":
            space = _VENDORS.get(release.id, release.id)
            version, qualifiers = _rpm_version(package)
        if package.architecture:
            qualifiers["arch"] = package.architecture
        if release.id:
            qualifiers["distro"] = f"{release.id}-{release.version_id}" if release.version_id else release.id
    elif kind == "python":
        name = normalised(name)
    return PackageURL(type_, space or None, name, version, qualifiers).to_string()
