"""What an image's own layers are put onto: a Debian base made here, or an image that exists already."""

import msgspec

from tidewaiter.assembly.bytecode import Interpreter
from tidewaiter.assembly.part import Part
from tidewaiter.oci.digest import Digest
from tidewaiter.oci.manifest import Descriptor, Platform, RunConfig


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
    lock_digest: Digest | None = None
    """Of `base.lock`; None for an image that was not made from one."""
