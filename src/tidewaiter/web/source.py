"""The open catalog behind the pages: opened by the first request that needs it, shared by all threads."""

import threading
from typing import Annotated

from fastapi import Depends, Request

from tidewaiter.catalog.catalog import Catalog
from tidewaiter.core.settings import Settings
from tidewaiter.oci.layout import Layout


class Source:
    """Catalog and store of one home."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._catalog: Catalog | None = None

    @property
    def catalog(self) -> Catalog:
        """The catalog; raises `StorageError`, and tries again the next time."""
        with self._lock:
            if self._catalog is None:
                self._catalog = Catalog.open(self._settings)
            return self._catalog

    @property
    def store(self) -> Layout:
        """The store."""
        return Layout(self._settings.home.store)

    def close(self) -> None:
        """Close the catalog, when it was opened."""
        with self._lock:
            if self._catalog is not None:
                self._catalog.close()
                self._catalog = None


def _source(request: Request) -> Source:
    found: Source = request.app.state.source
    return found


TheSource = Annotated[Source, Depends(_source)]
