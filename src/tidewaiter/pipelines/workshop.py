"""What every step of a workflow works with: the home, its store and catalog, one HTTP client, one progress display."""

from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from tidewaiter.assembly.layer_cache import LayerCache
from tidewaiter.catalog.catalog import Catalog
from tidewaiter.core import durable
from tidewaiter.core.progress import Progress
from tidewaiter.core.settings import Settings
from tidewaiter.oci.layout import Layout
from tidewaiter.transport.client import Client
from tidewaiter.transport.tls import Trust


class Workshop(msgspec.Struct, frozen=True):
    """Open for the length of one command."""

    settings: Settings
    store: Layout
    catalog: Catalog
    client: Client
    progress: Progress

    @property
    def layers(self) -> LayerCache:
        """Layers that were made before, by what they are made of."""
        return LayerCache(self.store, self.settings.home.cache / "layers", self.progress)


@contextmanager
def opened(settings: Settings, progress: Progress) -> Iterator[Workshop]:
    """The workshop of the home in `settings`, which is made when it is missing.

    Raises:
        StorageError: the home cannot be written.
    """
    home = settings.home
    try:
        home.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        home.cache.mkdir(exist_ok=True)
    except OSError as error:
        raise durable.storage_error(error, str(home.path)) from error
    durable.remove_abandoned(home.cache / "work")
    store = Layout(home.store)
    store.create()
    trust = Trust(authorities=settings.ca_file, hosts=settings.certificates)
    with Client(trust=trust) as client, Catalog.open(settings) as catalog:
        yield Workshop(settings=settings, store=store, catalog=catalog, client=client, progress=progress)
