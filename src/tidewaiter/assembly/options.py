"""What a build can be told beside the project file and the locks."""

import os

import msgspec

from tidewaiter.oci.compression import Compression
from tidewaiter.oci.manifest import LAYER_GZIP, LAYER_ZSTD, Platform

_MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}
AMD64 = Platform(architecture="amd64", os="linux")


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """How an image is built."""

    compression: Compression = "gzip"
    platform: Platform = AMD64
    bytecode: bool | None = None
    """False: without `.pyc` files, recorded in the lock; None: as the lock says."""
    fresh: bool = False
    """Whether every step of a Dockerfile runs, whatever its builder remembers of earlier builds."""

    @property
    def layer_type(self) -> str:
        """Media type of the layers that are made."""
        return LAYER_ZSTD if self.compression == "zstd" else LAYER_GZIP


DEFAULT = Options()


def machine(otherwise: str) -> str:
    """Architecture of this machine, in Go's names; `otherwise` when images are not made for it."""
    return _MACHINES.get(os.uname().machine, otherwise)


def here(wanted: Options) -> Options:
    """`wanted` for the architecture of this machine."""
    architecture = machine(wanted.platform.architecture)
    if architecture == wanted.platform.architecture:
        return wanted
    return msgspec.structs.replace(wanted, platform=Platform(architecture=architecture, os="linux"), bytecode=None)
