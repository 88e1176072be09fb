"""The order of Debian package versions (Debian Policy 5.6.12, deb-version(7)).

A version is `[epoch:]upstream[-revision]`. Upstream and revision are read as alternating runs of non-digits and
digits; `~` sorts before everything, the end of the string included, then letters, then all other characters.
"""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

from tidewaiter.core.errors import InputError

Key = tuple[int, tuple[int | tuple[int, ...], ...], tuple[int | tuple[int, ...], ...]]
"""Compares as dpkg compares: epoch, upstream, revision."""

Relation = Literal["<<", "<=", "=", ">=", ">>"]

_RUNS = re.compile(r"(\D*)(\d*)", re.ASCII)
_EPOCH = re.compile(r"\d+", re.ASCII)
_UPSTREAM = re.compile(r"[A-Za-z0-9.+~:-]+")
_REVISION = re.compile(r"[A-Za-z0-9.+~]+")
_LONGEST = 1000
_END = 0
_RELATIONS: Mapping[Relation, tuple[int, ...]] = MappingProxyType(
    {"<<": (-1,), "<=": (-1, 0), "=": (0,), ">=": (0, 1), ">>": (1,)}
)


def _order(character: str) -> int:
    if character == "~":
        return -1
    code = ord(character)
    return code if character.isalpha() else code + 256


def _part(text: str) -> tuple[int | tuple[int, ...], ...]:
    # Every run of non-digits ends with _END, which sorts between `~` and the letters: a digit, and the end of the
    # text, stand there. Only the first run can be empty, so the closing pair means the same wherever it comes.
    parts: list[int | tuple[int, ...]] = []
    for match in _RUNS.finditer(text):
        if not match[0]:
            break
        parts.append((*(_order(character) for character in match[1]), _END))
        parts.append(int(match[2] or "0"))
    parts.append((_END,))
    return tuple(parts)


def key(version: str) -> Key:
    """Sort key of `version`; equal keys are equal versions (`1.0` and `0:1.0-0` are).

    Raises:
        InputError: the text is no Debian version.
    """
    text = version.strip()
    head, colon, rest = text.partition(":")
    epoch, rest = (head, rest) if colon else ("0", text)
    upstream, dash, revision = rest.rpartition("-")
    if not dash:
        upstream, revision = rest, "0"
    if (
        len(text) > _LONGEST
        or not _EPOCH.fullmatch(epoch)
        or not _UPSTREAM.fullmatch(upstream)
        or not _REVISION.fullmatch(revision)
    ):
        raise InputError(
            f"{version[:100]!r} is not a Debian version",
            next_step="A Debian version is [epoch:]upstream[-revision], see deb-version(7).",
            code="bad_version",
        )
    return int(epoch), _part(upstream), _part(revision)


def compare(left: str, right: str) -> int:
    """-1, 0 or 1 as `left` is older than, equal to or newer than `right`; raises `InputError` as `key` does."""
    one, other = key(left), key(right)
    return (one > other) - (one < other)


def satisfies(version: str, relation: Relation, wanted: str) -> bool:
    """Whether `version relation wanted` holds, as in a Depends field; raises `InputError` as `key` does."""
    return compare(version, wanted) in _RELATIONS[relation]
