"""Fetching a feed by its address into a file that goes away again."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tidewaiter.core import limits
from tidewaiter.core.durable import storage_error
from tidewaiter.core.errors import NotFoundError, UndeterminedError
from tidewaiter.core.progress import SILENT, Progress
from tidewaiter.core.settings import Settings
from tidewaiter.transport import address
from tidewaiter.transport.client import Client


def is_address(text: str) -> bool:
    """Whether `text` is an HTTP address and not a path."""
    return text.startswith(("https://", "http://"))


def shown(url: str) -> str:
    """`url` as it may be shown and stored, without a password."""
    return address.redacted(url)


@contextmanager
def fetched(
    client: Client, settings: Settings, url: str, *, title: str = "advisories", progress: Progress = SILENT
) -> Iterator[Path]:
    """The file at `url`, as long as the block lasts.

    Raises:
        UndeterminedError: it could not be fetched, or is not there.
        LimitError: it is over `limits.FEED_BYTES`.
        StorageError: the disk is full.
    """
    cache = settings.home.cache
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=cache, prefix="feed-") as file:
            try:
                with progress.task(f"Fetching {title}", unit="bytes") as task:
                    client.download(url, file, limit=limits.FEED_BYTES, advance=task.advance)
            except NotFoundError as error:
                raise not_there(url, title) from error
            file.flush()
            yield Path(file.name)
    except OSError as error:
        raise storage_error(error, str(cache)) from error


def not_there(url: str, title: str) -> UndeterminedError:
    """`url` has no feed."""
    return UndeterminedError(
        f"{address.redacted(url)} does not exist: {title} could not be updated",
        next_step="Check the address, or the mirror in TIDEWAITER_OSV_MIRROR; the old data is kept.",
    )
