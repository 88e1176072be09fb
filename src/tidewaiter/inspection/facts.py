"""What inspection finds out about an image, computed from its bytes and from nothing else."""

from typing import Literal

import msgspec

from tidewaiter.oci.digest import Digest, of
from tidewaiter.sbom.component import Component

WasteKind = Literal["replaced", "deleted", "package_cache", "tests", "duplicate_library"]
ProgramKind = Literal["shell", "package_manager", "ssh_server", "jupyter", "compiler", "debugger"]


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


class Exposed(msgspec.Struct, frozen=True, omit_defaults=True):
    """Something that helps an attacker: a file with too many rights, or a secret.

    Of a secret only the rule that knew it and the line are told.
    """

    path: str
    kind: Literal["set_uid", "set_gid", "world_writable", "secret"]
    layer: str
    rule: str = ""
    line: int = 0


class Framework(msgspec.Struct, frozen=True, omit_defaults=True):
    """A framework or one of its libraries, as one file shows it."""

    name: str
    """`tensorflow`, `tensorflow-serving`, `cuda`, `cudnn`, `tensorrt`, `nccl` or `python`."""
    path: str
    layer: str
    version: str = ""
    """As far as the file says; of a library, what its name says."""
    details: dict[str, str] = {}
    """TensorFlow's build information: `cuda_version`, `cudnn_version`, `cuda_compute_capabilities`, `is_cuda_build`."""


class Model(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A model in the image."""

    format: Literal["saved_model", "tflite"]
    name: str
    path: str
    layer: str
    version: str = ""
    tags: tuple[str, ...] = ()
    signatures: tuple[str, ...] = ()
    tensorflow: str = ""
    """Version of TensorFlow that saved it."""
    problem: str = ""
    """Why the file could not be read, if so."""


class FrameworkRecord(msgspec.Struct, frozen=True):
    """Which versions an image combines; empty where it has none, or where it does not say."""

    tensorflow: str
    python: str
    cuda: str
    cudnn: str
    built_for_cuda: str
    """What TensorFlow was built for, by its own build information."""
    built_for_cudnn: str
    compute_capabilities: tuple[str, ...]
    serving: str = ""
    """Version of TensorFlow Serving's model server."""
    least_driver: str = ""
    """Oldest Linux driver that the CUDA in the image runs on; empty when there is no CUDA, or one that is not known."""
    toolkit_driver: str = ""
    """Linux driver from which on also code works that the driver has to compile, for GPUs newer than the image."""
    tested: Literal["yes", "no", "unknown"] = "unknown"
    """Whether the TensorFlow project tested this combination."""
    tested_reason: str = ""
    nearest_tested: str = ""
    """The nearest tested combination in words; empty when there is no TensorFlow."""
    conflicts: tuple[str, ...] = ()
    """Why TensorFlow cannot use the CUDA or cuDNN that is there."""


class WasteExample(msgspec.Struct, frozen=True):
    """A wasted file and its bytes."""

    path: str
    size: int


class Waste(msgspec.Struct, frozen=True):
    """Bytes of an image that nobody needs.

    `replaced` and `deleted`: files of a layer that a later one replaces or deletes; they are fetched all the same.
    `package_cache`, `tests` (inside packages) and `duplicate_library` (another one of the same name, at least as large,
    lies in another folder): files that a container sees. A file counts once, but for a duplicate inside tests.
    """

    kind: WasteKind
    size: int
    files: int
    examples: tuple[WasteExample, ...]
    """The largest."""


class LayerSummary(msgspec.Struct, frozen=True):
    """A layer as it counts in the image: compressed and unpacked bytes, regular files."""

    digest: str
    diff_id: str
    size: int
    unpacked_size: int
    files: int
    created_by: str = ""
    hidden_size: int = 0
    """Bytes of files that later layers replace or delete."""


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
    """Secret-looking values are masked, here and in all that the config and the manifest say in words."""
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
    exposed: tuple[Exposed, ...] = ()
    frameworks: tuple[Framework, ...] = ()
    framework: FrameworkRecord | None = None
    """None when the image has none of them."""
    models: tuple[Model, ...] = ()
    unread: tuple[str, ...] = ()
    """`PATH: reason` of metadata that could not be read whole: components may be missing from these facts."""
    visible_size: int = 0
    """Bytes of the regular files that a container sees."""
    unowned_size: int = 0
    """Those of them that belong to no package."""
    wasted: tuple[Waste, ...] = ()
    """Most bytes first."""
    volumes: tuple[str, ...] = ()

    @property
    def component_set(self) -> Digest:
        """Name of the set of package versions, shared by all images that hold the same."""
        return of("\n".join(sorted({component.purl for component in self.components})).encode())
