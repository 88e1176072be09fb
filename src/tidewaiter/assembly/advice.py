"""What the field knows about releases that cannot be resolved: a table (`advice.toml`) with sources."""

import tomllib
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import msgspec
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

_TABLE = Path(__file__).with_name("advice.toml")


class Known(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Releases of a package (with an extra) that cannot be installed, and the one that can."""

    package: str
    extra: str
    versions: tuple[str, ...]
    python: str = ""
    """Python versions concerned; all when empty."""
    instead: str
    because: str
    source: str
    """Address of the evidence."""


@cache
def table() -> tuple[Known, ...]:
    """All rows."""
    return msgspec.convert(tomllib.loads(_TABLE.read_text())["known"], tuple[Known, ...])


def _concerns(known: Known, requirement: Requirement, python: str) -> bool:
    return (
        canonicalize_name(requirement.name) == known.package
        and known.extra in {str(canonicalize_name(extra)) for extra in requirement.extras}
        and SpecifierSet(known.python).contains(python)
        and any(requirement.specifier.contains(version) for version in known.versions)
        and not requirement.specifier.contains(known.instead)
    )


def about(lines: Iterable[str], python: str) -> str:
    """What to do instead of requirements in `lines` that cannot be resolved; empty when nothing is known."""
    for line in lines:
        try:
            requirement = Requirement(line.partition(" #")[0].partition(" --hash")[0].strip())
        except InvalidRequirement:
            continue
        for known in table():
            if _concerns(known, requirement, python):
                wanted = f"{known.package}[{known.extra}]=={known.instead}"
                return f"Write {wanted}: {known.because} ({known.source})."
    return ""
