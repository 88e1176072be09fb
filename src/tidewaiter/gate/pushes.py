"""Uploads of blobs: begun, sent in one request or in many, asked about, cancelled, completed, or mounted."""

import asyncio
import re

from tidewaiter.access.roles import Permission, project_of
from tidewaiter.core import leases, limits
from tidewaiter.core.errors import InputError, NotFoundError
from tidewaiter.gate.refusals import RefusalError
from tidewaiter.gate.registry import Registry
from tidewaiter.gate.request import Request, Target
from tidewaiter.gate.terms import Terms
from tidewaiter.gate.uploads import BusyError, Upload
from tidewaiter.oci import reference as references
from tidewaiter.oci.digest import Digest

_RANGE = re.compile(r"(?:bytes )?(\d{1,18})-(\d{1,18})(?:/(?:\d{1,18}|\*))?")


def terms(registry: Registry, repository: str) -> Terms:
    """On which terms the repository takes anything; raises `RefusalError` when it takes nothing."""
    found = registry.terms_of(repository)
    if found.environment is None:
        raise RefusalError(
            "DENIED",
            f"nothing may be pushed to {repository}: the server's settings do not say which environment it is for. "
            "Ask an administrator for an [[environment]] table that names it.",
        )
    return found


async def begin(registry: Registry, request: Request, target: Target) -> None:
    """POST: mount a blob, take a whole one, or begin an upload."""
    repository = target.repository
    holds = terms(registry, repository)
    digest, mount = request.digest("digest"), request.digest("mount")
    if mount is not None and await _mounted(registry, request, repository, mount, holds):
        await _created(request, repository, mount)
        return
    room = await _room(registry, repository, holds)
    name = await registry.run(registry.uploads.begin, repository)
    if digest is None:
        await _status(request, repository, name, 0, status=202)
        return
    await _complete(registry, request, Target("upload", repository, name), digest, room)


async def _mounted(registry: Registry, request: Request, repository: str, digest: Digest, holds: Terms) -> bool:
    """Whether the blob is now in `repository`, too: it is in the one named, or any, where whoever asks may read it."""
    source = request.one("from")
    if source is not None:
        try:
            references.check_repository(source)
        except InputError as error:
            raise RefusalError("NAME_INVALID", error.message) from error

    def size_in(name: str) -> int | None:
        # Nobody asks for a pass for a repository that he does not name.
        granted = source is None or request.is_granted(Permission.IMAGE_PULL, name)
        if not granted or not request.identity.may(Permission.IMAGE_PULL, project_of(name)):
            return None
        shown = not request.identity.may(Permission.IMAGE_PUSH, project_of(name))
        return registry.catalog.blob(name, digest, shown=shown)

    def take() -> bool:
        places = [source] if source is not None else registry.catalog.holders(digest)
        size = next((found for found in map(size_in, places) if found is not None), None)
        if size is None:
            return False
        with leases.hold(registry.home):
            if not registry.store.has(digest, size):
                return False
            registry.catalog.add_blob(repository, digest, size, at_most=holds.bytes_at_most)
        return True

    return await registry.run(take)


async def _room(registry: Registry, repository: str, holds: Terms) -> int:
    """How many bytes a blob may have; raises `RefusalError` when there is no room for any."""
    if holds.bytes_at_most is None:
        return limits.GATE_BLOB_BYTES
    room = holds.bytes_at_most - await registry.run(lambda: registry.catalog.used(repository))
    if room <= 0:
        raise _full(repository, holds.bytes_at_most)
    return min(room, limits.GATE_BLOB_BYTES)


def _full(repository: str, at_most: int) -> RefusalError:
    return RefusalError(
        "DENIED", f"{repository} may hold {at_most} bytes, and this would be more. Delete what nobody needs."
    )


async def go_on(registry: Registry, request: Request, target: Target) -> None:
    """PATCH: more bytes of an upload, at the place where it is."""
    repository, name = target.repository, target.last
    room = await _room(registry, repository, terms(registry, repository))
    with await _opened(registry, repository, name) as upload:
        expected = await _expected(request, repository, name, upload)
        before = upload.length
        await _absorb(registry, request, upload, room=room, expected=expected)
        if expected is not None and upload.length - before != expected:
            raise RefusalError("SIZE_INVALID", f"{upload.length - before} bytes came instead of {expected}")
        length = upload.length
    await _status(request, repository, name, length, status=202)


async def _expected(request: Request, repository: str, name: str, upload: Upload) -> int | None:
    """How many bytes `Content-Range` announces; raises `RefusalError` when they do not follow on what came."""
    header = request.headers.get("content-range")
    if header is None:
        return None
    found = _RANGE.fullmatch(header)
    first, last = (int(found[1]), int(found[2])) if found else (-1, -1)
    if found is None or last < first:
        raise RefusalError("BLOB_UPLOAD_INVALID", "Content-Range is malformed", status=416)
    if first != upload.length:
        raise RefusalError(
            "BLOB_UPLOAD_INVALID",
            f"the next byte is number {upload.length}, not {first}",
            status=416,
            headers=_place(repository, name, upload.length),
        )
    length = request.length()
    if length is not None and length != last - first + 1:
        raise RefusalError("SIZE_INVALID", f"Content-Range announces {last - first + 1} bytes, the body has {length}")
    return last - first + 1


async def finish(registry: Registry, request: Request, target: Target) -> None:
    """PUT: the last bytes of an upload, if any, and its digest."""
    digest = request.digest("digest")
    if digest is None:
        raise RefusalError("DIGEST_INVALID", "the digest of the blob is not given")
    room = await _room(registry, target.repository, terms(registry, target.repository))
    await _complete(registry, request, target, digest, room)


