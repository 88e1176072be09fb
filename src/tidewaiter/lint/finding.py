"""What a rule found, where, and what would mend it."""

from typing import Literal, get_args

import msgspec

Severity = Literal["error", "warning", "info"]
SEVERITIES: tuple[Severity, ...] = get_args(Severity)
"""From the worst on."""


class Span(msgspec.Struct, frozen=True, order=True):
    """A part of a text. Lines and columns count from 1, columns in characters; the end is behind the last one."""

    line: int
    column: int
    end_line: int
    end_column: int


class Edit(msgspec.Struct, frozen=True):
    """Characters in the place of others; an empty span inserts."""

    span: Span
    text: str


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """What the function of a rule says; the rule's own words are added to it."""

    span: Span
    message: str
    """What is wrong here, one sentence with the names in question."""
    remedy: str
    """What to write instead, as concrete as can be."""
    edits: tuple[Edit, ...] = ()
    """What mends it by itself without changing what works; empty when a person must decide."""
    left: str = ""
    """Why a rule that `--fix` mends has no edits here."""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One mistake in one place."""

    rule: str
    severity: Severity
    path: str
    """As given, or found below what was given; with forward slashes."""
    span: Span
    message: str
    why: str
    remedy: str
    edits: tuple[Edit, ...] = ()
    left: str = ""
    """Why `--fix` leaves it to a person; empty when it mends it, and for rules that it mends nowhere."""
    ignored: str | None = None
    """Why somebody wants it left as it is; None when it counts."""
    ignored_by: Literal["comment", "project"] | None = None
    """Where that is said: in the file, or in `[[lint.ignore]]`."""

    @property
    def order(self) -> tuple[str, Span, str]:
        return self.path, self.span, self.rule
