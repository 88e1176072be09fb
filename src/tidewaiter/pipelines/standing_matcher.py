"""Matching that remembers what it worked out about a package from one image to the next.

A thread of its own does it: neither the advisories' file nor the matcher may be used by two.
"""

from collections.abc import Sequence
from pathlib import Path

from tidewaiter.advisories.database import Database
from tidewaiter.advisories.finding import ScanResult
from tidewaiter.advisories.matcher import Matcher, subject
from tidewaiter.core import limits
from tidewaiter.gate.threads import Threads
from tidewaiter.sbom.component import Component


class StandingMatcher:
    """Matches with the advisories in the file at `path`. Safe from any thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread = Threads(1, "matching")
        self._database: Database | None = None
        self._matcher: Matcher | None = None
        self._file: tuple[int, int] | None = None
        self._known: set[tuple[str, str]] = set()

    def match(self, components: Sequence[Component]) -> ScanResult:
        """As `Matcher.match`. Raises `UndeterminedError` once it was closed."""
        return self._thread.submit(self._match, components).result()

    def close(self) -> None:
        """Match nothing more."""
        self._thread.close(limits.GATE_STOP_SECONDS)

    def _match(self, components: Sequence[Component]) -> ScanResult:
        now = _file(self._path)
        if self._matcher is None or now is None or now != self._file or len(self._known) > limits.GATE_PACKAGES:
            self._forget()
            self._database = Database(self._path)
            self._matcher = Matcher(self._database)
            self._file = _file(self._path)
        try:
            found = self._matcher.match(components)
        except BaseException:
            self._forget()
            raise
        self._known.update(subject(one)[:2] for one in components)
        return found

    def _forget(self) -> None:
        self._matcher = None
        self._known.clear()
        if self._database is not None:
            self._database.close()
            self._database = None


def _file(path: Path) -> tuple[int, int] | None:
    """Which file lies there: another one may have been put in its place."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
