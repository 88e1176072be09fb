"""What a waiver is about and where it holds: names of images, packages and their versions."""

import re
from functools import lru_cache

import msgspec
from packageurl import PackageURL

from tidewaiter.advisories.names import normalise
from tidewaiter.advisories.versions import order_of, release_of
from tidewaiter.core.project import Environment

EVERYTHING = "**"
"""Image pattern that fits every repository."""


class Scope(msgspec.Struct, frozen=True, kw_only=True):
    """What a waiver is about, and where it holds. Exactly one of `advisory` and `rule` is not empty."""

    environments: tuple[Environment, ...]
    advisory: str = ""
    """Its id, or any of its aliases."""
    rule: str = ""
    package: str = ""
    """Package URL without a version; empty for any package."""
    versions: str = ""
    """For example `>=2.10,<2.12`, by the order of the package's ecosystem; empty for any version."""
    image: str = EVERYTHING
    """Pattern of repository names: `*` stands for anything within a part, `**` for anything."""


# Versions

ECOSYSTEMS = {
    "pypi": "PyPI",
    "deb": "Debian",
    "apk": "Alpine",
    "rpm": "Red Hat",
    "npm": "npm",
    "golang": "Go",
    "cargo": "crates.io",
    "maven": "Maven",
}
"""A family with the order of versions that packages of a package URL's type have."""
_BOUND = re.compile(r"(<=|>=|==|!=|<|>)\s*([^\s<>=!,]{1,200})")


@lru_cache(1000)
def bounds(versions: str) -> tuple[tuple[str, str], ...]:
    """Operator and version of each part; raises `ValueError`."""
    found = []
    for part in versions.split(","):
        match = _BOUND.fullmatch(part.strip())
        if match is None:
            raise ValueError(f"{part.strip()[:100]!r} is no bound")
        found.append((match[1], match[2]))
    return tuple(found)


def within(version: str, versions: str, ecosystem: str) -> bool:
    """Whether every bound holds; raises `ValueError` when a version is none in this ecosystem."""
    order = order_of(ecosystem, "ECOSYSTEM")
    if order is None:
        raise ValueError(f"versions of {ecosystem or 'this kind of package'} cannot be compared")
    for operator, bound in bounds(versions):
        # A rebuild (`2.11.0+cpu`) is its release, unless the bound itself names a rebuild.
        exact = release_of(ecosystem, bound) != bound
        left, right = order(version if exact else release_of(ecosystem, version)), order(bound)
        holds = {
            "<": left < right,
            "<=": left <= right,
            ">": left > right,
            ">=": left >= right,
            "==": left == right,
            "!=": left != right,
        }
        if not holds[operator]:
            return False
    return True


@lru_cache(10_000)
def package(purl: str) -> tuple[str, str, str]:
    """Type, namespace and normalised name; raises `ValueError`."""
    found = PackageURL.from_string(purl)
    return found.type, found.namespace or "", normalise(ECOSYSTEMS.get(found.type, ""), found.name)


# Names of images

_STARS = re.compile(r"\*+")


@lru_cache(10_000)
def fits_name(pattern: str, name: str) -> bool:
    """Whether the whole repository `name` is as `pattern` says. An image without a name fits none.

    `*` stands for any characters but `/`, `**` for any characters. The time grows with the product of the lengths only.
    """
    if not name:
        return False
    parts = _STARS.split(pattern)
    stars = _STARS.findall(pattern)
    # Positions in `name` that can be reached with what was read of the pattern.
    reached = {len(parts[0])} if name.startswith(parts[0]) else set()
    for star, part in zip(stars, parts[1:], strict=True):
        after: set[int] = set()
        for start in _spread(name, reached, across=star != "*"):
            if name.startswith(part, start):
                after.add(start + len(part))
        reached = after
    return len(name) in reached


def _spread(name: str, reached: set[int], *, across: bool) -> list[int]:
    """Every position from one of `reached` on; without `across` up to the next `/`."""
    found: list[int] = []
    inside = False
    for position in range(len(name) + 1):
        inside = position in reached or (inside and (across or name[position - 1] != "/"))
        if inside:
            found.append(position)
    return found
