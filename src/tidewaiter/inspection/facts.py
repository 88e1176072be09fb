"""What inspection finds out about an image, computed from its bytes and from nothing else."""

from typing import Literal

import msgspec

from tidewaiter.oci.digest import Digest, of
from tidewaiter.sbom.component import Component

ProgramKind = Literal["shell", "package_manager", "ssh_server", "jupyter", "compiler"]


class OperatingSystem(msgspec.Struct, frozen=True, omit_defaults=True):
    """`/etc/os-release`, as far as it matters."""

    id: str
    version: str = ""
    name: str = ""


class Program(msgspec.Struct, frozen=True):
    """A file that policy cares about: its path, what it is, and the diff ID of its layer."""

    path: str
    kind: ProgramKind
    layer: str


class LayerSummary(msgspec.Struct, frozen=True):
    """A layer as it counts in the image: compressed and unpacked bytes, regular files."""

    digest: str
    diff_id: str
    size: int
    unpacked_size: int
    files: int
    created_by: str = ""


class ImageFacts(msgspec.Struct, frozen=True, kw_only=True):
    """Facts of one image. `reference` is how the user named it, without the transport."""

    reference: str
    digest: Digest
    os: str
    architecture: str
    user: str
    """`config.User` as written."""
    runs_as_root: bool
    """True when the user is absent, 0 or root, or cannot be resolved to a number other than 0."""
    entrypoint: tuple[str, ...]
    cmd: tuple[str, ...]
    env: dict[str, str]
    """Secret-looking values are masked."""
    labels: dict[str, str]
    annotations: dict[str, str]
    exposed_ports: tuple[str, ...]
    working_dir: str
    created: str
    operating_system: OperatingSystem | None
    components: tuple[Component, ...]
    programs: tuple[Program, ...]
    layers: tuple[LayerSummary, ...]
    size: int
    """Compressed bytes of all layers."""
    unpacked_size: int
    unread: tuple[str, ...] = ()
    """`PATH: reason` of metadata that could not be read whole: components may be missing from these facts."""

    @property
    def component_set(self) -> Digest:
        """Name of the set of package versions, shared by all images that hold the same."""
        return of("\n".join(sorted({component.purl for component in self.components})).encode())
