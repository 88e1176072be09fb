"""What an image's own layers are put onto: a Debian base made here, or an image that exists already."""

import msgspec

from tidewaiter.assembly.bytecode import Interpreter
from tidewaiter.assembly.ground import Ground
from tidewaiter.assembly.part import Part
from tidewaiter.oci.digest import Digest
from tidewaiter.oci.image import Image
from tidewaiter.oci.layout import Layout
from tidewaiter.oci.manifest import Descriptor, History, ImageConfig, Manifest, Platform, RootFS, RunConfig

NOT_FOR_PRODUCTION = "dev.tidewaiter.base.production"
"""Annotation, with the value `false`, of a base that is marked so, and of the images on it."""


class Foundation(msgspec.Struct, frozen=True, kw_only=True):
    """The lower layers of an image, with what those above must respect."""

    name: str
    """As `[base] use` names it."""
    image: Descriptor
    """Manifest of the base alone, in the store."""
    parts: tuple[Part, ...]
    platform: Platform
    config: RunConfig
    """How a container of the base starts; what is built onto it inherits what it does not say itself."""
    interpreter: Interpreter | None = None
    """Compiles for the image; None where no Python is known."""
    docker: bool = False
    """Whether the base's manifest is Docker schema 2, so that the image's is one too."""
    base_layers: int = 0
    """How many of `parts` are the layers of `image`; those after them were added for this project."""
    production: bool = True
    """False when the base is marked as not for production."""
    lock_digest: Digest | None = None
    """Of `base.lock`; None for an image that was not made from one."""
    history: tuple[History, ...] = ()
    """Of an image that exists: what its config says of its layers; empty for one that was made here."""
    ground: Ground | None = None
    """What its layers hold, when they were not made here by the one table of directories."""
    images: tuple[tuple[str, Digest], ...] = ()
    """Every image whose files are in it, as it is named and by digest: materials of the build."""
    builder: str = ""
    """Tool and version that made it from a Dockerfile; empty for any other base."""


def stacked(below: Foundation, store: Layout) -> Image:
    """All layers of `below`, those that were put onto the base too, as one image of `store`."""
    diff_ids = [part.info.diff_id for part in below.parts]
    return Image(
        digest=below.image.digest,
        media_type=below.image.media_type,
        size=below.image.size,
        manifest=Manifest(schema_version=2, config=below.image, layers=[part.descriptor for part in below.parts]),
        config=ImageConfig(
            architecture=below.platform.architecture,
            os=below.platform.os,
            rootfs=RootFS(type="layers", diff_ids=diff_ids),
        ),
        source=store,
    )
