"""Manifests that were pulled just now, for as long as the catalog says the same."""

from collections import OrderedDict
from threading import Lock
from typing import NamedTuple

from tidewaiter.catalog.gate_reading import Shown
from tidewaiter.catalog.versions import Version
from tidewaiter.core import limits


class Pulled(NamedTuple):
    """A visible manifest and its bytes."""

    shown: Shown
    data: bytes


class Recent:
    """The manifests that were pulled last, all of which are forgotten when anything in the catalog changes.

    Where its version is None, which means that it cannot be told, nothing is remembered. Safe from any thread.
    """

    def __init__(self) -> None:
        self._version: Version | None = None
        self._found: OrderedDict[tuple[str, str], Pulled] = OrderedDict()
        self._bytes = 0
        self._lock = Lock()

    def get(self, repository: str, reference: str, version: Version | None) -> Pulled | None:
        """What is visible under a tag or digest, if that is remembered, now that the catalog has this version."""
        if version is None:
            return None
        with self._lock:
            return self._found.get((repository, reference)) if version == self._version else None

    def put(self, repository: str, reference: str, version: Version | None, found: Pulled) -> None:
        """Remember what was found after the catalog had this version."""
        if version is None or len(found.data) > limits.GATE_RECENT_BYTES // 16:
            return
        with self._lock:
            if version != self._version:
                self._found.clear()
                self._bytes, self._version = 0, version
            before = self._found.pop((repository, reference), None)
            self._found[repository, reference] = found
            self._bytes += len(found.data) - (len(before.data) if before else 0)
            while self._bytes > limits.GATE_RECENT_BYTES or len(self._found) > limits.GATE_RECENT:
                _, gone = self._found.popitem(last=False)
                self._bytes -= len(gone.data)
