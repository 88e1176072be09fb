"""How version numbers of an ecosystem compare."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from packaging.version import InvalidVersion, Version

from tidewaiter.advisories.advisory import RangeKind
from tidewaiter.core.errors import InputError
from tidewaiter.sbom.versions import apk as apk_versions
from tidewaiter.sbom.versions import dpkg
from tidewaiter.sbom.versions import maven as maven_versions
from tidewaiter.sbom.versions import rpm as rpm_versions
from tidewaiter.sbom.versions import semver as semver_versions

Key = Any
"""Something that compares with other keys of the same order: a `Version`, or tuples of one shape."""

Order = Callable[[str], Key]
"""Key of a version text; raises `ValueError` when the text is no version of this order."""

_REMEMBERED = 100_000


@lru_cache(_REMEMBERED)
def pep440(text: str) -> Key:
    """Key by PEP 440 (packaging's)."""
    try:
        return Version(text)
    except InvalidVersion as error:
        raise ValueError(f"{text[:100]!r} is no PEP 440 version") from error


@lru_cache(_REMEMBERED)
def debian(text: str) -> Key:
    """Key by deb-version(7)."""
    try:
        return dpkg.key(text)
    except InputError as error:
        raise ValueError(error.message) from error


apk: Order = lru_cache(_REMEMBERED)(apk_versions.key)
rpm: Order = lru_cache(_REMEMBERED)(rpm_versions.key)
maven: Order = lru_cache(_REMEMBERED)(maven_versions.Key)
semver: Order = lru_cache(_REMEMBERED)(semver_versions.key)
go: Order = lru_cache(_REMEMBERED)(semver_versions.go_key)

_SEMANTIC: dict[str, Order] = {"npm": semver, "crates.io": semver, "Go": go}
_ORDERS: dict[str, Order] = {
    "PyPI": pep440,
    **dict.fromkeys(("Debian", "Ubuntu"), debian),
    **dict.fromkeys(("Alpine", "Chainguard", "Wolfi"), apk),
    **dict.fromkeys(
        ("AlmaLinux", "Azure Linux", "Mageia", "Photon OS", "Red Hat", "Rocky Linux", "SUSE", "openEuler", "openSUSE"),
        rpm,
    ),
    "Maven": maven,
    **_SEMANTIC,
}


def order_of(family: str, kind: RangeKind) -> Order | None:
    """The order that a range of `kind` uses in the ecosystem `family`; None when it is not known here."""
    return _SEMANTIC.get(family, semver) if kind == "SEMVER" else _ORDERS.get(family)


def release_of(family: str, text: str) -> str:
    """The release that a rebuild carries: `2.11.0` for PyPI's `2.11.0+cpu` (a local version), else `text`."""
    return text.partition("+")[0] if family == "PyPI" else text
