"""The open catalog behind the pages: opened by the first request that needs it, shared by all threads."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

from fastapi import Depends, Request

from tidewaiter.catalog.catalog import Catalog
from tidewaiter.catalog.group_commit import GroupCommit
from tidewaiter.core.progress import SILENT
from tidewaiter.core.settings import Home, Settings
from tidewaiter.oci.layout import Layout
from tidewaiter.pipelines.workshop import Workshop, opened


class Source:
    """Catalog and store of one home."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._catalog: Catalog | None = None
        self._group: GroupCommit | None = None

    @property
    def catalog(self) -> Catalog:
        """The catalog; raises `StorageError`, and tries again the next time."""
        with self._lock:
            if self._catalog is None:
                self._catalog = Catalog.open(self._settings)
            return self._catalog

    @property
    def group(self) -> GroupCommit:
        """Changes that many ask for at once, in few transactions. Raises `StorageError`."""
        catalog = self.catalog
        with self._lock:
            if self._group is None:
                self._group = GroupCommit(catalog.database)
            return self._group

    @property
    def home(self) -> Home:
        """Where it lies."""
        return self._settings.home

    @property
    def settings(self) -> Settings:
        """Of the home."""
        return self._settings

    @contextmanager
    def workshop(self) -> Iterator[Workshop]:
        """What the steps of a pipeline need, for the length of one request. Raises `StorageError`."""
        with opened(self._settings, SILENT) as shop:
            yield shop

    @property
    def store(self) -> Layout:
        """The store."""
        return Layout(self._settings.home.store)

    def close(self) -> None:
        """Close the catalog, when it was opened."""
        with self._lock:
            if self._catalog is not None:
                self._catalog.close()
                self._catalog = self._group = None


def _source(request: Request) -> Source:
    found: Source = request.app.state.source
    return found


TheSource = Annotated[Source, Depends(_source)]
