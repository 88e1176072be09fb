"""The names that OSV gives to the distributions, from what `os-release` or a package URL says."""

import re

# https://ossf.github.io/osv-schema/#affectedpackage-field
_DEBIAN = {"debian": "Debian", "ubuntu": "Ubuntu"}
_ALPINE = {"wolfi": "Wolfi", "chainguard": "Chainguard"}
_NOT_RPM = frozenset({"", "alpine", *_DEBIAN, *_ALPINE})
_BY_MAJOR = {
    "rhel": "Red Hat:enterprise_linux",
    "rocky": "Rocky Linux",
    "almalinux": "AlmaLinux",
    "azurelinux": "Azure Linux",
    "mariner": "Azure Linux",
}
_RELEASE = re.compile(r"(\d+\.\d+)\.\d+")
_EVERY_SECOND_APRIL = re.compile(r"\d[02468]\.04")
UNKNOWN = "unknown"


def is_long_term(version: str) -> bool:
    """Whether an Ubuntu release is one with long-term support: those of April in even years."""
    return _EVERY_SECOND_APRIL.fullmatch(version) is not None


def of_debian(name: str, version: str, *, long_term: bool) -> str:
    """For example `Debian:12` or `Ubuntu:22.04:LTS`; `unknown` where no advisories speak of Debian's packages."""
    if not name or name == "alpine" or name in _ALPINE:
        return UNKNOWN
    if name == "debian":
        version = version.partition(".")[0]  # advisories know major releases; some tools write `12.5`
    found = _DEBIAN.get(name, name)
    if version:
        found += f":{version}"
    return found + ":LTS" if name == "ubuntu" and long_term else found


def of_alpine(name: str, version: str) -> str:
    """`Alpine:v3.20`, `Alpine:edge`, `Wolfi` or `Chainguard`."""
    if name == "alpine":
        numbered = _RELEASE.fullmatch(version)
        return f"Alpine:v{numbered[1]}" if numbered else "Alpine:edge"
    return _ALPINE.get(name, UNKNOWN)


def of_rpm(name: str, version: str) -> str:
    """For example `Rocky Linux:9`, `openSUSE:Leap 15.6`, `SUSE:Linux Enterprise Server 15 SP6`, `fedora:40`.

    Red Hat's and SUSE's advisories name products and repositories; an image does not say which a package is from.
    """
    if name in _NOT_RPM:
        return UNKNOWN
    major, _, minor = version.partition(".")
    if name in _BY_MAJOR:
        return f"{_BY_MAJOR[name]}:{major}" if major else _BY_MAJOR[name]
    if name == "opensuse-tumbleweed":
        return "openSUSE:Tumbleweed"
    if name == "opensuse-leap":
        return f"openSUSE:Leap {version}"
    if name == "sles":
        return f"SUSE:Linux Enterprise Server {major} SP{minor}" if minor else f"SUSE:Linux Enterprise Server {major}"
    return f"{name}:{version}" if version else name
