"""What every step of a build works with."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from tidewaiter.assembly.foreign import Images
from tidewaiter.assembly.ground import Listings
from tidewaiter.assembly.layer_cache import LayerCache
from tidewaiter.core.progress import Progress
from tidewaiter.core.settings import Settings

if TYPE_CHECKING:
    from tidewaiter.transport.client import Client


class Bench(msgspec.Struct, frozen=True, kw_only=True):
    """The tools of one build: layers made before, settings, the way to the network, images, and the display."""

    layers: LayerCache
    settings: Settings
    connect: "Callable[[], Client]"
    """Gives the HTTP client; asked for when something may have to be fetched."""
    images: Images
    progress: Progress

    @property
    def client(self) -> "Client":
        """HTTP."""
        return self.connect()

    @property
    def listings(self) -> Listings:
        """What layers hold, remembered."""
        return listings(self.settings)


def listings(settings: Settings) -> Listings:
    """Where listings of layers are kept."""
    return Listings(settings.home.cache / "layer-listings")
