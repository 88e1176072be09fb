"""A finished layer with what a reader wants to know of it."""

from typing import Literal

import msgspec

from tidewaiter.oci.layer import LayerInfo
from tidewaiter.oci.manifest import LAYER_GZIP, Descriptor

PartKind = Literal["base", "python", "app", "model"]


class Part(msgspec.Struct, frozen=True):
    """One layer of an image under assembly."""

    info: LayerInfo
    kind: PartKind
    title: str
    """What made it, for the image's history."""
    contents: tuple[str, ...]
    """What is in it, for example `numpy 2.1.0`."""
    reused: bool
    """Whether it was there before this build."""
    media_type: str = LAYER_GZIP

    @property
    def descriptor(self) -> Descriptor:
        """How a manifest names the layer."""
        return Descriptor(media_type=self.media_type, digest=self.info.digest, size=self.info.size)
