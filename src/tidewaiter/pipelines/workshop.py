"""What every step of a workflow works with: the home, its store and catalog, one HTTP client, one progress display.

HTTP client and catalog are opened when they are first used: their libraries take longer to load than many a command
takes to run.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

import msgspec

from tidewaiter.catalog import glance, held
from tidewaiter.core import durable, leases
from tidewaiter.core.progress import Progress
from tidewaiter.core.settings import Settings
from tidewaiter.oci.digest import Digest
from tidewaiter.oci.layout import Layout

if TYPE_CHECKING:
    from tidewaiter.assembly.layer_cache import Key, LayerCache, Vouched
    from tidewaiter.catalog.catalog import Catalog
    from tidewaiter.pipelines.shared_layers import SharedLayers
    from tidewaiter.transport.client import Client


class Workshop:
    """Open for the length of one command, from any of its threads."""

    def __init__(self, settings: Settings, store: Layout, progress: Progress, stack: ExitStack, *, keeps: bool) -> None:
        self.settings = settings
        self.store = store
        self.keeps = keeps
        """Whether what is recorded outlives the command; else the store cannot be written either."""
        self.progress = progress
        self.wrote = False
        """Whether something was recorded without `catalog`."""
        self._stack = stack
        self._lock = Lock()
        self._catalog: Catalog | None = None
        self._lent = False
        self._client: Client | None = None
        self._shared: SharedLayers | None = None

    @property
    def catalog(self) -> "Catalog":
        """What is known of every image. Raises `StorageError`."""
        with self._lock:
            if self._catalog is None:
                from tidewaiter.catalog.catalog import Catalog

                self._catalog = self._stack.enter_context(Catalog.open(self.settings))
            return self._catalog

    def lend(self, catalog: "Catalog") -> None:
        """Work with a catalog that somebody else opened, closes, and keeps the audit log of."""
        with self._lock:
            self._catalog, self._lent = catalog, True

    @property
    def client(self) -> "Client":
        """HTTP."""
        return self.connect()

    def connect(self) -> "Client":
        """HTTP, for whoever may do without."""
        with self._lock:
            if self._client is None:
                from tidewaiter.pipelines import connecting

                self._client = self._stack.enter_context(connecting.client(self.settings))
            return self._client

    @property
    def layers(self) -> "LayerCache":
        """Layers that were made before, by what they are made of."""
        from tidewaiter.assembly.layer_cache import LayerCache

        remote = self._vouched if self.settings.shared_layers else None
        return LayerCache(self.store, self.settings.home.cache / "layers", self.progress, remote=remote)

    def _vouched(self, key: "Key") -> "Vouched | None":
        with self._lock:
            if self._shared is None:
                from tidewaiter.pipelines.shared_layers import SharedLayers

                self._shared = SharedLayers(self)
            shared = self._shared
        return shared(key)

    def settle(self) -> None:
        """Let what was recorded become a part of the audit log, as long as nothing keeps that from being done now."""
        wrote = self.wrote or (self._catalog is not None and not self._lent and self._catalog.database.wrote)
        if wrote and self.keeps and glance.has_unlogged(self.settings.catalog):
            from tidewaiter.catalog.audit import sequencer as audit_sequencer  # loads the libraries that sign

            if why := audit_sequencer.settle(self.settings):
                self.progress.note(f"warning: {why}")

    def resolve_tag(self, repository: str, tag: str) -> Digest | None:
        """Digest that the tag means in the catalog, or None when there is no such tag. Raises `StorageError`."""
        try:
            found = glance.tag(self.settings.catalog, repository, tag)
        except glance.UnansweredError:
            return self.catalog.resolve_tag(repository, tag)
        return None if found is None else found.digest


@contextmanager
def opened(settings: Settings, progress: Progress, *, looking: bool = False) -> Iterator[Workshop]:
    """The workshop of the home in `settings`, which is made when it is missing.

    Args:
        settings: of this command.
        progress: where work reports itself.
        looking: whether the command is of use even when nothing can be written; another home then stands in.

    Raises:
        StorageError: the home cannot be written.
    """
    with ExitStack() as stack:
        keeps = True
        if looking:
            from tidewaiter.pipelines import borrowed

            keeps = borrowed.writable(settings.home)
            if not keeps:
                home = stack.enter_context(borrowed.stand_in(settings.home, progress))
                settings = msgspec.structs.replace(settings, home=home)
        prepared = _prepared(settings, progress, stack, keeps=keeps)
        try:
            yield prepared
        finally:
            prepared.settle()


def _prepared(settings: Settings, progress: Progress, stack: ExitStack, *, keeps: bool) -> Workshop:
    home = settings.home
    try:
        home.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        home.cache.mkdir(exist_ok=True)
    except OSError as error:
        raise durable.storage_error(error, str(home.path)) from error
    durable.remove_abandoned(home.cache / "work")
    store = Layout(home.store)
    if keeps:
        store.create()
    stack.enter_context(leases.hold(home.path))
    if keeps and isinstance(settings.catalog, Path):
        stack.enter_context(held.holding(settings.catalog))
    workshop = Workshop(settings, store, progress, stack, keeps=keeps)
    if not glance.is_current(settings.catalog):
        _ = workshop.catalog  # made, migrated, or refused before any work is done
    return workshop
