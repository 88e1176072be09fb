"""Whether anything in the catalog changed since a moment ago, for those who answer the same over and over."""

import sqlite3
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from tidewaiter.core.settings import DatabaseUrl

if TYPE_CHECKING:
    from tidewaiter.catalog.postgres_plain import AnyConnection

Version = int | str
"""Another one as soon as anything was committed."""

# What a snapshot sees is what was committed, so two that are equal see the same. A server that took the place of
# another may have lost the last transactions, and counts them again.
_SNAPSHOT = b"SELECT pg_postmaster_start_time()::text || ' ' || pg_current_snapshot()::text"


class Versions:
    """Of the catalog at `place`. Safe from any thread."""

    def __init__(self, place: Path | DatabaseUrl) -> None:
        self._place: Path | DatabaseUrl | None = place
        self._file: sqlite3.Connection | None = None
        self._server: AnyConnection | None = None
        self._lock = threading.Lock()

    @property
    def immediate(self) -> bool:
        """Whether `now` takes a few microseconds and never waits, so that an event loop may ask."""
        return isinstance(self._place, Path)

    def now(self) -> Version | None:
        """The version; None when that cannot be told.

        A transaction that is committed is seen here before its writer goes on.
        """
        if not self._lock.acquire(blocking=not self.immediate):
            return None
        try:
            if isinstance(self._place, Path):
                return self._of_file(self._place)
            return None if self._place is None else self._of_server(self._place)
        finally:
            self._lock.release()

    def _of_file(self, place: Path) -> int | None:
        try:
            if self._file is None:
                self._file = sqlite3.connect(
                    f"{place.absolute().as_uri()}?mode=rw",
                    uri=True,
                    timeout=0,
                    isolation_level=None,
                    check_same_thread=False,
                )
            return int(self._file.execute("PRAGMA data_version").fetchone()[0])
        except sqlite3.Error:
            return None

    def _of_server(self, place: DatabaseUrl) -> str | None:
        from tidewaiter.catalog import postgres

        try:
            if self._server is None:
                self._server = postgres.connect(place, autocommit=True)
            found = self._server.execute(_SNAPSHOT).fetchone()
            return None if found is None else str(found[0])
        except postgres.REFUSALS:
            self._leave()  # a connection that was lost is made anew
            return None

    def _leave(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    def close(self) -> None:
        """Close the file, or the connection; it cannot be told any more."""
        with self._lock:
            if self._file is not None:
                self._file.close()
            self._leave()
            self._file = self._place = None
