"""Webhooks of GitLab: how they prove who sent them, and what they tell of pushes, tags and merge requests.

With a signing token (`whsec_…`) GitLab signs as Standard Webhooks have it: HMAC-SHA256 of `ID.TIMESTAMP.BODY`. With the
older secret token it only sends that along. Which of them a source has decides what is asked for: whoever knows one
does not get through with the other.
"""

import base64
import binascii
import datetime as dt
import hashlib
import hmac

import msgspec

from tidewaiter.core import clock, limits
from tidewaiter.core.errors import UndeterminedError
from tidewaiter.pipelines.triggers.told import Ignored, Told, deleted, malformed, page, plain

TOKEN = "x-gitlab-token"  # noqa: S105  # name of a header
EVENT = "x-gitlab-event"
DELIVERIES = ("webhook-id", "idempotency-key", "x-gitlab-event-uuid")
"""Headers with a delivery's name, the one that is signed first."""
_SIGNING = "whsec_"
_SIGNATURES = 10
_OPENED = frozenset({"open", "reopen"})


class Headers(msgspec.Struct, frozen=True):
    """What proves who sent a delivery."""

    token: str = ""
    identity: str = ""
    timestamp: str = ""
    signatures: str = ""


class _Project(msgspec.Struct):
    path_with_namespace: str


class _Author(msgspec.Struct):
    name: str = ""


class _Commit(msgspec.Struct):
    id: str
    url: str = ""
    author: _Author | None = None


class _Kind(msgspec.Struct):
    object_kind: str = ""
    event_name: str = ""


class _Push(msgspec.Struct):
    ref: str
    after: str
    project: _Project
    checkout_sha: str | None = None
    user_username: str = ""
    user_name: str = ""
    commits: list[_Commit] = []


class _User(msgspec.Struct):
    username: str = ""


class _Change(msgspec.Struct):
    source_branch: str
    source_project_id: int
    target_project_id: int
    last_commit: _Commit
    action: str = ""
    oldrev: str | None = None
    url: str = ""


class _MergeRequest(msgspec.Struct):
    project: _Project
    object_attributes: _Change
    user: _User | None = None


def signed(secret: str) -> bool:
    """Whether deliveries are signed: the source has a signing token."""
    return secret.startswith(_SIGNING)


def holds(secret: str, body: bytes, headers: Headers, now: dt.datetime) -> bool:
    """Whether the headers prove that whoever knows the secret sent the body, and, when it is signed, just now.

    The work is the same for every kind of secret and every answer: how long it takes tells nothing of a source.

    Raises `UndeterminedError`: the signing token is malformed.
    """
    is_token = hmac.compare_digest(secret.encode(), headers.token.encode())
    try:
        key = base64.b64decode(secret.removeprefix(_SIGNING), validate=True) if signed(secret) else secret.encode()
    except (binascii.Error, ValueError) as error:
        raise UndeterminedError(
            "the signing token of a source is malformed", next_step="Copy it from GitLab again, with whsec_."
        ) from error
    told = b"%b.%b.%b" % (headers.identity.encode(), headers.timestamp.encode(), body)
    made = b"v1," + base64.b64encode(hmac.digest(key, told, hashlib.sha256))
    given = headers.signatures.split(" ")[:_SIGNATURES]
    holding = any([hmac.compare_digest(made, one.encode()) for one in given])  # noqa: C419  # all, in the same time
    if not signed(secret):
        return is_token
    return holding and bool(headers.identity) and _is_of_now(headers.timestamp, now)


def _is_of_now(timestamp: str, now: dt.datetime) -> bool:
    try:
        sent = clock.from_epoch(int(timestamp))
    except (ValueError, OverflowError, OSError):
        return False
    return abs((now - sent).total_seconds()) <= limits.HOOK_SKEW_SECONDS


def read(event: str, body: bytes) -> Told | Ignored:
    """What the event tells. Raises `InputError`: the body is none of that event."""
    try:
        said = msgspec.json.decode(body, type=_Kind)
        kind = said.object_kind or said.event_name
        if kind in {"push", "tag_push"}:
            return _pushed(kind, msgspec.json.decode(body, type=_Push))
        if kind == "merge_request":
            return _asked_for(msgspec.json.decode(body, type=_MergeRequest))
    except (ValueError, RecursionError) as error:
        raise malformed("GitLab", error) from error
    return Ignored(f"events of the type {plain(kind or event)[:60] or '?'} make no runs", plain(kind)[:60])


def _pushed(kind: str, push: _Push) -> Told | Ignored:
    if deleted(push.after):
        return Ignored("the branch or tag was deleted", kind)
    # `after` of an annotated tag is the tag, not its commit.
    commit = push.checkout_sha or push.after
    last = next((one for one in push.commits if one.id == commit), None)
    return Told(
        kind="tag" if kind == "tag_push" else "push",
        project=push.project.path_with_namespace,
        ref=push.ref,
        commit=commit,
        author=plain(last.author.name if last is not None and last.author else push.user_name),
        by=plain(push.user_username or push.user_name),
        url=page(last.url if last is not None else ""),
    )


def _asked_for(event: _MergeRequest) -> Told | Ignored:
    change = event.object_attributes
    if change.action not in _OPENED and not (change.action == "update" and change.oldrev):
        return Ignored("the merge request has no new commits", "merge_request")
    return Told(
        kind="merge_request",
        project=event.project.path_with_namespace,
        ref=f"refs/heads/{change.source_branch}",
        commit=change.last_commit.id,
        author=plain(change.last_commit.author.name if change.last_commit.author else ""),
        by=plain(event.user.username if event.user else ""),
        url=page(change.url),
        foreign=change.source_project_id != change.target_project_id,
    )
