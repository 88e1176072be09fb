"""What a build can be told beside the project file and the locks."""

from typing import Literal

import msgspec

from tidewaiter.oci.manifest import LAYER_GZIP, LAYER_ZSTD, Platform

Compression = Literal["gzip", "zstd"]

AMD64 = Platform(architecture="amd64", os="linux")


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """How an image is built."""

    compression: Compression = "gzip"
    platform: Platform = AMD64
    bytecode: bool | None = None
    """False: without `.pyc` files, recorded in the lock; None: as the lock says."""

    @property
    def layer_type(self) -> str:
        """Media type of the layers that are made."""
        return LAYER_ZSTD if self.compression == "zstd" else LAYER_GZIP


DEFAULT = Options()
