"""`/healthz`: this process answers. `/readyz`: it can do its work: database, store and disk answer as well.

Whoever restarts processes asks the first, whoever sends them requests the second: no restart mends a full disk.
"""

import os
from collections.abc import Callable
from http import HTTPStatus
from typing import Literal

import msgspec
from fastapi import APIRouter, Response

from tidewaiter.catalog import figures
from tidewaiter.core import durable, limits
from tidewaiter.core.errors import StorageError, TidewaiterError
from tidewaiter.web.source import Source, TheSource

router = APIRouter(include_in_schema=False)

_METHODS = ["GET", "HEAD"]
_PROBLEM = "application/problem+json"


class Part(msgspec.Struct, frozen=True):
    """Whether one thing that the server needs is there."""

    name: str
    status: Literal["ok", "problem"]
    message: str = ""
    next: str = ""


@router.api_route("/healthz", methods=_METHODS)
async def healthz() -> Response:
    """200 and `{"status":"ok"}`, whatever else is wrong. Not in a thread: those may all wait for a disk."""
    return Response(b'{"status":"ok"}', media_type="application/json", headers={"Cache-Control": "no-store"})


@router.api_route("/readyz", methods=_METHODS)
def readyz(source: TheSource) -> Response:
    """200 and the parts, or 503 and a problem document that says which of them is in the way."""
    parts = [_asked(name, ask, source) for name, ask in _PARTS.items()]
    wrong = [part for part in parts if part.status == "problem"]
    document: dict[str, object] = {"status": "ready", "checks": parts}
    if wrong:
        document = {
            "type": "urn:tidewaiter:error:not_ready",
            "title": HTTPStatus.SERVICE_UNAVAILABLE.phrase,
            "status": 503,
            "detail": "; ".join(f"{part.name}: {part.message}" for part in wrong),
            "code": "not_ready",
            "next": wrong[0].next,
            "checks": parts,
        }
    return Response(
        msgspec.json.encode(document),
        status_code=503 if wrong else 200,
        media_type=_PROBLEM if wrong else "application/json",
        headers={"Cache-Control": "no-store"},
    )


def _asked(name: str, ask: Callable[[Source], None], source: Source) -> Part:
    try:
        ask(source)
    except OSError as error:
        found: TidewaiterError = durable.storage_error(error, str(error.filename or name))
    except TidewaiterError as error:
        found = error
    else:
        return Part(name, "ok")
    return Part(name, "problem", found.message, found.next_step)


def _database(source: Source) -> None:
    with source.catalog.database.reading() as connection:
        figures.answers(connection)


def _store(source: Source) -> None:
    """A home in which nothing was built has none yet."""
    if (source.store.path / "index.json").exists():
        source.store.index()


def _disk(source: Source) -> None:
    home = source.home.path
    found = os.statvfs(home)
    if found.f_flag & os.ST_RDONLY:
        raise StorageError(
            f"the disk of {home} is mounted read-only",
            next_step="Look why: a damaged disk turns so; then mount it anew.",
        )
    free = found.f_bavail * found.f_frsize
    if free < limits.READY_FREE_BYTES:
        raise StorageError(
            f"{free} bytes are free on the disk of {home}, less than {limits.READY_FREE_BYTES}",
            next_step="Free space, for example by `tidewaiter cache prune`.",
        )
    if found.f_files and not found.f_favail:
        raise StorageError(
            f"the disk of {home} has no inode left",
            next_step="Remove small files, for example by `tidewaiter cache prune`.",
        )


_PARTS: dict[str, Callable[[Source], None]] = {"database": _database, "store": _store, "disk": _disk}
