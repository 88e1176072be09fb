"""Control paragraphs and relation fields (Debian Policy, chapters 5 and 7)."""

import re
from collections.abc import Mapping
from typing import cast

import msgspec

from tidewaiter.core.errors import InputError
from tidewaiter.sbom.versions import dpkg

_FIELD = re.compile(r"([!-9;-~]+):(.*)")
_RELATION = re.compile(r"([a-z0-9][a-z0-9+.-]+)(?::[a-z0-9-]+)?\s*(?:\(\s*(<<|<=|=|>=|>>)\s*([^\s)]+)\s*\))?")
_NAME = re.compile(r"[a-z0-9][a-z0-9+.-]+")

_NEXT = "Fetch it again from a trusted archive; if it stays so, do not use this package."


class Relation(msgspec.Struct, frozen=True):
    """One alternative of a dependency: a package name, and perhaps a bound on its version."""

    name: str
    operator: dpkg.Relation | None = None
    version: str = ""

    def accepts(self, version: str) -> bool:
        """Whether a package of this `version` satisfies the bound."""
        return self.operator is None or dpkg.satisfies(version, self.operator, self.version)

    def __str__(self) -> str:
        return f"{self.name} ({self.operator} {self.version})" if self.operator else self.name


def paragraph(text: str, *, source: str) -> dict[str, str]:
    """Fields of one control paragraph by lower-case name; continuation lines keep their line breaks.

    Raises:
        InputError: a line is no field, or a field comes twice; the message names `source`.
    """
    fields: dict[str, list[str]] = {}
    name = ""
    for line in text.strip("\n").split("\n"):
        if line[:1] in {" ", "\t"} and name:
            fields[name].append(line.strip())
            continue
        match = _FIELD.fullmatch(line)
        if not match or match[1].lower() in fields:
            raise InputError(f"{source}: {line[:80]!r} is no field of a control paragraph", next_step=_NEXT)
        name = match[1].lower()
        fields[name] = [match[2].strip()]
    return {name: "\n".join(lines) for name, lines in fields.items()}


def required(fields: Mapping[str, str], name: str, *, source: str) -> str:
    """The value of a field that must be there and not be empty; raises `InputError` naming `source`."""
    value = fields.get(name, "")
    if not value:
        raise InputError(f"{source}: the field {name} is missing", next_step=_NEXT)
    return value


def package_name(fields: Mapping[str, str], *, source: str) -> str:
    """The package's name when it is one by Policy 5.6.1: it becomes part of paths; raises `InputError`."""
    name = required(fields, "package", source=source)
    if not _NAME.fullmatch(name):
        raise InputError(f"{source}: {name[:80]!r} is no package name", next_step=_NEXT)
    return name


def relations(text: str, *, source: str) -> tuple[tuple[Relation, ...], ...]:
    """A relation field: all of the outer groups, one alternative of each; raises `InputError`."""
    groups = []
    for group in text.replace("\n", " ").split(","):
        if not group.strip():
            continue
        alternatives = []
        for item in group.split("|"):
            match = _RELATION.fullmatch(item.strip())
            if not match:
                raise InputError(f"{source}: {item.strip()[:80]!r} is no package relation", next_step=_NEXT)
            alternatives.append(Relation(match[1], cast("dpkg.Relation | None", match[2]), match[3] or ""))
        groups.append(tuple(alternatives))
    return tuple(groups)
