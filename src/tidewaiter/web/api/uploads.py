"""A body that is a file: written to the disk as it arrives, bounded, and gone when nobody wants it any more."""

import hashlib
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from starlette.concurrency import run_in_threadpool
from starlette.types import Receive, Scope

from tidewaiter.core import durable
from tidewaiter.core.settings import Home
from tidewaiter.web import problems
from tidewaiter.web.api import asking
from tidewaiter.web.problems import HttpError

OCTETS = "application/octet-stream"


class Upload:
    """A file that was sent."""

    def __init__(self, path: Path, sha256: str) -> None:
        self.path = path
        self.sha256 = sha256
        self.kept = False
        """Whether somebody removes it later; else it goes with the request."""

    def remove(self) -> None:
        """Let it go; a second time is no harm."""
        self.path.unlink(missing_ok=True)


@asynccontextmanager
async def received(scope: Scope, receive: Receive, home: Home, limit: int) -> AsyncIterator[Upload]:
    """The body as a file.

    Raises:
        HttpError: it is longer than `limit`, empty, of another media type (415), or the connection ended.
        StorageError: the disk is full.
    """
    given = dict(scope["headers"]).get(b"content-type", b"").decode("latin-1")
    if given.partition(";")[0].strip().lower() != OCTETS:
        raise HttpError(
            415,
            f"the body is {given[:100] or 'of no media type'}",
            next_step=f"Send the file as it is, with the header `Content-Type: {OCTETS}`.",
            code="bad_input",
            headers={"Accept": OCTETS},
        )
    path = home.cache / "work" / f"upload-{secrets.token_hex(8)}"
    seen, size = hashlib.sha256(), 0
    found: Upload | None = None
    try:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("xb") as file:
                async for part in asking.parts(scope, receive, limit):
                    seen.update(part)
                    size += len(part)
                    await run_in_threadpool(file.write, part)
        except OSError as error:
            raise durable.storage_error(error, str(path.parent)) from error
        if not size:
            raise problems.malformed("the body is empty", "Send the file.")
        found = Upload(path, seen.hexdigest())
        yield found
    finally:
        if found is None or not found.kept:
            path.unlink(missing_ok=True)
