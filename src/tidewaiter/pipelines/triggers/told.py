"""What a code host told of a commit, whichever host it was."""

import datetime as dt
from typing import Literal

import msgspec

from tidewaiter.core.errors import InputError

NOTHING = "0" * 40
_TEXT = 300


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """A commit that came to be at the tip of a branch, tag or merge request."""

    kind: Literal["push", "tag", "merge_request"]
    project: str
    """Path of the repository on its host."""
    ref: str
    commit: str
    author: str
    by: str
    """Who pushed."""
    url: str
    """Page of the commit or merge request."""
    foreign: bool = False
    """It is of a fork: whoever made it may not push to the repository."""
    at: dt.datetime | None = None
    """When it was sent, as far as the payload says."""


class Ignored(msgspec.Struct, frozen=True):
    """Something that makes no run, and why."""

    reason: str
    event: str


def plain(text: str) -> str:
    """A name or address from a payload, for logs and pages: one line, not too long."""
    return "".join(c for c in text if c.isprintable())[:_TEXT]


def page(text: str) -> str:
    """An address from a payload, when a page may link to it; else nothing."""
    return plain(text) if text.startswith(("https://", "http://")) and len(text) <= _TEXT else ""


def deleted(commit: str) -> bool:
    """Whether a hash says that there is nothing any more."""
    return not commit.strip("0")


def malformed(host: str, error: Exception) -> InputError:
    """The error for a payload that is not what the host sends."""
    return InputError(
        f"the body is no event of {host}: {error}"[:300], next_step="See what the host's log of webhooks shows."
    )
