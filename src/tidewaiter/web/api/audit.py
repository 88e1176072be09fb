"""The log of what was changed, by whom: entries, the proof that one is in it, and the log itself."""

import base64
from typing import Annotated, Any

import msgspec
from fastapi import Response
from msgspec import Meta

from tidewaiter.access.roles import Permission
from tidewaiter.core import limits, moments
from tidewaiter.pipelines.audit import auditing
from tidewaiter.signing.tlog import merkle, tiles
from tidewaiter.web.api import fields
from tidewaiter.web.api.paging import Paging, cursor, row_number
from tidewaiter.web.api.route import Ask, Page, Routes

ROUTES = Routes("audit")
_READ = Permission.AUDIT_READ


class AuditEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of the log."""

    position: int
    time: str
    actor: str
    action: str
    subject: str
    """What it was done to: mostly a digest, or `NAME:TAG`."""
    detail: dict[str, Any] = {}
    document: str = ""
    """Digest of the document that has the detail, when it is long."""


class EntriesQuery(Paging, frozen=True, kw_only=True):
    """Which entries."""

    subject: Annotated[
        str,
        Meta(
            max_length=limits.API_NAME_CHARACTERS,
            description="Only those about this digest, NAME:TAG, waiver or base.",
        ),
    ] = ""
    action: Annotated[
        str, Meta(max_length=100, description="Only this action, or with a dot at the end all that begin with it.")
    ] = ""
    since: fields.Moment = ""


@ROUTES.get("/audit/entries", permission=_READ)
def list_audit_entries(ask: Ask, query: EntriesQuery) -> Page[AuditEntry]:
    """Entries, the latest first. What was done a moment ago may still wait for its position."""
    before = row_number(query.after)
    with ask.source.workshop() as shop:
        found = auditing.listed(
            shop,
            subject=query.subject,
            action=query.action,
            since=moments.begin(query.since) if query.since else None,
            rows=query.limit + 1,
            before=before,
        )
    items = tuple(
        AuditEntry(
            position=at,
            time=entry.time,
            actor=entry.actor,
            action=entry.action,
            subject=entry.subject,
            detail=entry.detail,
            document=entry.document,
        )
        for at, entry in reversed(found)
    )
    more = len(items) > query.limit
    return Page(items[: query.limit], cursor((items[query.limit - 1].position,)) if more else None)


class EntryPath(msgspec.Struct, frozen=True):
    """Which entry."""

    position: Annotated[int, Meta(ge=0, le=2**63 - 1, description="Its position, from 0.")]


class ProofAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """That an entry is in the log, for somebody who has nothing but the log's public key."""

    position: int
    entry: str | None
    """The entry as it was hashed, in Base64; null when it was exported and dropped."""
    leaf_hash: str | None
    """In hex."""
    hashes: tuple[str, ...]
    """Of the way up the tree, in Base64."""
    checkpoint: str
    """The signed note that the hashes lead to."""
    proof: str
    """All of it in the format of C2SP tlog-proof."""


@ROUTES.get("/audit/entries/{position}/proof", permission=_READ)
def prove_audit_entry(ask: Ask, path: EntryPath) -> ProofAnswer:
    """The proof that an entry is in the log."""
    with ask.source.workshop() as shop:
        proof = auditing.prove(shop, path.position, key="")
    extra = proof.extra
    return ProofAnswer(
        position=proof.index,
        entry=None if extra is None else base64.b64encode(extra).decode(),
        leaf_hash=None if extra is None else merkle.leaf_hash(extra).hex(),
        hashes=tuple(base64.b64encode(one).decode() for one in proof.hashes),
        checkpoint=proof.checkpoint.decode(),
        proof=proof.encode().decode(),
    )


@ROUTES.get("/audit/checkpoint", permission=_READ, media_type="text/plain", errors=(404,))
def show_audit_checkpoint(ask: Ask) -> Response:
    """The log's last checkpoint: a signed note (C2SP tlog-checkpoint)."""
    with ask.source.workshop() as shop:
        return Response(auditing.checkpoint_of(shop), media_type="text/plain")


class TilePath(msgspec.Struct, frozen=True):
    """Which tile."""

    level: Annotated[str, Meta(pattern=r"^(?:entries|[0-9]|[1-5][0-9]|6[0-3])\Z", description="0 to 63, or `entries`.")]
    index: Annotated[int, Meta(ge=0, lt=2**48, description="Which of that level, from 0.")]


class TileQuery(msgspec.Struct, frozen=True):
    """How much of it."""

    width: Annotated[int, Meta(ge=1, le=tiles.WIDTH, description="Hashes or entries in it.")] = tiles.WIDTH


@ROUTES.get("/audit/tiles/{level}/{index}", permission=_READ, media_type="application/octet-stream")
def download_audit_tile(ask: Ask, path: TilePath, query: TileQuery) -> Response:
    """A tile of the log's hashes, or a bundle of its entries (C2SP tlog-tiles)."""
    level = None if path.level == "entries" else int(path.level)
    with ask.source.workshop() as shop:
        data = auditing.tile(shop, level, path.index, query.width)
    return Response(data, media_type="application/octet-stream")
