"""Webhooks of GitHub: their signature, and what they tell of pushes, tags and pull requests.

The signature is HMAC-SHA256 of the body alone. It covers neither the delivery's name nor a time, so that a body counts
once, whatever name it comes under, and only as long as bodies are remembered: it says itself when it was made.
"""

import datetime as dt
import hashlib
import hmac

import msgspec

from tidewaiter.core import clock
from tidewaiter.pipelines.triggers.told import Ignored, Told, deleted, malformed, page, plain

SIGNATURE = "x-hub-signature-256"
EVENT = "x-github-event"
DELIVERY = "x-github-delivery"
_PULL_REQUEST = frozenset({"opened", "reopened", "synchronize"})


class _Person(msgspec.Struct):
    name: str = ""
    login: str = ""


class _Repository(msgspec.Struct):
    full_name: str
    fork: bool = False
    pushed_at: int | str | None = None
    """Seconds in events of pushes, a time as text in others."""


class _Commit(msgspec.Struct):
    id: str
    url: str = ""
    author: _Person | None = None


class _Push(msgspec.Struct):
    ref: str
    after: str
    repository: _Repository
    deleted: bool = False
    head_commit: _Commit | None = None
    sender: _Person | None = None


class _End(msgspec.Struct):
    ref: str
    sha: str
    repo: _Repository | None = None
    """Null when the fork was deleted."""


class _PullRequest(msgspec.Struct):
    head: _End
    base: _End
    html_url: str = ""
    updated_at: str = ""
    user: _Person | None = None


class _PullRequestEvent(msgspec.Struct):
    action: str
    pull_request: _PullRequest
    repository: _Repository
    sender: _Person | None = None


def holds(secret: str, body: bytes, header: str) -> bool:
    """Whether the header `X-Hub-Signature-256` is of the body; the older header with SHA-1 does not count."""
    kind, _, given = header.partition("=")
    made = hmac.digest(secret.encode(), body, hashlib.sha256).hex()
    return kind == "sha256" and hmac.compare_digest(made.encode(), given.encode())


def read(event: str, body: bytes) -> Told | Ignored:
    """What the event tells. Raises `InputError`: the body is none of that event."""
    try:
        if event == "push":
            return _pushed(msgspec.json.decode(body, type=_Push))
        if event == "pull_request":
            return _asked_for(msgspec.json.decode(body, type=_PullRequestEvent))
    except (ValueError, RecursionError) as error:
        raise malformed("GitHub", error) from error
    return Ignored("pong" if event == "ping" else f"events of the type {plain(event)[:60]} make no runs", event)


def _pushed(push: _Push) -> Told | Ignored:
    if push.deleted or deleted(push.after):
        return Ignored("the branch or tag was deleted", "push")
    head = push.head_commit
    tag = push.ref.startswith("refs/tags/")
    return Told(
        kind="tag" if tag else "push",
        project=push.repository.full_name,
        ref=push.ref,
        # `after` of an annotated tag is the tag, not its commit.
        commit=head.id if head is not None and tag else push.after,
        author=plain(head.author.name if head is not None and head.author else ""),
        by=plain(push.sender.login if push.sender else ""),
        url=page(head.url if head is not None else ""),
        at=_moment(push.repository.pushed_at),
    )


def _asked_for(event: _PullRequestEvent) -> Told | Ignored:
    if event.action not in _PULL_REQUEST:
        return Ignored(f"the pull request was {plain(event.action)[:40]}", "pull_request")
    change = event.pull_request
    theirs = change.head.repo
    return Told(
        kind="merge_request",
        project=event.repository.full_name,
        ref=f"refs/heads/{change.head.ref}",
        commit=change.head.sha,
        author=plain(change.user.login if change.user else ""),
        by=plain(event.sender.login if event.sender else ""),
        url=page(change.html_url),
        foreign=theirs is None or theirs.full_name.lower() != event.repository.full_name.lower(),
        at=_moment(change.updated_at),
    )


def _moment(said: int | str | None) -> dt.datetime | None:
    try:
        return clock.from_epoch(said) if isinstance(said, int) else clock.parse_rfc3339(said or "")
    except (ValueError, OverflowError, OSError):
        return None
