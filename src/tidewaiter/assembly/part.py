"""A finished layer with what a reader wants to know of it."""

from typing import Literal

import msgspec

from tidewaiter.oci.layer import LayerInfo

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