async def _complete(registry: Registry, request: Request, target: Target, digest: Digest, room: int) -> None:
    repository, name = target.repository, target.last
    at_most = registry.terms_of(repository).bytes_at_most
    with await _opened(registry, repository, name) as upload:
        expected = await _expected(request, repository, name, upload)
        await _absorb(registry, request, upload, room=room, expected=expected)

        def commit() -> None:
            # Nobody prunes the blob between its place in the store and its row in the catalog.
            with leases.hold(registry.home):
                size = upload.commit(digest)
                registry.catalog.add_blob(repository, digest, size, at_most=at_most)

        await registry.run(commit)
    await _created(request, repository, digest)


async def _absorb(registry: Registry, request: Request, upload: Upload, *, room: int, expected: int | None) -> None:
    """Take the body: pieces are gathered while those before them are hashed and written.

    When the client leaves, what came is kept. Raises what `Upload.write` and `Request.body` raise.
    """
    announced = request.length()
    if announced is not None and upload.length + announced > room:
        raise _too_long(upload, room)
    writer = _Writer(registry, upload)
    came = 0
    try:
        async for piece in request.body():
            came += len(piece)
            if expected is not None and came > expected:
                raise RefusalError("SIZE_INVALID", f"more than the {expected} bytes announced came")
            if writer.total + len(piece) > room:
                raise _too_long(upload, room)
            await writer.take(piece)
            del piece  # it is written, or counted among what is gathered
    finally:
        await writer.end()


def _too_long(upload: Upload, room: int) -> RefusalError:
    upload.remove()
    return RefusalError("SIZE_INVALID", f"the blob is over the {room} bytes that there is room for", status=413)


class _Writer:
    """Writes behind the event loop's back: one piece at a time, in their order."""

    def __init__(self, registry: Registry, upload: Upload) -> None:
        self._registry = registry
        self._upload = upload
        self._pieces: list[bytes] = []
        self._writing: asyncio.Future[None] | None = None
        self._syncing: asyncio.Future[None] | None = None
        self._unsynced = 0
        self._held = self._in_writing = 0
        self.size = 0
        """Bytes that are gathered."""
        self.total = upload.length
        """Bytes of the blob as far as they came."""

    async def take(self, piece: bytes) -> None:
        self._pieces.append(piece)
        self.size += len(piece)
        self.total += len(piece)
        self._hold(len(piece))
        crowded = self._registry.gathered >= limits.GATE_GATHERED_BYTES
        if self.size >= limits.GATE_PIECE_BYTES or crowded:
            await self._flush()
        if crowded:
            await self._written()

    def _hold(self, size: int) -> None:
        """So many more bytes are in memory, or fewer."""
        self._held += size
        self._registry.gathered += size

    async def _written(self) -> None:
        """Wait until what was handed over is written."""
        if self._writing is not None:
            await self._writing
            self._hold(-self._in_writing)
            self._in_writing = 0

    async def _flush(self) -> None:
        await self._written()
        pieces, self._pieces = self._pieces, []
        self._unsynced += self.size
        self._in_writing, self.size = self.size, 0
        self._writing = self._registry.begin(self._upload.write, pieces)
        if self._unsynced >= limits.GATE_SYNC_BYTES and (self._syncing is None or self._syncing.done()):
            if self._syncing is not None:
                await self._syncing
            self._unsynced = 0
            self._syncing = self._registry.begin(self._upload.sync)

    async def end(self) -> None:
        """Write what is left, and wait for it. Raises what writing raised."""
        try:
            if self._pieces:
                await self._flush()
            if self._writing is not None:
                await self._writing
        finally:
            self._hold(-self._held)
            if self._syncing is not None:
                await self._syncing


async def _opened(registry: Registry, repository: str, name: str) -> Upload:
    try:
        return await registry.run(registry.uploads.open, repository, name)
    except NotFoundError as error:
        raise RefusalError("BLOB_UPLOAD_UNKNOWN", error.message) from error
    except BusyError as error:
        raise RefusalError(
            "BLOB_UPLOAD_INVALID", "another request goes on with this upload just now", status=409
        ) from error


async def status(registry: Registry, request: Request, target: Target) -> None:
    """GET: how far an upload came."""
    try:
        length = await registry.run(registry.uploads.length, target.repository, target.last)
    except NotFoundError as error:
        raise RefusalError("BLOB_UPLOAD_UNKNOWN", error.message) from error
    await _status(request, target.repository, target.last, length, status=204)


async def cancel(registry: Registry, request: Request, target: Target) -> None:
    """DELETE: forget an upload."""
    try:
        await registry.run(registry.uploads.cancel, target.repository, target.last)
    except NotFoundError as error:
        raise RefusalError("BLOB_UPLOAD_UNKNOWN", error.message) from error
    await request.answer(204)


def _place(repository: str, name: str, length: int) -> dict[str, str]:
    """Where the upload is, and how far."""
    return {
        "Location": f"/v2/{repository}/blobs/uploads/{name}",
        "Range": f"0-{max(0, length - 1)}",
        "Docker-Upload-UUID": name,
    }


async def _status(request: Request, repository: str, name: str, length: int, *, status: int) -> None:
    headers = _place(repository, name, length) | {"Content-Length": "0"}
    headers["OCI-Chunk-Min-Length"] = str(limits.GATE_CHUNK_LEAST_BYTES)
    await request.start(status, headers)
    await request.piece(b"", more=False)


async def _created(request: Request, repository: str, digest: Digest) -> None:
    await request.answer(201, Location=f"/v2/{repository}/blobs/{digest}", Docker_Content_Digest=digest)
