"""One package in an image: the value that catalogers make and everything above reads."""

from typing import Literal

import msgspec

Kind = Literal["deb", "apk", "rpm", "python", "conda", "npm", "golang", "cargo", "maven", "gem", "model", "os", "other"]
"""`other` occurs only in SBOM documents of other programs: a package of an ecosystem that is not inspected here."""

Install = Literal["", "editable", "vendored"]


class Component(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A package version, named by its purl.

    `ecosystem` is the name that OSV uses (`PyPI`, `Debian:12`), so that coverage can be looked up by it.
    """

    kind: Kind
    name: str
    version: str
    purl: str
    ecosystem: str
    source_name: str = ""
    """Source package (distributions match advisories by it); empty when it is `name`."""
    source_version: str = ""
    licenses: tuple[str, ...] = ()
    """SPDX expressions where the text is one, else the raw text as found."""
    supplier: str = ""
    description: str = ""
    location: str = ""
    """Path in the image of the metadata that names the package."""
    layer: str = ""
    """Diff ID of the layer that put it there."""
    install: Install = ""
    """Of a Python distribution: its code lies elsewhere, or it is a copy inside another one."""
    requires: tuple[str, ...] = ()
    """purls of the components of the same image that this one needs."""
    hashes: tuple[str, ...] = ()
    """`ALGORITHM:HEX` of what was installed, as the package's own metadata gives it (`sha256:…`, `sha1:…`)."""
    size: int = 0
    """Unpacked bytes of its files in the image, as far as its metadata lists them."""
    files: int = 0
    """Number of these files."""


def component_key(component: Component) -> tuple[str, str]:
    """Sort key: purl, then location."""
    return component.purl, component.location
