"""One package in an image: the value that catalogers make and everything above reads."""

from typing import Literal

import msgspec

Kind = Literal["deb", "apk", "python", "conda", "npm", "golang", "cargo", "maven", "model", "os"]


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
    install: Literal["", "editable", "vendored"] = ""
    """Of a Python distribution: its code lies elsewhere, or it is a copy inside another one."""
    requires: tuple[str, ...] = ()
    """purls of the components of the same image that this one needs."""


def component_key(component: Component) -> tuple[str, str]:
    """Sort key: purl, then location."""
    return component.purl, component.location
