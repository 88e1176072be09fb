"""Blobs of a repository: asked for, sent whole or in part, deleted."""

import asyncio
import contextlib
import os
import re
from collections.abc import Iterator
from typing import NamedTuple

from tidewaiter.access.roles import Permission, project_of
from tidewaiter.core import limits
from tidewaiter.core.errors import UndeterminedError
from tidewaiter.gate import refusals
from tidewaiter.gate.refusals import RefusalError
from tidewaiter.gate.registry import Registry
from tidewaiter.gate.request import Request, Target
from tidewaiter.oci.digest import Digest
from tidewaiter.oci.manifest import Descriptor

_RANGE = re.compile(r"bytes=(?:(\d{1,18})-(\d{1,18})?|-(\d{1,18}))")
OCTETS = "application/octet-stream"


class Span(NamedTuple):
    """Bytes `first` to `end`, which is not one of them."""

    first: int
    end: int


def span(header: str | None, size: int) -> Span | None:
    """What a `Range` header asks for (RFC 9110); None for the whole, also when it is not understood.

    Raises:
        RefusalError: nothing of the blob lies there.
    """
    found = _RANGE.fullmatch(header or "")
    if found is None:
        return None
    first, last, suffix = found.groups()
    if suffix is not None:
        asked = Span(max(0, size - int(suffix)), size)
    else:
        asked = Span(int(first), size if last is None else min(size, int(last) + 1))
        if last is not None and int(last) < int(first):
            return None
    if asked.first >= asked.end:
        raise RefusalError(
            "SIZE_INVALID", "the blob has no such range", status=416, headers={"Content-Range": f"bytes */{size}"}
        )
    return asked


async def fetch(registry: Registry, request: Request, target: Target) -> None:
    """GET and HEAD: a blob that the repository has.

    To whoever may not push there it shows once a visible manifest names it.
    """
    digest = Digest(target.last)
    # A pass for pulling limits what is done, not what its owner may see.
    shown = not request.identity.may(Permission.IMAGE_PUSH, project_of(target.repository))
    size = await registry.run(lambda: registry.catalog.blob(target.repository, digest, shown=shown))
    if size is None:
        if request.identity.kind == "anonymous":
            raise refusals.unauthorized(request.challenge)  # to somebody it may show; whether it is there is not said
        raise RefusalError("BLOB_UNKNOWN", f"{target.repository} has no blob {digest}")
    etag = f'"{digest}"'
    headers = {"Accept-Ranges": "bytes", "Docker-Content-Digest": digest, "ETag": etag, "Content-Type": OCTETS}
    headers["Cache-Control"] = "private, max-age=31536000, immutable"
    if request.headers.get("if-none-match") == etag:
        await request.start(304, headers)
        await request.piece(b"", more=False)
        return
    if request.method == "HEAD":
        await request.start(200, headers | {"Content-Length": str(size)})
        await request.piece(b"", more=False)
        return
    part = span(request.headers.get("range"), size)
    first, end = part or Span(0, size)
    if part is not None:
        headers["Content-Range"] = f"bytes {first}-{end - 1}/{size}"
    try:
        handle = await registry.run(os.open, registry.store.blob_path(digest), os.O_RDONLY | os.O_NOFOLLOW)
    except FileNotFoundError as error:
        if registry.upstream is not None:
            headers.pop("Content-Range", None)
            blob = Descriptor(media_type=OCTETS, digest=digest, size=size)
            await _relay(registry.upstream.pieces(target.repository, blob), registry, request, headers, size)
            return
        raise RefusalError("UNAVAILABLE", f"the blob {digest} is missing from the store") from error
    try:
        await request.start(206 if part else 200, headers | {"Content-Length": str(end - first)})
        await _send(registry, request, handle, first, end)
    finally:
        os.close(handle)


async def _relay(
    pieces: Iterator[bytes], registry: Registry, request: Request, headers: dict[str, str], size: int
) -> None:
    """Hand on what arrives, always the whole; the last piece is held back until all of it is known to be right.

    What fails before there is more than a piece is an error; later the connection breaks, whose length was said.
    """
    coming = registry.far(next, pieces, None)
    try:
        held = await coming or b""
        coming = registry.far(next, pieces, None)
        following = await coming
        await request.start(200, headers | {"Content-Length": str(size)})
        while following is not None:
            coming = registry.far(next, pieces, None)
            await request.piece(held, more=True)
            held, following = following, await coming
        await request.piece(held, more=False)
    finally:
        if not coming.done():
            await asyncio.wait([coming])  # it is in use in a thread until then
        with contextlib.suppress(UndeterminedError):
            await registry.far(_end, pieces)


def _end(pieces: Iterator[bytes]) -> None:
    close = getattr(pieces, "close", None)
    if close is not None:
        close()


async def _send(registry: Registry, request: Request, handle: int, first: int, end: int) -> None:
    """Send a part of a file; the next piece is read while one is sent."""
    coming = registry.begin(os.pread, handle, min(limits.GATE_PIECE_BYTES, end - first), first)
    try:
        while True:
            piece = await coming
            first += len(piece)
            if first >= end or not piece:  # a file that ended too soon breaks the connection, whose length was said
                await request.piece(piece, more=False)
                return
            coming = registry.begin(os.pread, handle, min(limits.GATE_PIECE_BYTES, end - first), first)
            await request.piece(piece, more=True)
    finally:
        if not coming.done():
            await coming  # nobody closes the file under a thread that reads it


async def remove(registry: Registry, request: Request, target: Target) -> None:
    """DELETE: the repository has the blob no more; others that have it keep it."""
    digest = Digest(target.last)
    if not await registry.run(lambda: registry.catalog.remove_blob(target.repository, digest)):
        raise RefusalError("BLOB_UNKNOWN", f"{target.repository} has no blob {digest}")
    await request.answer(202)
