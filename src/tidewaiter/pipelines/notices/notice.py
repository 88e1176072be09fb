"""A notice: a few lines for people. Everything in it that came from outside is made harmless here, once."""

import unicodedata
from typing import Literal

import msgspec

from tidewaiter.core.settings.notices import About

_LINE_CHARACTERS = 300

Level = Literal["info", "warning", "error"]


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """What is told: a title, lines, and where to read more."""

    about: About | Literal["test"]
    level: Level
    title: str
    lines: tuple[str, ...] = ()
    url: str = ""
    """Page of the server, when its public address is known."""
    time: str
    """RFC 3339 in UTC: when it happened."""
    subject: str
    """To what: a digest, a waiver, a run, an advisory."""


class Heard(msgspec.Struct, frozen=True, kw_only=True):
    """A notice, and the events that it tells of."""

    notice: Notice
    key: str
    """The same for what is the same news."""
    event: str
    type: str


def plain(text: str, characters: int = _LINE_CHARACTERS) -> str:
    """`text` on one line, without characters that show nothing or turn what follows around, cut when it is long."""
    line = " ".join(text.split())
    shown = "".join("\ufffd" if unicodedata.category(one)[0] == "C" else one for one in line)
    return shown if len(shown) <= characters else shown[: characters - 1] + "…"
